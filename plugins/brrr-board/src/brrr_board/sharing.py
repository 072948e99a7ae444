"""Expensive readings, which all visitors share for a while."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Shared"]

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

LEAST: Final = 1.0
"""The least seconds between two readings of one value."""

SHARE: Final = 10
"""A value is kept for this many times as long as reading it took, so that reading takes a tenth of the time."""

AT_ONCE: Final = 4
"""Readings at the same time."""

KEPT: Final = 64
"""The most values that are kept."""


class _Kept(Generic[ValueT]):
    def __init__(self) -> None:
        self.reading = asyncio.Lock()
        self.values: list[ValueT] = []  # none or one
        self.until = 0.0


class Shared(Generic[KeyT, ValueT]):
    """Values by key, each read again if it is too old.

    Args:
        read: Reads a value.
    """

    def __init__(self, read: Callable[[KeyT], Awaitable[ValueT]]) -> None:
        self._read = read
        self._kept: OrderedDict[KeyT, _Kept[ValueT]] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def get(self, key: KeyT) -> ValueT:
        """Return a value, which may be some seconds old. It raises what reading raises."""
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        loop = asyncio.get_running_loop()
        async with kept.reading:  # held over the reading, so that all visitors share it
            if not kept.values or loop.time() >= kept.until:
                async with self._slots:
                    begin = loop.time()
                    kept.values = [await self._read(key)]
                kept.until = loop.time() + max(LEAST, (loop.time() - begin) * SHARE)
            return kept.values[0]

    def forget(self) -> None:
        """Forget all values, because something has changed. Readings that run now are not kept."""
        self._kept.clear()
