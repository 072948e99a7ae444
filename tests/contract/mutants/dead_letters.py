"""Queues whose dead letters or counts are broken."""

from dataclasses import replace

from mutants.kit import QueueOver, breaks


@breaks("QUEUE-DEAD-01")
class DropsTheDead(QueueOver):
    """A buried message is deleted."""

    async def bury(self, delivery, reason):
        await self.inner.ack([delivery])


@breaks("QUEUE-DEAD-01", "QUEUE-DEAD-02")
class ForgetsWhy(QueueOver):
    """The reason is lost."""

    async def bury(self, delivery, reason):
        await self.inner.bury(delivery, "buried")


@breaks("QUEUE-DEAD-01")
class ForgetsTheAttempt(QueueOver):
    """Every dead letter says attempt 1."""

    async def dead(self, topic, *, limit):
        return [replace(each, attempt=1) for each in await self.inner.dead(topic, limit=limit)]


@breaks("QUEUE-DEAD-01")
class CountsMilliseconds(QueueOver):
    """`buried_at` is in milliseconds."""

    async def dead(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        return [replace(each, buried_at=each.buried_at * 1000) for each in found]


@breaks("QUEUE-DEAD-01")
class TakesTheDead(QueueOver):
    """Looking at the dead letters takes them away."""

    async def dead(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        await self.inner.drop(topic, limit=limit)
        return found


@breaks("QUEUE-DEAD-02")
class CutsReasons(QueueOver):
    """A reason is cut to its first line."""

    async def bury(self, delivery, reason):
        await self.inner.bury(delivery, reason.partition("\n")[0])


@breaks("QUEUE-DEAD-02")
class NewestFirst(QueueOver):
    """The newest dead letters come first."""

    async def dead(self, topic, *, limit):
        return (await self.inner.dead(topic, limit=1000))[::-1][:limit]


@breaks("QUEUE-DEAD-03")
class BuriesAgain(QueueOver):
    """A bury by a stale receipt makes another dead letter."""

    async def bury(self, delivery, reason):
        if not delivery.receipt.live:
            await self.inner.put(delivery.topic, [delivery.body])
            (delivery,) = await self.inner.receive(delivery.topic, limit=1, wait=0)
        await self.inner.bury(delivery, reason)


@breaks("QUEUE-DEAD-04", "QUEUE-DEAD-01")
class BuriesACopy(QueueOver):
    """A bury makes a dead letter, and leaves the message to its lease."""

    async def bury(self, delivery, reason):
        await self.inner.bury(delivery, reason)
        await self.inner.put(delivery.topic, [delivery.body], delay=self.lease / 2 if self.lease < 1 else 0)


@breaks("QUEUE-DEAD-05")
class RedrivesAll(QueueOver):
    """A redrive ignores its limit."""

    async def redrive(self, topic, *, limit):
        return await self.inner.redrive(topic, limit=1000)


@breaks("QUEUE-DEAD-05")
class RedrivesCopies(QueueOver):
    """A redrive leaves the dead letters where they are."""

    async def redrive(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        await self.inner.put(topic, [each.body for each in found])
        return len(found)


@breaks("QUEUE-DEAD-06")
class DropsAll(QueueOver):
    """A drop ignores its limit, and says what it was asked for."""

    async def drop(self, topic, *, limit):
        return min(limit, await self.inner.drop(topic, limit=1000))


@breaks("QUEUE-DEAD-06")
class DropsToTheTopic(QueueOver):
    """A drop puts the dead letters back."""

    async def drop(self, topic, *, limit):
        return await self.inner.redrive(topic, limit=limit)


@breaks("QUEUE-STATS-01")
class CountsNoLeases(QueueOver):
    """What is leased is counted as ready."""

    async def stats(self, topic):
        found = await self.inner.stats(topic)
        return found._replace(ready=found.ready + found.leased, leased=0)


@breaks("QUEUE-STATS-02")
class CountsNoDelays(QueueOver):
    """What is delayed is counted as ready."""

    async def stats(self, topic):
        found = await self.inner.stats(topic)
        return found._replace(ready=found.ready + found.delayed, delayed=0)
