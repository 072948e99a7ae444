"""The check for determinism: a handler that runs again must make the same calls."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from brrr_core.errors import NondeterminismError
from brrr_core.wire import Call

__all__ = ["compare", "merge", "refuse_root_id"]

T = TypeVar("T")

SHOWN: Final = 200
"""The most bytes of a payload in an error message."""

LEAST_ROOT_ID: Final = 16
"""The least length of a root id that is looked for among arguments. Those of brrr have 22 characters or more."""

_NUMBERS: Final = re.compile(rb"([0-9]+)")


def refuse_root_id(call: Call, root_id: str, made: Sequence[Call], read: Iterable[bytes | None]) -> None:
    """Refuse the root id of a run among the arguments of its calls. Runs of other schedules would make other calls.

    Args:
        call: The call that runs.
        root_id: Its root id.
        made: The calls that the run made.
        read: The values that it read. If the root id came from one of them or from an argument, it is the same in
            every run.

    Raises:
        NondeterminismError: Shows the call.
    """
    needle = root_id.encode()
    found = next((each for each in made if needle in each.payload), None)
    if found is None or len(needle) < LEAST_ROOT_ID or any(needle in (each or b"") for each in (call.payload, *read)):
        return
    raise NondeterminismError(
        f"the handler {call.task_name!r} passed `app.root_id`, which differs between schedules, as an argument: it "
        f"called {_show(found)}",
        remedy="Use `root_id` only for logs; the called task also has `app.root_id`. For a key that is the same in "
        "every run, pass `app.call_hash`.",
    )


def compare(call: Call, before: Sequence[Call], now: Sequence[Call], attempts: tuple[int, int]) -> None:
    """Check that the re-run made every call of the run before.

    The order may differ, because concurrent parts of a handler may get their values in another order.

    Raises:
        NondeterminismError: Shows the first call that was not made again, and the call that was made instead.
    """
    again = Counter(made.call_hash for made in now)
    for index, made in enumerate(before):
        if again[made.call_hash] == 0:
            instead = now[index] if index < len(now) else None
            what = (
                f"the handler {call.task_name!r} called {_show(made)} as its call {index + 1}, but "
                f"{'nothing' if instead is None else _show(instead)} when it ran again"
            )
            if instead is not None and _differ_by(made.payload, instead.payload, attempts):
                what += f": the arguments differ as `app.attempt` does, which was {attempts[0]} and then {attempts[1]}"
                raise NondeterminismError(what, remedy="Use `attempt` only for logs, and do not pass it to calls.")
            raise NondeterminismError(
                what, remedy="Read the time, randomness and outside state in separate calls: their values are stored."
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


def _differ_by(before: bytes, now: bytes, numbers: tuple[int, int]) -> bool:
    """Whether two payloads differ only in places with the first number in one and the second number in the other.

    Numbers are text, or the bytes of msgpack.
    """
    texts = [_NUMBERS.split(payload) for payload in (before, now)]
    if set(_differences(*texts)) == {tuple(b"%d" % number for number in numbers)}:
        return True
    return set(_differences(before, now)) == {numbers}


def _differences(before: Sequence[T], now: Sequence[T]) -> list[tuple[T, T]]:
    return [pair for pair in zip(before, now, strict=False) if pair[0] != pair[1]] if len(before) == len(now) else []


def _show(call: Call) -> str:
    payload = call.payload if len(call.payload) <= SHOWN else call.payload[:SHOWN] + b"..."
    return f"{call.task_name} with {payload!r}"
