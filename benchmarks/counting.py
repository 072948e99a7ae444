"""A backend that counts the round trips and items of another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from brrr_core.backend import (
    Backend,
    Cache,
    DeadLetter,
    Delivery,
    Key,
    Queue,
    QueueStats,
    Reading,
    Received,
    Roles,
    Step,
    Steps,
    Store,
    Swap,
)

__all__ = ["CountingBackend", "Counts"]


class Counts:
    """The counts since the last `clear`.

    Attributes:
        round_trips: Calls of backend operations, without empty receives.
        items: Keys, values, messages and counters in them. The items of a step are all that it compares, adds, writes,
            puts, acknowledges and reads.
    """

    def __init__(self) -> None:
        self.round_trips = 0
        self.items = 0

    def add(self, items: int) -> None:
        """Count a round trip with so many items, unless there are none."""
        if items:
            self.round_trips += 1
            self.items += items

    def clear(self) -> None:
        """Set both counts to 0."""
        self.round_trips = self.items = 0


class CountingBackend(Backend):
    """Wraps a backend, or one for the queue and one for the store; opens and closes them.

    The cache comes from the queue's backend if that has one, and otherwise from the store's, as in `brrr.serve`.
    """

    def __init__(self, queue: Backend, store: Backend | None = None) -> None:
        self._queue = queue
        self._store = store or queue
        assert queue.manifest is not None, "it was opened from a URL"
        assert self._store.manifest is not None, "it was opened from a URL"
        self._cache = queue if queue.manifest.cache else self._store
        self.manifest = replace(
            queue.manifest,
            store=self._store.manifest.store,
            cache=queue.manifest.cache or self._store.manifest.cache,
        )
        self.counts = Counts()

    async def start(self) -> Roles:
        """Open the wrapped backends."""
        await self.opened.enter_async_context(self._queue)
        if self._store is not self._queue:
            await self.opened.enter_async_context(self._store)
        steps = self._queue.steps if self._store is self._cache is self._queue else None
        return Roles(
            queue=_Queue(self._queue.queue, self.counts),
            store=_Store(self._store.store, self.counts),
            cache=_Cache(self._cache.cache, self.counts),
            steps=None if steps is None else _Steps(steps, self.counts),
        )


class _Queue(Queue):
    def __init__(self, inner: Queue, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts
        self.lease = inner.lease

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        self._counts.add(len(bodies))
        await self._inner.put(topic, bodies, delay=delay)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        deliveries = await self._inner.receive(topic, limit=limit, wait=wait)
        self._counts.add(len(deliveries))
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._counts.add(len(deliveries))
        await self._inner.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        self._counts.add(len(deliveries))
        await self._inner.release(deliveries, delay=delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        self._counts.add(len(deliveries))
        await self._inner.extend(deliveries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        self._counts.add(1)
        await self._inner.bury(delivery, reason)

    async def stats(self, topic: str) -> QueueStats:
        return await self._inner.stats(topic)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        return await self._inner.dead(topic, limit=limit)

    async def redrive(self, topic: str, *, limit: int) -> int:
        return await self._inner.redrive(topic, limit=limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        return await self._inner.drop(topic, limit=limit)


class _Store(Store):
    def __init__(self, inner: Store, counts: Counts) -> None:
        self._inner = inner
        self.expires_after = inner.expires_after
        self.notifier = inner.notifier
        self._counts = counts

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        self._counts.add(len(keys))
        return await self._inner.read(keys)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        self._counts.add(len(items))
        await self._inner.write(items)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        self._counts.add(len(swaps))
        return await self._inner.swap(swaps)


class _Cache(Cache):
    def __init__(self, inner: Cache, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        self._counts.add(len(amounts))
        return await self._inner.increment(amounts)


class _Steps(Steps):
    def __init__(self, inner: Steps, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        received = await self._inner.receive(topic, limit=limit, wait=wait, readings=readings)
        self._counts.add(sum(1 + len(each.records or ()) for each in received))
        return received

    def drained(self, topic: str) -> bool:
        return self._inner.drained(topic)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        committed = await self._inner.commit(steps, readings=readings)
        read = sum(len(each.records or ()) for leased in committed for each in leased or ())
        self._counts.add(sum(map(len, (part for step in steps for part in step))) + read)
        return committed
