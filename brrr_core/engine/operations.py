"""The batched operations of the engine on its queue, store and cache."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from brrr_core.backend.contracts import Cache, Delivery, Key, Queue, Store, Swap
from brrr_core.backend.steps import Reading, Received, Step, Steps
from brrr_core.engine.batching import Batcher

__all__ = ["STEP_LIMIT", "Commit", "Operations", "Put"]

STEP_LIMIT: Final = 100
"""The most messages of one step, for the same reason as `COMMIT_LIMIT`."""

COMMIT_LIMIT: Final = 64
"""The most steps in one batch, because a server does nothing else while it applies them."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Put(NamedTuple):
    """A message to put on a topic, ready after `delay` seconds."""

    topic: str
    body: bytes
    delay: float = 0


def _ignore(_: Sequence[Received]) -> None:
    """Do nothing when a step was applied: the default."""


class Commit(NamedTuple):
    """A step to apply.

    Attributes:
        step: The step.
        on_applied: Called when the step was applied, and before its messages can be handled here. It gets the messages
            that were leased. The caller may be cancelled by then. If that cancels the step, it is not called, and the
            backend undoes the leases.
    """

    step: Step
    on_applied: Callable[[Sequence[Received]], None] = _ignore


class Operations:
    """The batched operations of one connection. Each returns a future: start several, then await them.

    Attributes:
        queue: The queue itself, for operations that need no batching.
        clock: Returns the time, in unix seconds.
        delays: Whether the queue can delay messages. If not, workers hold messages during their delays.
        has_steps: Whether `receive` reads records too, and `commit` works.
        readings: Returns the records to read with each message. `Control` sets it.
        expires_after: Seconds that the store keeps a value after its last write or read; None for no limit.
    """

    def __init__(
        self,
        queue: Queue,
        store: Store,
        cache: Cache,
        *,
        steps: Steps | None = None,
        clock: Callable[[], float] = time.time,
        delays: bool = True,
    ) -> None:
        self.queue = queue
        self.has_steps = steps is not None
        self.readings: Callable[[], Sequence[Reading]] = tuple
        self.delays = delays
        self.clock = clock
        self.expires_after = store.expires_after
        self._store = store
        self._cache = cache
        self._reads = Batcher[Key, bytes | None](store.read)
        self._writes = Batcher[tuple[Key, bytes], None](self._write)
        self._swaps = Batcher[Swap, bool](store.swap)
        self._puts = Batcher[Put, None](self._put)
        self._counts = Batcher[tuple[str, int], int](self._count)
        self._acks = Batcher[Delivery, None](self._ack)
        self._steps = steps
        self._commits = Batcher[Commit, bool](self._commit, limit=COMMIT_LIMIT)

    def read(self, keys: Sequence[Key]) -> "asyncio.Future[list[bytes | None]]":
        """Return the records of the keys; None for each that is absent."""
        return self._reads.submit(keys)

    def write(self, items: Sequence[tuple[Key, bytes]]) -> "asyncio.Future[list[None]]":
        """Set the records."""
        return self._writes.submit(items)

    def swap(self, swaps: Sequence[Swap]) -> "asyncio.Future[list[bool]]":
        """Swap the records; True for each swap that took place."""
        return self._swaps.submit(swaps)

    def put(self, puts: Sequence[Put]) -> "asyncio.Future[list[None]]":
        """Put messages."""
        return self._puts.submit(puts)

    def count(self, amounts: Sequence[tuple[str, int]]) -> "asyncio.Future[list[int]]":
        """Add to counters, and return each counter after its addition."""
        return self._counts.submit(amounts)

    def ack(self, deliveries: Sequence[Delivery]) -> "asyncio.Future[list[None]]":
        """Acknowledge deliveries."""
        return self._acks.submit(deliveries)

    async def receive(self, topic: str, *, limit: int, wait: float) -> Sequence[Received]:
        """Receive messages. If the backend offers steps, read their records too."""
        if self._steps is None:
            deliveries = await self.queue.receive(topic, limit=limit, wait=wait)
            return [Received(delivery, None) for delivery in deliveries]
        return await self._steps.receive(topic, limit=limit, wait=wait, readings=self.readings())

    async def commit(self, commits: Sequence[Commit]) -> Sequence[bool]:
        """Apply steps; True for each that was applied. Only backends that offer steps have it."""
        return await self._commits.run(commits)

    async def flush(self) -> None:
        """Wait until all steps that were submitted before are applied or refused."""
        if self._commits.busy:
            await self.commit([Commit(Step(()))])

    async def close(self) -> None:
        """Wait until all operations are done."""
        batchers = (self._reads, self._writes, self._swaps, self._puts, self._counts, self._acks, self._commits)
        for batcher in batchers:
            await batcher.close()

    async def _commit(self, commits: Sequence[Commit]) -> list[bool]:
        assert self._steps is not None  # noqa: S101 - the callers look at `has_steps`
        results = await self._steps.commit([commit.step for commit in commits], readings=self.readings())
        for commit, leased in zip(commits, results, strict=True):
            if leased is not None:
                commit.on_applied(leased)
        return [leased is not None for leased in results]

    async def _write(self, items: Sequence[tuple[Key, bytes]]) -> list[None]:
        await self._store.write(items)
        return [None] * len(items)

    async def _put(self, puts: Sequence[Put]) -> list[None]:
        for (topic, delay), bodies in _grouped(((put.topic, put.delay), put.body) for put in puts):
            await self.queue.put(topic, bodies, delay=delay)
        return [None] * len(puts)

    async def _ack(self, deliveries: Sequence[Delivery]) -> list[None]:
        await self.queue.ack(deliveries)
        return [None] * len(deliveries)

    async def _count(self, amounts: Sequence[tuple[str, int]]) -> list[int]:
        sums = {key: sum(parts) for key, parts in _grouped(amounts)}
        after = await self._cache.increment(sums)
        running = {key: after[key] - sums[key] for key in sums}
        counts: list[int] = []
        for key, amount in amounts:
            running[key] += amount
            counts.append(running[key])
        return counts


def _grouped(pairs: Iterable[tuple[KeyT, ValueT]]) -> Iterable[tuple[KeyT, list[ValueT]]]:
    groups: dict[KeyT, list[ValueT]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups.items()
