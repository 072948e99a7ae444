"""The batched operations of the engine on its queue, store and cache."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from brrr_core.backend.contracts import Cache, Delivery, Key, Queue, Store, Swap
from brrr_core.backend.steps import Reading, Received, Step, Steps
from brrr_core.engine.batching import Batcher
from brrr_core.engine.outages import NO_OUTAGES, Outages

__all__ = ["STEP_LIMIT", "Commit", "Operations", "Put"]

STEP_LIMIT: Final = 100
"""The most messages of one step, for the same reason as `COMMIT_LIMIT`."""

COMMIT_LIMIT: Final = 64
"""The most steps in one batch, because a server does nothing else while it applies them."""

ItemT = TypeVar("ItemT")
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
        reads: Whether the records of its leased messages must be read.
    """

    step: Step
    on_applied: Callable[[Sequence[Received]], None] = _ignore
    reads: bool = True


class Operations:
    """The batched operations of one connection. Each returns a future: start several, then await them.

    Attributes:
        queue: The queue itself, for operations that need no batching.
        clock: Returns the time, in unix seconds.
        delays: Whether the queue can delay messages. If not, workers hold messages during their delays.
        has_steps: Whether `receive` reads records too, and `commit` works.
        readings: Returns the records to read with each message. `Control` sets it.
        expires_after: Seconds that the store keeps a value after its last write or read; None for no limit.
        topics: The topics of all messages that were put; None if they need not be known.
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
        outages: Outages = NO_OUTAGES,
    ) -> None:
        self.queue = queue
        self.has_steps = steps is not None
        self.readings: Callable[[], Sequence[Reading]] = tuple
        self.delays = delays
        self.clock = clock
        self.expires_after = store.expires_after
        self.topics: set[str] | None = None
        self._reads = Batcher[Key, bytes | None](outages.watch("store", store.read))
        self._writes = Batcher[tuple[Key, bytes], None](outages.watch("store", partial(_nothing, store.write)))
        self._swaps = Batcher[Swap, bool](outages.watch("store", store.swap))
        self._puts = Batcher[Put, None](self._put)
        self._increment = outages.watch("cache", cache.increment)
        self._counts = Batcher[tuple[str, int], int](self._count)
        self._acks = Batcher[Delivery, None](outages.watch("queue", partial(_nothing, queue.ack)))
        self._receive = outages.watch("queue", queue.receive)
        self._put_bodies = outages.watch("queue", queue.put)
        self._steps = steps
        if steps is not None:
            self._receive_in_step = outages.watch("queue", steps.receive)
            self._apply = outages.watch("queue", steps.commit)
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

    async def delete(self, keys: Sequence[Key]) -> None:
        """Delete records, but none that changes at the same moment: another program needs it."""
        records = await self.read(keys)
        await self.swap([Swap(key, old, None) for key, old in zip(keys, records, strict=True) if old is not None])

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
            deliveries = await self._receive(topic, limit=limit, wait=wait)
            return [Received(delivery, None) for delivery in deliveries]
        return await self._receive_in_step(topic, limit=limit, wait=wait, readings=self.readings())

    def drained(self, topic: str) -> bool:
        """Whether the last receive of a topic left no ready message; False if that is not known."""
        return self._steps is not None and self._steps.drained(topic)

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
        if self.topics is not None:
            self.topics.update(message.topic for commit in commits for message in commit.step.messages)
        readings = self.readings() if any(commit.reads for commit in commits) else ()
        results = await self._apply([commit.step for commit in commits], readings=readings)
        for commit, leased in zip(commits, results, strict=True):
            if leased is not None:
                commit.on_applied(leased)
        return [leased is not None for leased in results]

    async def _put(self, puts: Sequence[Put]) -> list[None]:
        if self.topics is not None:
            self.topics.update(put.topic for put in puts)
        for (topic, delay), bodies in _grouped(((put.topic, put.delay), put.body) for put in puts):
            await self._put_bodies(topic, bodies, delay=delay)
        return [None] * len(puts)

    async def _count(self, amounts: Sequence[tuple[str, int]]) -> list[int]:
        sums = {key: sum(parts) for key, parts in _grouped(amounts)}
        after = await self._increment(sums)
        running = {key: after[key] - sums[key] for key in sums}
        counts: list[int] = []
        for key, amount in amounts:
            running[key] += amount
            counts.append(running[key])
        return counts


async def _nothing(operation: Callable[[Sequence[ItemT]], Awaitable[None]], items: Sequence[ItemT]) -> list[None]:
    """Run an operation that returns nothing, as a batch with a result for each item."""
    await operation(items)
    return [None] * len(items)


def _grouped(pairs: Iterable[tuple[KeyT, ValueT]]) -> Iterable[tuple[KeyT, list[ValueT]]]:
    groups: dict[KeyT, list[ValueT]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups.items()
