"""Backends whose concurrent operations exclude each other: by a small pool, or by locks in the order of the keys."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager

from brrr_core.errors import BackendError
from mutants.kit import CacheOver, QueueOver, StepsOver, StoreOver, breaks

POOL = 40
DEADLOCK = 0.05
"""Seconds after which a lock that is held counts as a deadlock."""

LOCKS = defaultdict(asyncio.Lock)
"""The locks of the server, by key. Keys are unique in each run."""


@asynccontextmanager
async def locked(keys):
    """Lock keys one after another, as a transaction does, and fail if another one holds a lock for long."""
    held = []
    try:
        for key in dict.fromkeys(keys):
            try:
                async with asyncio.timeout(DEADLOCK):
                    await LOCKS[key].acquire()
            except TimeoutError:
                raise BackendError("deadlock detected", remedy="Try again.") from None
            held.append(LOCKS[key])
            await asyncio.sleep(0)
        yield
    finally:
        for lock in held:
            lock.release()


@breaks("STORE-RACE-06", both=True)
class WritesDeadlock(StoreOver):
    """A write locks its records in the order of the batch."""

    async def write(self, items):
        async with locked(key for key, _ in items):
            await self.inner.write(items)


@breaks("STORE-RACE-06", both=True)
class SwapsDeadlock(StoreOver):
    """A swap locks its records in the order of the batch."""

    async def swap(self, swaps):
        async with locked(swap.key for swap in swaps):
            return await self.inner.swap(swaps)


@breaks("CACHE-RACE-04", both=True)
class IncrementsDeadlock(CacheOver):
    """An increment locks its counters in the order of the batch."""

    async def increment(self, amounts):
        async with locked(amounts):
            return await self.inner.increment(amounts)


@breaks("QUEUE-BATCH-08", both=True)
class SettlingDeadlocks(QueueOver):
    """Extending and acknowledging lock their messages in the order of the batch."""

    async def extend(self, deliveries):
        async with locked(map(id, deliveries)):
            await self.inner.extend(deliveries)

    async def ack(self, deliveries):
        async with locked(map(id, deliveries)):
            await self.inner.ack(deliveries)


@breaks("STEPS-RACE-05", both=True)
class CommitsDeadlock(StepsOver):
    """A commit locks its records in the order of the step."""

    async def commit(self, steps, *, readings=()):
        async with locked(key for step in steps for key, _ in step.writes):
            return await self.inner.commit(steps, readings=readings)


@breaks("STEPS-RACE-05", both=True)
class CountsDeadlock(StepsOver):
    """A commit locks its counters in the order of the step."""

    async def commit(self, steps, *, readings=()):
        async with locked(count.counter for step in steps for count in step.counts):
            return await self.inner.commit(steps, readings=readings)


@breaks("QUEUE-WAIT-06", both=True)
class SmallPool(QueueOver):
    """Every operation takes a connection of a pool, and a receive keeps it while it waits."""

    def __init__(self, inner):
        super().__init__(inner)
        self.pool = asyncio.Semaphore(POOL)

    async def put(self, topic, bodies, *, delay=0):
        async with self.pool:
            await self.inner.put(topic, bodies, delay=delay)

    async def receive(self, topic, *, limit, wait):
        async with self.pool:
            return await self.inner.receive(topic, limit=limit, wait=wait)

    async def ack(self, deliveries):
        async with self.pool:
            await self.inner.ack(deliveries)


@breaks("STEPS-RECEIVE-06", both=True)
class SmallPoolOfSteps(StepsOver):
    """Every step takes a connection of a pool, and a receive keeps it while it waits."""

    def __init__(self, inner, roles):
        super().__init__(inner, roles)
        self.pool = asyncio.Semaphore(POOL)

    async def receive(self, topic, *, limit, wait, readings):
        async with self.pool:
            return await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)

    async def commit(self, steps, *, readings=()):
        async with self.pool:
            return await self.inner.commit(steps, readings=readings)
