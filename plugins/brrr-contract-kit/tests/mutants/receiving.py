"""Queues with a broken receive: its limit, wait, fairness or cancellation."""

import asyncio
import time
from typing import Any, ClassVar

from mutants.kit import QueueOver, breaks


@breaks("QUEUE-BATCH-03")
class IgnoresLimit(QueueOver):
    """A receive returns all ready messages, for any limit."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        return found + await self.inner.receive(topic, limit=1000, wait=0) if found else []


@breaks("QUEUE-BATCH-03")
class WaitsToFill(QueueOver):
    """A receive waits until it has as many messages as its limit."""

    async def receive(self, topic, *, limit, wait):
        deadline = time.monotonic() + wait
        found = []
        while len(found) < limit and (not found or time.monotonic() < deadline):
            more = await self.inner.receive(
                topic, limit=limit - len(found), wait=max(0, min(0.2, deadline - time.monotonic()))
            )
            if not more and time.monotonic() >= deadline:
                break
            found += more
        return found


@breaks("QUEUE-WAIT-01", "QUEUE-LEASE-08")
class CountsFromZero(QueueOver):
    """Attempts count from 0."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        return [each._replace(attempt=each.attempt - 1) for each in found]


@breaks("QUEUE-WAIT-02", "QUEUE-RELEASE-02", "QUEUE-DEAD-07")
class LooksAtTheEnd(QueueOver):
    """A receive looks for messages only at the beginning and the end of its wait."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=0)
        if found or not wait:
            return found
        await asyncio.sleep(min(wait, 30))
        return await self.inner.receive(topic, limit=limit, wait=0)


@breaks("QUEUE-WAIT-03")
class NeverWaits(QueueOver):
    """A receive returns immediately, whatever its wait is."""

    async def receive(self, topic, *, limit, wait):
        return await self.inner.receive(topic, limit=limit, wait=0)


@breaks("QUEUE-WAIT-03")
class WaitsForEver(QueueOver):
    """A receive returns only when a message arrives."""

    async def receive(self, topic, *, limit, wait):
        return await self.inner.receive(topic, limit=limit, wait=600 if wait else 0)


@breaks("QUEUE-WAIT-04")
class OneAtATime(QueueOver):
    """All operations share one connection, and wait while a receive waits."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lock = asyncio.Lock()

    async def put(self, topic, bodies, *, delay=0):
        async with self.lock:
            await self.inner.put(topic, bodies, delay=delay)

    async def receive(self, topic, *, limit, wait):
        async with self.lock:
            return await self.inner.receive(topic, limit=limit, wait=wait)


@breaks("QUEUE-WAIT-05")
class BlocksTheLoop(QueueOver):
    """A receive waits in a call that blocks the event loop."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=0)
        if not found and wait:
            time.sleep(min(wait, 1))  # noqa: ASYNC251 - this is the defect
        return found or await self.inner.receive(topic, limit=limit, wait=0)


@breaks("QUEUE-SHARE-01")
class Prefetches(QueueOver):
    """A receive takes ten messages, and keeps those above its limit."""

    def __init__(self, inner):
        super().__init__(inner)
        self.kept = []

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit + 10, wait=wait)
        self.kept += found[limit:]
        return found[:limit]


@breaks("QUEUE-SHARE-02")
class Favourites(QueueOver):
    """Receivers take turns, but one of them never gets a turn."""

    def __init__(self, inner):
        super().__init__(inner)
        self.tasks = {}

    async def receive(self, topic, *, limit, wait):
        number = self.tasks.setdefault(asyncio.current_task(), len(self.tasks))
        if number == 2:
            await asyncio.sleep(wait)
            return []
        return await self.inner.receive(topic, limit=limit, wait=wait)


@breaks("QUEUE-SHARE-02")
class DeliversTwice(QueueOver):
    """Two concurrent receives get the same message."""

    last: tuple[Any, ...] = ()

    async def receive(self, topic, *, limit, wait):
        if type(self).last and type(self).last[0].topic == topic:
            found, type(self).last = type(self).last, ()
            return list(found)
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        if len(found) > 1:
            type(self).last = tuple(found[-1:])
        return found


@breaks("QUEUE-SHARE-03")
class DeafToOthers(QueueOver):
    """Only puts of its own backend wake a waiting receive."""

    def __init__(self, inner):
        super().__init__(inner)
        self.rung = asyncio.Event()

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies, delay=delay)
        self.rung.set()

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=0)
        if found or not wait:
            return found
        self.rung.clear()
        try:
            await asyncio.wait_for(self.rung.wait(), min(wait, 60))
        except TimeoutError:
            return []
        return await self.inner.receive(topic, limit=limit, wait=0)


@breaks("QUEUE-SHARE-04")
class PrivateTopics(QueueOver):
    """Only the backend that put a message receives it, until it is released."""

    def __init__(self, inner):
        super().__init__(inner)
        self.mine = f"-of-{id(self)}"

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic + self.mine, bodies, delay=delay)

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic + self.mine, limit=limit, wait=wait)
        return [each._replace(topic=topic) for each in found]


@breaks("QUEUE-CANCEL-01", "QUEUE-CANCEL-02")
class LosesOnCancellation(QueueOver):
    """A receive that is cancelled after it took messages loses them."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        await self.inner.ack(found)  # like a plain BLPOP, which removes them at once
        await asyncio.sleep(0)
        await self.inner.put(topic, [each.body for each in found])
        return await self.inner.receive(topic, limit=len(found), wait=0) if found else []


@breaks("QUEUE-CANCEL-03")
class LosesTheWakeUp(QueueOver):
    """Each put wakes one receiver; if that one was cancelled, no receiver is woken."""

    waiting: ClassVar[dict[str, list[asyncio.Future]]] = {}

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies, delay=delay)
        for _ in bodies:
            if self.waiting.get(topic):
                first = self.waiting[topic].pop(0)
                first.cancelled() or first.set_result(None)

    async def receive(self, topic, *, limit, wait):
        while True:
            found = await self.inner.receive(topic, limit=limit, wait=0)
            if found or not wait:
                return found
            turn = asyncio.get_running_loop().create_future()
            self.waiting.setdefault(topic, []).append(turn)
            await asyncio.wait([turn], timeout=min(wait, 60))


@breaks("QUEUE-CANCEL-04")
class KeepsTheLock(QueueOver):
    """A cancelled put keeps the lock that it took."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lock = asyncio.Lock()

    async def put(self, topic, bodies, *, delay=0):
        await self.lock.acquire()
        await asyncio.sleep(0)
        await self.inner.put(topic, bodies, delay=delay)
        self.lock.release()


@breaks("QUEUE-CANCEL-05")
class SettlesTooEarly(QueueOver):
    """A release is recorded as done before it is sent; if it is cancelled in between, it is never sent."""

    def __init__(self, inner):
        super().__init__(inner)
        self.done = set()

    async def release(self, deliveries, *, delay=0):
        left = [each for each in deliveries if each.receipt not in self.done]
        self.done.update(each.receipt for each in left)
        await asyncio.sleep(0)
        await self.inner.release(left, delay=delay)


@breaks("QUEUE-CANCEL-06")
class SinksTogether(QueueOver):
    """The first put of a batch sends the whole batch; if it is cancelled, all puts are."""

    def __init__(self, inner):
        super().__init__(inner)
        self.batch = None

    async def put(self, topic, bodies, *, delay=0):
        if self.batch is not None:
            self.batch[0].append((topic, bodies, delay))
            await asyncio.shield(self.batch[1])
            return
        batch = self.batch = ([(topic, bodies, delay)], asyncio.get_running_loop().create_future())
        try:
            await asyncio.sleep(0)
            self.batch = None
            for topic_, bodies_, delay_ in batch[0]:
                await self.inner.put(topic_, bodies_, delay=delay_)
            batch[1].set_result(None)
        except BaseException:
            self.batch = None
            batch[1].cancel()
            raise
