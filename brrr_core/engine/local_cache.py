"""The bounded memory of a worker: values, and the reads of the last run of each deferred call.

It only saves work. If an entry is dropped, the worker repeats a read or a run.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from brrr_core.engine.calls import Child
from brrr_core.wire import FAILURE_PREFIX, Call

__all__ = ["PREFETCH_LIMIT", "RECHECK_LIMIT", "PreviousRun", "RunHistory", "ValueCache"]

ENTRY_OVERHEAD: Final = 400
"""Bytes of an entry in addition to its value: a hash of 64 characters, two objects and a dictionary slot."""

PREFETCH_LIMIT: Final = 1_000
"""The most values that a re-run reads in advance: one batch."""

RECHECK_LIMIT: Final = 128
"""The most missing children of a run that are kept: those that it called last."""

RUN_HISTORY_LIMIT: Final = 50_000
"""The most call hashes in the run history of one worker."""


class ValueCache:
    """The values that were read or written last. Values never change, so they are never stale (invariant I3).

    If calls are forgotten, all are dropped.

    Args:
        limit: The most bytes that it holds, including overhead.
        max_age: The most seconds that it holds a value; None for no limit. Then the next run reads the value from the
            store again, which keeps it from expiring there.
        clock: Returns the time, in unix seconds.
    """

    def __init__(self, limit: int, *, max_age: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._max_age = max_age
        self._clock = clock
        self._cleared_at = clock()
        self._size = 0
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, call_hash: str) -> bytes | None:
        """Return the value of the call, if the cache has it."""
        if self._max_age is not None:
            self._clear_old(self._max_age)
        value = self._values.get(call_hash)
        if value is not None:
            self._values.move_to_end(call_hash)
        return value

    def add(self, call_hash: str, value: bytes) -> None:
        """Add a value that is in the store. Failures are not kept: a worker of another SDK may replace one."""
        if call_hash in self._values or value.startswith(FAILURE_PREFIX):
            return
        if self._max_age is not None:
            self._clear_old(self._max_age)
        self._values[call_hash] = value
        self._size += len(value) + ENTRY_OVERHEAD
        while self._size > self._limit:
            _, dropped = self._values.popitem(last=False)
            self._size -= len(dropped) + ENTRY_OVERHEAD

    def clear(self) -> None:
        """Drop all values."""
        self._size = 0
        self._values.clear()

    def _clear_old(self, max_age: float) -> None:
        """Drop all values every `max_age` seconds, so that no value is older."""
        now = self._clock()
        if not 0 <= now - self._cleared_at < max_age:
            self._cleared_at = now
            self.clear()


class PreviousRun(NamedTuple):
    """The previous run of a call: the values that it read or missed before it deferred.

    Attributes:
        reads: The call hashes whose values it read, in order, found or not; at most PREFETCH_LIMIT.
        missing: The children without a value; the last RECHECK_LIMIT of them.
        asked: All calls that it made, in order; only if determinism is checked.
        attempt: The number of its attempt.
        timed: Whether it made waits that end at a time.
        waits: How many times since then the record of a missing child was full.
        failed: The failed attempts of a call whose message was put again.
    """

    reads: tuple[str, ...]
    missing: tuple[Child, ...]
    asked: tuple[Call, ...] = ()
    attempt: int = 1
    timed: bool = False
    waits: int = 0
    failed: int = 0

    def misses(self, children: Sequence[Child]) -> bool:
        """Whether it missed one of these children."""
        missing = {child.key for child in self.missing}
        return any(child.key in missing for child in children)


class RunHistory:
    """The previous runs of deferred calls, by root id and call hash. The oldest are dropped first."""

    def __init__(self, limit: int = RUN_HISTORY_LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._runs: OrderedDict[tuple[str, str], PreviousRun] = OrderedDict()

    def take(self, root_id: str, call_hash: str) -> PreviousRun | None:
        """Remove and return the previous run of the call under this root."""
        previous = self._runs.pop((root_id, call_hash), None)
        if previous is not None:
            self._size -= _weight(previous)
        return previous

    def add(self, root_id: str, call_hash: str, previous: PreviousRun) -> None:
        """Add a run that deferred."""
        self.take(root_id, call_hash)
        self._runs[root_id, call_hash] = previous
        self._size += _weight(previous)
        while self._size > self._limit:
            _, dropped = self._runs.popitem(last=False)
            self._size -= _weight(dropped)


def _weight(previous: PreviousRun) -> int:
    return 1 + len(previous.reads) + len(previous.missing) + len(previous.asked)
