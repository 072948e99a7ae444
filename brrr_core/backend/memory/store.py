"""The store and the cache of the memory backend: two dicts."""

from collections.abc import Mapping, Sequence

from brrr_core.backend.checks import check_values
from brrr_core.backend.contracts import Cache, Key, Store, Swap
from brrr_core.backend.memory.space import MAX_BYTES, Session

__all__ = ["MemoryCache", "MemoryStore"]


class MemoryStore(Store):
    """Records in a dict."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = session.space.lock
        self._records = session.space.records

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look up the records."""
        self._session.check()
        with self._lock:
            return [self._records.get(key) for key in keys]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set the records."""
        self._session.check()
        check_values((value for _, value in items), MAX_BYTES)
        with self._lock:
            self._records.update(items)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and swap, one swap after the other."""
        self._session.check()
        check_values((swap.new for swap in swaps), MAX_BYTES)
        with self._lock:
            return [self._swap(*swap) for swap in swaps]

    def _swap(self, key: Key, expected: bytes | None, new: bytes | None) -> bool:
        if self._records.get(key) != expected:
            return False
        if new is not None:
            self._records[key] = new
        elif expected is not None:
            del self._records[key]
        return True


class MemoryCache(Cache):
    """Counters in a dict."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = session.space.lock
        self._counters = session.space.counters

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to all counters in one step."""
        self._session.check()
        counters = self._counters
        with self._lock:
            after = {name: counters.get(name, 0) + amount for name, amount in amounts.items()}
            counters.update((name, after[name]) for name, amount in amounts.items() if amount)
        return after
