"""Queues with broken puts, topics or batches."""

import re
import unicodedata

from brrr_core.errors import ArgumentError
from mutants.kit import QueueOver, breaks

MAX = 64 * 1024 * 1024


@breaks("QUEUE-BODY-01")
class CutsAtNul(QueueOver):
    """A body ends at its first NUL."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, [body.split(b"\0")[0] for body in bodies], delay=delay)


@breaks("QUEUE-BODY-01")
class TextBodies(QueueOver):
    """Bodies are sent as UTF-8 text; invalid bytes are replaced."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, [body.decode(errors="replace").encode() for body in bodies], delay=delay)


@breaks("QUEUE-BODY-01", "QUEUE-DEAD-02")
class DropsEmptyBodies(QueueOver):
    """An empty body is dropped."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, [body for body in bodies if body], delay=delay)


@breaks("QUEUE-BODY-02")
class Deduplicates(QueueOver):
    """Messages with equal bodies are one message."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, list(dict.fromkeys(bodies)), delay=delay)


@breaks("QUEUE-BODY-02")
class AcksByBody(QueueOver):
    """Acknowledging removes every message with that body."""

    def __init__(self, inner):
        super().__init__(inner)
        self.held = []

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(topic, limit=limit, wait=wait)
        self.held += found
        return found

    async def ack(self, deliveries):
        bodies = {each.body for each in deliveries}
        await self.inner.ack([each for each in self.held if each.body in bodies])


@breaks("QUEUE-BODY-03")
class CutsLargeBodies(QueueOver):
    """A body is cut at 256 KiB."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, [body[: 256 * 1024] for body in bodies], delay=delay)


@breaks("QUEUE-BODY-04")
class TakesTooLarge(QueueOver):
    """A body larger than declared is cut instead of refused."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, [body[:MAX] for body in bodies], delay=delay)


@breaks("QUEUE-BODY-04")
class PutsHalfABatch(QueueOver):
    """If a body of a batch is too large, those before it are still put."""

    async def put(self, topic, bodies, *, delay=0):
        for body in bodies:
            await self.inner.put(topic, [body], delay=delay)


class _Renames(QueueOver):
    """Stores topics under other names."""

    def name(self, topic):
        return topic

    def back(self, found, topic):
        return [each._replace(topic=topic) for each in found]

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(self.name(topic), bodies, delay=delay)

    async def receive(self, topic, *, limit, wait):
        return self.back(await self.inner.receive(self.name(topic), limit=limit, wait=wait), topic)

    async def stats(self, topic):
        return await self.inner.stats(self.name(topic))

    async def dead(self, topic, *, limit):
        return self.back(await self.inner.dead(self.name(topic), limit=limit), topic)

    async def redrive(self, topic, *, limit):
        return await self.inner.redrive(self.name(topic), limit=limit)

    async def drop(self, topic, *, limit):
        return await self.inner.drop(self.name(topic), limit=limit)


@breaks("QUEUE-TOPIC-01")
class EscapesToOne(_Renames):
    """Topics collide after escaping: each unsupported character becomes `_`."""

    def name(self, topic):
        return re.sub(r"[^\w-]", "_", topic)


@breaks("QUEUE-TOPIC-01")
class IgnoresCase(_Renames):
    """Topics that differ only in case are one topic."""

    def name(self, topic):
        return topic.lower()


@breaks("QUEUE-TOPIC-01")
class Normalizes(_Renames):
    """Topics are normalized as Unicode, so that topics that look alike are one."""

    def name(self, topic):
        return unicodedata.normalize("NFC", topic)


@breaks("QUEUE-TOPIC-01")
class Strips(_Renames):
    """Spaces at the end of a topic are removed."""

    def name(self, topic):
        return topic.rstrip(" ") or topic


@breaks("QUEUE-TOPIC-02")
class CutsTopics(_Renames):
    """A topic is cut at 255 characters."""

    def name(self, topic):
        return topic[:255]


@breaks("QUEUE-TOPIC-03")
class DefaultTopic(_Renames):
    """The empty topic becomes a topic named `default`."""

    def name(self, topic):
        return topic or "default"


@breaks("QUEUE-TOPIC-04")
class OneGraveyard(_Renames):
    """All dead letters are stored together, and found by a prefix of their topic."""

    async def drop(self, topic, *, limit):
        more = await self.inner.drop(f"{topic}-more", limit=limit)
        return more + await self.inner.drop(topic, limit=limit)


@breaks("QUEUE-BATCH-01", raises=ArgumentError)
class RefusesEmptyBatches(QueueOver):
    """An empty batch raises an error."""

    async def put(self, topic, bodies, *, delay=0):
        if not bodies:
            raise ArgumentError("there is nothing to put")
        await self.inner.put(topic, bodies, delay=delay)


@breaks("QUEUE-BATCH-02")
class PutsTheFirstHundred(QueueOver):
    """Only the first hundred messages of a batch are put."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies[:100], delay=delay)


@breaks("QUEUE-BATCH-04")
class SettlesTheFirstHundred(QueueOver):
    """Only the first hundred deliveries of a batch are released."""

    async def release(self, deliveries, *, delay=0):
        await self.inner.release(deliveries[:100], delay=delay)


@breaks("QUEUE-BATCH-06")
class TakesAnyLimit(QueueOver):
    """A limit of 0 is treated as 1."""

    async def receive(self, topic, *, limit, wait):
        return await self.inner.receive(topic, limit=max(1, limit), wait=wait)


@breaks("QUEUE-BATCH-06")
class TakesAnyDelay(QueueOver):
    """A delay of minus one second is treated as no delay."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies, delay=max(0, delay))


@breaks("QUEUE-SHARE-05")
class PutsBackwards(QueueOver):
    """The messages of a batch are put in reverse order, though `ordered` is declared."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, list(bodies)[::-1], delay=delay)


@breaks("QUEUE-DELAY-01", "QUEUE-STATS-02")
class IgnoresDelay(QueueOver):
    """A put ignores its delay."""

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies)
