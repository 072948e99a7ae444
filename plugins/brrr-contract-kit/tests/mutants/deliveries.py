"""Queues with broken leases or receipts."""

import asyncio

from brrr_core.errors import ArgumentError
from mutants.kit import NO_DELAY, NoDelay, QueueOver, breaks, live


@breaks("QUEUE-LEASE-01", "QUEUE-SHARE-04")
class NoLease(QueueOver):
    """A lease ends immediately: a received message is ready for others."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        await self.inner.release(found)
        return found


@breaks("QUEUE-LEASE-02", "QUEUE-LEASE-07")
class EndlessLease(QueueOver):
    """A lease never ends."""

    async def receive(self, topic, *, limit, wait):
        self.inner.lease = 1e6
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        self.inner.lease = self.lease
        return found


@breaks("QUEUE-LEASE-02")
class ShortLease(QueueOver):
    """A lease lasts half as long as declared."""

    def __init__(self, inner):
        super().__init__(inner)
        inner.lease = self.lease / 2


@breaks("QUEUE-LEASE-02", "QUEUE-RELEASE-01")
class PopsAtOnce(QueueOver):
    """A receive removes the message for good, like a plain BLPOP."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        await self.inner.ack(found)
        return found


@breaks("QUEUE-LEASE-03")
class ExtendsNothing(QueueOver):
    """Extending does nothing."""

    async def extend(self, deliveries):
        pass


@breaks("QUEUE-LEASE-04")
class ExtendsForEver(QueueOver):
    """An extended lease never ends."""

    async def extend(self, deliveries):
        self.inner.lease = 1e6
        await self.inner.extend(deliveries)
        self.inner.lease = self.lease


@breaks("QUEUE-LEASE-05")
class ExtendsAll(QueueOver):
    """Extending one delivery extends all received deliveries."""

    def __init__(self, inner):
        super().__init__(inner)
        self.held = []

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        self.held += found
        return found

    async def extend(self, deliveries):
        await self.inner.extend(self.held)


@breaks("QUEUE-LEASE-06")
class UntoldLease(QueueOver):
    """`lease` is always thirty seconds, whatever the actual lease is."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lease = 30.0


@breaks("QUEUE-LEASE-07")
class SleepsThroughExpiry(QueueOver):
    """Puts wake a waiting receive, but expired leases do not."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=0)
        if not found and wait and (await self.inner.stats(topic)).leased:
            await asyncio.sleep(min(wait, 60))
        return found or await self.inner.receive(topic, limit=limit, wait=wait)


@breaks("QUEUE-LEASE-08", "QUEUE-RELEASE-01", "QUEUE-LEASE-02")
class AlwaysTheFirst(QueueOver):
    """`attempt` is always 1."""

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        return [each._replace(attempt=1) for each in found]


@breaks("QUEUE-ACK-01", "QUEUE-BODY-02")
class AcksNothing(QueueOver):
    """An acknowledged message is only hidden until its lease expires."""

    def __init__(self, inner):
        super().__init__(inner)
        self.acked = set()

    async def ack(self, deliveries):
        self.acked.update(each.receipt for each in deliveries)

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries, delay=delay)
        await self.inner.release([each for each in deliveries if each.receipt in self.acked])
        lost, self.acked = self.acked, set()
        await self.inner.release([deliveries[0]._replace(receipt=each) for each in lost])


@breaks("QUEUE-ACK-02", "QUEUE-BATCH-05", raises=ArgumentError)
class RefusesStale(QueueOver):
    """Acknowledging with a settled receipt raises an error."""

    def __init__(self, inner):
        super().__init__(inner)
        self.settled = set()

    async def ack(self, deliveries):
        for each in deliveries:
            if each.receipt in self.settled:
                raise ArgumentError("this delivery was settled before")
            self.settled.add(each.receipt)
            await self.inner.ack([each])


@breaks("QUEUE-BATCH-05")
class StopsAtStale(QueueOver):
    """The items of a batch after a stale receipt are not settled."""

    async def ack(self, deliveries):
        for each in deliveries:
            if not live(each):
                return
            await self.inner.ack([each])


class _ByMessage(QueueOver):
    """Identifies a message by its topic and body; receipts mean nothing."""

    def __init__(self, inner):
        super().__init__(inner)
        self.holder = {}

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        self.holder |= {(topic, each.body): each for each in found}
        return found

    def now(self, deliveries):
        return [self.holder[each.topic, each.body] for each in deliveries]


@breaks("QUEUE-ACK-03", "QUEUE-ACK-04")
class AcksByMessage(_ByMessage):
    """Acknowledging removes the message even if another receiver has it."""

    async def ack(self, deliveries):
        await self.inner.ack(self.now(deliveries))


@breaks("QUEUE-ACK-05")
class AcksReady(QueueOver):
    """Acknowledging removes the message even if it was released and is ready."""

    async def ack(self, deliveries):
        await self.inner.ack(deliveries)
        for each in deliveries:
            if not live(each):
                found = await self.inner.receive(each.topic, limit=1, wait=0)
                await self.inner.ack([one for one in found if one.body == each.body])


@breaks("QUEUE-RELEASE-01")
class ReleasesLater(QueueOver):
    """A released message stays hidden until its lease expires."""

    async def release(self, deliveries, *, delay=0):
        pass


@breaks("QUEUE-RELEASE-01", "QUEUE-LEASE-08")
class ReleasesAsNew(QueueOver):
    """A release puts a new message, as attempt 1."""

    async def release(self, deliveries, *, delay=0):
        for each in deliveries:
            if live(each):
                await self.inner.ack([each])
                await self.inner.put(each.topic, [each.body], delay=delay)


@breaks("QUEUE-RELEASE-03")
class ReleasesByMessage(_ByMessage):
    """Releasing with a stale receipt takes the message from its new receiver."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(self.now(deliveries), delay=delay)


@breaks("QUEUE-RELEASE-04")
class ExtendsReady(QueueOver):
    """Extending with a released receipt hides the message again."""

    async def extend(self, deliveries):
        await self.inner.extend(deliveries)
        for each in deliveries:
            if not live(each):
                await self.inner.receive(each.topic, limit=1, wait=0)


@breaks("QUEUE-RELEASE-05")
class ReleasesTheSettled(QueueOver):
    """Releasing an acknowledged message puts it back."""

    async def release(self, deliveries, *, delay=0):
        for each in deliveries:
            if live(each):
                await self.inner.release([each], delay=delay)
            else:
                await self.inner.put(each.topic, [each.body], delay=delay)


@breaks("QUEUE-DELAY-02")
class ReleasesAtOnce(QueueOver):
    """A release ignores its delay."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries)


@breaks("QUEUE-DELAY-03")
class CutsDelay(QueueOver):
    """A delay is shortened to the lease."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries, delay=min(delay, self.lease))


@breaks("QUEUE-DELAY-04", manifest=NO_DELAY)
class IgnoresWhatItHasNot(NoDelay):
    """A queue that does not declare `delay` ignores a delay instead of refusing it."""

    def _refuse(self, delay):
        pass


@breaks("QUEUE-DELAY-04", manifest=NO_DELAY)
class PutsAndRefuses(NoDelay):
    """A queue that does not declare `delay` refuses it only after it has put the message."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies)
        self._refuse(delay)
