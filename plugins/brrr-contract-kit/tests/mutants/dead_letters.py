"""Queues with broken dead letters or counts."""

from mutants.kit import QueueOver, breaks, live


@breaks("QUEUE-DEAD-01")
class DropsTheDead(QueueOver):
    """A dead-lettered message is deleted."""

    async def bury(self, delivery, reason):
        await self.inner.ack([delivery])


@breaks("QUEUE-DEAD-01", "QUEUE-DEAD-02")
class ForgetsWhy(QueueOver):
    """The reason of a dead letter is lost."""

    async def bury(self, delivery, reason):
        await self.inner.bury(delivery, "buried")


@breaks("QUEUE-DEAD-01")
class ForgetsTheAttempt(QueueOver):
    """Every dead letter says attempt 1."""

    async def dead(self, topic, *, limit):
        return [each._replace(attempt=1) for each in await self.inner.dead(topic, limit=limit)]


@breaks("QUEUE-DEAD-01")
class CountsMilliseconds(QueueOver):
    """`buried_at` is in milliseconds."""

    async def dead(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        return [each._replace(buried_at=each.buried_at * 1000) for each in found]


@breaks("QUEUE-DEAD-01")
class TakesTheDead(QueueOver):
    """Reading the dead letters removes them."""

    async def dead(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        await self.inner.drop(topic, limit=limit)
        return found


@breaks("QUEUE-DEAD-02")
class CutsReasons(QueueOver):
    """A reason is cut after its first line."""

    async def bury(self, delivery, reason):
        await self.inner.bury(delivery, reason.partition("\n")[0])


@breaks("QUEUE-DEAD-02")
class NewestFirst(QueueOver):
    """The newest dead letters are returned first."""

    async def dead(self, topic, *, limit):
        return (await self.inner.dead(topic, limit=1000))[::-1][:limit]


@breaks("QUEUE-DEAD-03")
class BuriesAgain(QueueOver):
    """Dead-lettering with a stale receipt makes another dead letter."""

    async def bury(self, delivery, reason):
        if not live(delivery):
            await self.inner.put(delivery.topic, [delivery.body])
            (delivery,) = await self.inner.receive(delivery.topic, limit=1, wait=0)
        await self.inner.bury(delivery, reason)


@breaks("QUEUE-DEAD-04", "QUEUE-DEAD-01")
class BuriesACopy(QueueOver):
    """Dead-lettering makes a dead letter, but leaves the message leased."""

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
    """A redrive keeps the dead letters."""

    async def redrive(self, topic, *, limit):
        found = await self.inner.dead(topic, limit=limit)
        await self.inner.put(topic, [each.body for each in found])
        return len(found)


@breaks("QUEUE-DEAD-06")
class DropsAll(QueueOver):
    """A drop ignores its limit, and returns the limit."""

    async def drop(self, topic, *, limit):
        return min(limit, await self.inner.drop(topic, limit=1000))


@breaks("QUEUE-DEAD-06")
class DropsToTheTopic(QueueOver):
    """A drop puts the dead letters back on the topic."""

    async def drop(self, topic, *, limit):
        return await self.inner.redrive(topic, limit=limit)


@breaks("QUEUE-STATS-01")
class CountsNoLeases(QueueOver):
    """Leased messages are counted as ready."""

    async def stats(self, topic):
        found = await self.inner.stats(topic)
        return found._replace(ready=found.ready + found.leased, leased=0)


@breaks("QUEUE-STATS-02")
class CountsNoDelays(QueueOver):
    """Delayed messages are counted as ready."""

    async def stats(self, topic):
        found = await self.inner.stats(topic)
        return found._replace(ready=found.ready + found.delayed, delayed=0)
