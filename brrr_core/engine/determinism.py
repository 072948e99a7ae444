"""Check that handlers are deterministic: a re-run must make the calls of the run before it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from brrr_core.errors import NondeterminismError
from brrr_core.wire import Call

__all__ = ["compare", "merge"]

SHOWN: Final = 200
"""The most bytes of a payload in an error message."""


def compare(call: Call, before: Sequence[Call], now: Sequence[Call]) -> None:
    """Check that the re-run made every call of the run before.

    The order may differ, because concurrent parts of a handler may get their values in another order.

    Raises:
        NondeterminismError: Shows the first call that was not made again, and the call that was made in its place.
    """
    again = Counter(made.call_hash for made in now)
    for index, made in enumerate(before):
        if again[made.call_hash] == 0:
            instead = _show(now[index]) if index < len(now) else "nothing"
            raise NondeterminismError(
                f"the handler {call.task_name!r} called {_show(made)} as its call {index + 1}, and when it was run "
                f"again {instead} in its place",
                remedy="Read time, randomness and outside state in calls of their own: their values are stored.",
            )
        again[made.call_hash] -= 1


def merge(before: Sequence[Call], now: Sequence[Call]) -> list[Call]:
    """Return the calls of an aborted run, followed by the calls that only the runs before it made.

    The first run that is not aborted must make them all.
    """
    again = Counter(made.call_hash for made in now)
    merged = list(now)
    for made in before:
        if again[made.call_hash] == 0:
            merged.append(made)
        else:
            again[made.call_hash] -= 1
    return merged


def _show(call: Call) -> str:
    payload = call.payload if len(call.payload) <= SHOWN else call.payload[:SHOWN] + b"..."
    return f"{call.task_name} with {payload!r}"
