"""What a worker remembers between runs: values, and what the last run of a call asked for. Bounded, and never needed.

Losing any of it costs a read or a run, never a result.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from brrr_core.engine.calls import Child
from brrr_core.wire import Call

__all__ = ["PREFETCH_LIMIT", "RECHECK_LIMIT", "PreviousRun", "RunHistory", "ValueCache"]

ENTRY_OVERHEAD: Final = 400
"""Bytes that an entry costs beside its value: a hash of 64 characters, two objects and a dictionary slot."""

PREFETCH_LIMIT: Final = 1_000
"""The most values that a re-run reads ahead: one batch."""

RECHECK_LIMIT: Final = 128
"""The most missing children of a last run that are remembered, those asked for last."""

RUN_HISTORY_LIMIT: Final = 50_000
"""The most call hashes that the history of one worker holds."""


class ValueCache:
    """The values that were read or made last. They never change, so they are never stale (invariant I3).

    Args:
        limit: The most bytes that it holds, overhead included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, call_hash: str) -> bytes | None:
        """The value of the call, if it is remembered."""
        value = self._values.get(call_hash)
        if value is not None:
            self._values.move_to_end(call_hash)
        return value

    def add(self, call_hash: str, value: bytes) -> None:
        """Remember a value that is in the store."""
        if call_hash in self._values:
            return
        self._values[call_hash] = value
        self._size += len(value) + ENTRY_OVERHEAD
        while self._size > self._limit:
            _, dropped = self._values.popitem(last=False)
            self._size -= len(dropped) + ENTRY_OVERHEAD


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What the last run of a call did before it deferred.

    Attributes:
        reads: The call hashes whose values it had or missed, in the order it asked; at most PREFETCH_LIMIT.
        missing: The children that it missed; the RECHECK_LIMIT that it asked for last.
        asked: All calls that it asked for, in order; only where determinism is checked.
        waits: How many times since then the record of a missing child had no room for this call.
        failed: How many failed attempts are counted for a call that waits so, and whose message was put anew.
    """

    reads: tuple[str, ...]
    missing: tuple[Child, ...]
    asked: tuple[Call, ...] = ()
    waits: int = 0
    failed: int = 0


class RunHistory:
    """The last runs of the calls that this worker deferred, by (root id, call hash), the oldest forgotten first."""

    def __init__(self, limit: int = RUN_HISTORY_LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._runs: OrderedDict[tuple[str, str], PreviousRun] = OrderedDict()

    def take(self, root_id: str, call_hash: str) -> PreviousRun | None:
        """The last run of the call under this root, which is forgotten with this."""
        previous = self._runs.pop((root_id, call_hash), None)
        if previous is not None:
            self._size -= _weight(previous)
        return previous

    def add(self, root_id: str, call_hash: str, previous: PreviousRun) -> None:
        """Remember a run that deferred."""
        self.take(root_id, call_hash)
        self._runs[root_id, call_hash] = previous
        self._size += _weight(previous)
        while self._size > self._limit:
            _, dropped = self._runs.popitem(last=False)
            self._size -= _weight(dropped)


def _weight(previous: PreviousRun) -> int:
    return 1 + len(previous.reads) + len(previous.missing) + len(previous.asked)
