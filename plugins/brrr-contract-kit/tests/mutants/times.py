"""Queues with times, orders and counts that are wrong by a little."""

from math import ceil

from mutants.kit import QueueOver, breaks


class _OtherDelays(QueueOver):
    """Changes delays."""

    def changed(self, delay):
        return delay

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies, delay=self.changed(delay))

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries, delay=self.changed(delay))


@breaks("QUEUE-DELAY-05", both=True)
class CutsDelays(_OtherDelays):
    """A delay is cut to whole seconds."""

    def changed(self, delay):
        return int(delay)


@breaks("QUEUE-DELAY-05", both=True)
class RoundsDelays(_OtherDelays):
    """A delay is rounded to the nearest second."""

    def changed(self, delay):
        return round(delay)


@breaks("QUEUE-DELAY-05", both=True)
class RoundsDelaysUp(_OtherDelays):
    """A delay is rounded up to whole seconds, which the manifest does not declare."""

    def changed(self, delay):
        return ceil(delay)


@breaks("QUEUE-DELAY-05", both=True)
class CutsReleases(QueueOver):
    """The delay of a release is cut to whole seconds; that of a put is exact."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries, delay=int(delay))


class _OtherLease(QueueOver):
    """Uses another lease than it says."""

    def use(self, lease):
        self.inner.lease = lease
        self.inner.lease_us = int(lease * 1e6)  # of SQLite


@breaks("QUEUE-LEASE-09", both=True)
class CutsLeases(_OtherLease):
    """A lease is cut to whole seconds."""

    def __init__(self, inner):
        super().__init__(inner)
        self.use(max(1.0, int(inner.lease)))


@breaks("QUEUE-LEASE-09", both=True)
class RoundsLeasesUp(_OtherLease):
    """A lease is rounded up to whole seconds, which the manifest does not declare."""

    def __init__(self, inner):
        super().__init__(inner)
        self.use(float(ceil(inner.lease)))


@breaks("QUEUE-LEASE-09", both=True)
class CutsExtensions(_OtherLease):
    """An extension is cut to whole seconds; a first lease is exact."""

    async def extend(self, deliveries):
        self.use(max(1.0, int(self.lease)))
        await self.inner.extend(deliveries)
        self.use(self.lease)


@breaks("QUEUE-STATS-03", both=True)
class CountsExpiredAsLeased(QueueOver):
    """A message counts as leased until it is received again or settled."""

    def __init__(self, inner):
        super().__init__(inner)
        self.held = {}

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        self.held.update({(topic, each.body): each for each in found})
        return found

    async def ack(self, deliveries):
        for each in deliveries:
            self.held.pop((each.topic, each.body), None)
        await self.inner.ack(deliveries)

    async def stats(self, topic):
        found = await self.inner.stats(topic)
        expired = sum(held == topic for held, _ in self.held) - found.leased
        return found._replace(ready=found.ready - expired, leased=found.leased + expired)


@breaks("QUEUE-DEAD-08", both=True)
class OrdersByPut(QueueOver):
    """Dead letters have the order in which their messages were put."""

    def __init__(self, inner):
        super().__init__(inner)
        self.order = []

    async def put(self, topic, bodies, *, delay=0):
        self.order += bodies
        await self.inner.put(topic, bodies, delay=delay)

    async def dead(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=1000)
        return sorted(found, key=lambda each: self.order.index(each.body))[:limit]


@breaks("QUEUE-DEAD-09", both=True)
class RedrivesBackwards(QueueOver):
    """A redrive puts the oldest dead letters back, the newest of them first."""

    async def redrive(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        await self.inner.put(topic, [each.body for each in reversed(found)])
        return await self.inner.drop(topic, limit=len(found)) if found else 0
