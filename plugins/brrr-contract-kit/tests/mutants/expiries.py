"""Queues on which the receipt of an expired lease still works."""

import asyncio
from heapq import heappush

from mutants.kit import QueueOver, StepsOver, breaks, live


def revived(deliveries):
    """Let leases that have expired, and that no receive has noticed, live on."""
    for each in deliveries:
        if live(each):
            each.receipt.deadline = max(each.receipt.deadline, each.receipt.topic._clock() + 0.1)
    return deliveries


@breaks("QUEUE-EXPIRE-01")
class AcknowledgesExpired(QueueOver):
    """An expired receipt acknowledges until another receive takes the message."""

    async def ack(self, deliveries):
        await self.inner.ack(revived(deliveries))


@breaks("QUEUE-EXPIRE-01")
class ReleasesExpired(QueueOver):
    """An expired receipt delays the message until another receive takes it."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(revived(deliveries), delay=delay)


@breaks("QUEUE-EXPIRE-01")
class ExtendsExpired(QueueOver):
    """An expired lease can be extended until another receive takes the message."""

    async def extend(self, deliveries):
        await self.inner.extend(revived(deliveries))


@breaks("QUEUE-EXPIRE-01")
class BuriesExpired(QueueOver):
    """An expired receipt dead-letters until another receive takes the message."""

    async def bury(self, delivery, reason):
        await self.inner.bury(*revived([delivery]), reason)


@breaks("STEPS-ACK-01")
class AcknowledgesExpiredInSteps(StepsOver):
    """A step acknowledges with an expired receipt until another receive takes the message."""

    async def commit(self, steps, *, readings=()):
        for step in steps:
            revived(step.acks)
        return await self.inner.commit(steps, readings=readings)


@breaks("QUEUE-EXPIRE-02")
class ExtendsWhatItRead(QueueOver):
    """An extension reads the lease, and then writes it: even if another receive has taken the message in between."""

    async def extend(self, deliveries):
        held = [each.receipt for each in deliveries if live(each) and each.receipt.deadline > self.inner._clock()]
        await asyncio.sleep(0.03)
        for lease in held:
            if lease.live:
                continue
            for _, _, other in lease.topic._leases:
                if other.live and other.message is lease.message:
                    other.live, lease.live = False, True
                    lease.deadline = lease.entry = self.inner._clock() + self.lease
                    heappush(lease.topic._leases, (lease.entry, next(lease.topic._serial), lease))
                    break
        await self.inner.extend(deliveries)
