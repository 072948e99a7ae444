"""The store, its notifier and the cache of the memory backend: two dicts, and the clients that wait for values."""

from collections.abc import Mapping, Sequence

from brrr_core.backend.checks import check_amounts, check_items, check_keys, check_swaps
from brrr_core.backend.contracts import Cache, Key, Notifier, Store, Swap
from brrr_core.backend.memory.space import MAX_BYTES, Session
from brrr_core.backend.watches import Wake, Watches, is_awaited

__all__ = ["MemoryCache", "MemoryNotifier", "MemoryStore"]


class MemoryStore(Store):
    """Records in a dict."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = session.space.lock
        self._records = session.space.records
        self._space = session.space
        self.notifier = self._notifier = MemoryNotifier(session)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look up the records."""
        self._session.check()
        check_keys(keys)
        with self._lock:
            return [self._records.get(key) for key in keys]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set the records."""
        self._session.check()
        check_items(items, MAX_BYTES)
        with self._lock:
            self._records.update(items)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and swap, one swap after the other."""
        self._session.check()
        check_swaps(swaps, MAX_BYTES)
        with self._lock:
            return [self._swap(*swap) for swap in swaps]

    def close(self) -> None:
        """Wake the clients that wait for values."""
        self._notifier.close()

    def _swap(self, key: Key, expected: bytes | None, new: bytes | None) -> bool:
        if self._records.get(key) != expected:
            return False
        if new is not None:
            self._records[key] = new
            if expected is None and is_awaited(key):
                self._space.announce(key.call_hash)
        elif expected is not None:
            del self._records[key]
        return True


class MemoryNotifier(Notifier):
    """Wakes the clients of one event loop. The watches are changed with the lock held: other threads look at them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._watching = session.space.watching
        self._watches = Watches()

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        """Add a watch."""
        self._session.check()
        with self._session.space.lock:
            self._watches.add(call_hash, wake)
            self._watching[self._watches] = self._session.loop
        return True

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Remove a watch."""
        with self._session.space.lock:
            self._watches.remove(call_hash, wake)
            if not self._watches:
                self._watching.pop(self._watches, None)

    def close(self) -> None:
        """Wake everything, and take no more hints."""
        with self._session.space.lock:
            self._watching.pop(self._watches, None)
        self._watches.wake_all()


class MemoryCache(Cache):
    """Counters in a dict."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = session.space.lock
        self._counters = session.space.counters

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to all counters in one step."""
        self._session.check()
        check_amounts(amounts.items())
        counters = self._counters
        with self._lock:
            after = {name: counters.get(name, 0) + amount for name, amount in amounts.items()}
            counters.update((name, after[name]) for name, amount in amounts.items() if amount)
        return after
