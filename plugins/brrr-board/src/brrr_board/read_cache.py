"""A cache of values that are expensive to read. All visitors share it."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["ReadCache"]

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

MIN_AGE_SECONDS: Final = 1.0
"""The shortest time in seconds for which a value is used."""

AGE_FACTOR: Final = 10
"""A value is used for this many times as long as it took to read it, so reading takes at most a tenth of the time."""

CONCURRENT_READS: Final = 4
"""The most values that are read concurrently."""

MAX_VALUES: Final = 64
"""The most values in the cache. The one that was unused for the longest time is dropped first."""


class _Entry(Generic[ValueT]):
    def __init__(self) -> None:
        self.reading = asyncio.Lock()
        self.values: list[ValueT] = []  # none or one
        self.until = 0.0


class ReadCache(Generic[KeyT, ValueT]):
    """A cache that reads a value again if it is too old.

    Args:
        read: Reads a value.
    """

    def __init__(self, read: Callable[[KeyT], Awaitable[ValueT]]) -> None:
        self._read = read
        self._entries: OrderedDict[KeyT, _Entry[ValueT]] = OrderedDict()
        self._slots = asyncio.Semaphore(CONCURRENT_READS)

    async def get(self, key: KeyT) -> ValueT:
        """Return a value, which may be some seconds old. Raises the errors of `read`."""
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_VALUES:
            self._entries.popitem(last=False)
        loop = asyncio.get_running_loop()
        async with entry.reading:  # held while the value is read, so that concurrent visitors share one read
            if not entry.values or loop.time() >= entry.until:
                async with self._slots:
                    begin = loop.time()
                    entry.values = [await self._read(key)]
                entry.until = loop.time() + max(MIN_AGE_SECONDS, (loop.time() - begin) * AGE_FACTOR)
            return entry.values[0]

    def forget(self) -> None:
        """Drop all values, because something has changed. The values that are being read now are not cached."""
        self._entries.clear()
