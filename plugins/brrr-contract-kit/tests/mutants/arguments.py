"""Backends that accept wrong arguments, or cut correct ones."""

from brrr_core.backend import Key, Swap
from brrr_core.errors import ArgumentError
from mutants.kit import CacheOver, QueueOver, StepsOver, StoreOver, breaks


class _Renames(QueueOver):
    """Gives topics other names."""

    def rename(self, topic):
        return topic

    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(self.rename(topic), bodies, delay=delay)

    async def receive(self, topic, *, limit, wait):
        found = await self.inner.receive(self.rename(topic), limit=limit, wait=wait)
        return [each._replace(topic=topic) for each in found]

    async def stats(self, topic):
        return await self.inner.stats(self.rename(topic))

    async def dead(self, topic, *, limit):
        return [each._replace(topic=topic) for each in await self.inner.dead(self.rename(topic), limit=limit)]

    async def redrive(self, topic, *, limit):
        return await self.inner.redrive(self.rename(topic), limit=limit)

    async def drop(self, topic, *, limit):
        return await self.inner.drop(self.rename(topic), limit=limit)


@breaks("QUEUE-TOPIC-05", both=True)
class CutsLongTopics(_Renames):
    """A topic is cut after 1,000 characters."""

    def rename(self, topic):
        return topic[:1000]


@breaks("QUEUE-TOPIC-05", both=True)
class CutsTopicsAtNul(_Renames):
    """A topic ends at its first NUL."""

    def rename(self, topic):
        return topic.partition("\0")[0] or "empty"


@breaks("QUEUE-TOPIC-06", both=True)
class TakesLongTopics(_Renames):
    """A topic of more than 1,024 bytes is cut instead of refused."""

    def rename(self, topic):
        return (
            topic.encode()[:1024].decode(errors="ignore") if isinstance(topic, str) and topic.isprintable() else topic
        )


@breaks("QUEUE-TOPIC-06", both=True)
class ReplacesHalfPairs(_Renames):
    """Half of a surrogate pair in a topic becomes a question mark."""

    def rename(self, topic):
        return topic.encode(errors="replace").decode() if isinstance(topic, str) else topic


@breaks("QUEUE-BATCH-07", both=True, raises=ArgumentError)
class SmallLimits(_Renames):
    """A limit is a signed integer of 32 bits."""

    async def receive(self, topic, *, limit, wait):
        return await self.inner.receive(topic, limit=(limit + 2**31) % 2**32 - 2**31, wait=wait)


@breaks("QUEUE-BATCH-07", both=True)
class CutsLimits(_Renames):
    """A limit beyond 2**31 is cut."""

    async def drop(self, topic, *, limit):
        return await self.inner.drop(topic, limit=min(limit, 2**31))


@breaks("QUEUE-BODY-05", both=True)
class PutsEachByte(QueueOver):
    """A put of bytes puts a message for each byte."""

    async def put(self, topic, bodies, *, delay=0):
        if isinstance(bodies, bytes):
            bodies = [b"%c" % each for each in bodies]
        await self.inner.put(topic, bodies, delay=delay)


@breaks("QUEUE-BODY-05", both=True)
class PutsText(QueueOver):
    """A text among the bodies is encoded."""

    async def put(self, topic, bodies, *, delay=0):
        if isinstance(bodies, list):
            bodies = [each.encode() if isinstance(each, str) else each for each in bodies]
        await self.inner.put(topic, bodies, delay=delay)


@breaks("QUEUE-BODY-05", both=True)
class PutsArrays(QueueOver):
    """A bytearray is taken as a body, or as a batch of them."""

    async def put(self, topic, bodies, *, delay=0):
        bodies = [bodies] if isinstance(bodies, bytearray) else bodies
        if isinstance(bodies, list):
            bodies = [bytes(each) if isinstance(each, bytearray) else each for each in bodies]
        await self.inner.put(topic, bodies, delay=delay)


class _RenamesKeys(StoreOver):
    """Gives keys other hashes."""

    def rename(self, call_hash):
        return call_hash

    def renamed(self, key):
        return Key(key.kind, self.rename(key.call_hash))

    async def read(self, keys):
        return await self.inner.read([self.renamed(key) for key in keys])

    async def write(self, items):
        await self.inner.write([(self.renamed(key), value) for key, value in items])

    async def swap(self, swaps):
        return await self.inner.swap([Swap(self.renamed(key), expected, new) for key, expected, new in swaps])


@breaks("STORE-KEY-04", both=True)
class CutsLongHashes(_RenamesKeys):
    """A call hash is cut after 1,000 characters."""

    def rename(self, call_hash):
        return call_hash[:1000]


@breaks("STORE-KEY-04", both=True)
class CutsHashesAtNul(_RenamesKeys):
    """A call hash ends at its first NUL."""

    def rename(self, call_hash):
        return call_hash.partition("\0")[0] if isinstance(call_hash, str) else call_hash


@breaks("STORE-KEY-04", both=True)
class TakesOtherLetters(_RenamesKeys):
    """A call hash may have letters beyond US-ASCII."""

    def rename(self, call_hash):
        return call_hash.encode().hex() if call_hash in {"é", "🦆"} else call_hash


@breaks("STORE-VALUE-04", both=True)
class WritesTextValues(StoreOver):
    """A value that is text is encoded."""

    async def write(self, items):
        await self.inner.write([(key, value.encode() if isinstance(value, str) else value) for key, value in items])


@breaks("STORE-VALUE-04", both=True)
class WritesArrays(StoreOver):
    """A swap takes a bytearray as a new value."""

    async def swap(self, swaps):
        return await self.inner.swap(
            [Swap(key, old, bytes(new) if isinstance(new, bytearray) else new) for key, old, new in swaps]
        )


@breaks("CACHE-COUNT-04")
class Wraps(CacheOver):
    """A counter has 64 bits, and wraps."""

    async def increment(self, amounts):
        after = await self.inner.increment(amounts)
        return {name: (count + 2**63) % 2**64 - 2**63 for name, count in after.items()}


@breaks("CACHE-COUNT-04", both=True)
class RoundsLargeCounts(CacheOver):
    """A counter is a float, which rounds from 2**53 on."""

    async def increment(self, amounts):
        return {name: int(float(count)) for name, count in (await self.inner.increment(amounts)).items()}


@breaks("CACHE-COUNT-04", both=True)
class TakesFractions(CacheOver):
    """An amount that is a float is made whole."""

    async def increment(self, amounts):
        return await self.inner.increment(
            {name: int(amount) if isinstance(amount, float) else amount for name, amount in amounts.items()}
        )


@breaks("CACHE-COUNT-04")
class RaisesOverflows(CacheOver):
    """A counter beyond 64 bits raises the error of the driver."""

    async def increment(self, amounts):
        before = await self.inner.increment(dict.fromkeys(amounts, 0))
        if any(before[name] + amount > 2**63 - 1 for name, amount in amounts.items() if isinstance(amount, int)):
            raise OverflowError("bigint out of range")
        return await self.inner.increment(amounts)


class _RenamesCounters(CacheOver):
    def rename(self, name):
        return name

    async def increment(self, amounts):
        after = {self.rename(name): amount for name, amount in amounts.items()}
        counts = await self.inner.increment(after)
        return {name: counts[self.rename(name)] for name in amounts}


@breaks("CACHE-COUNT-05", both=True)
class CutsCounters(_RenamesCounters):
    """The name of a counter is cut after 255 characters."""

    def rename(self, name):
        return name[:255]


@breaks("CACHE-COUNT-05", both=True)
class DropsNul(_RenamesCounters):
    """NUL is removed from the name of a counter."""

    def rename(self, name):
        return name.replace("\0", "") if isinstance(name, str) else name


@breaks("CACHE-COUNT-05", both=True)
class TakesHalfPairs(_RenamesCounters):
    """Half of a surrogate pair in the name of a counter is escaped."""

    def rename(self, name):
        return name.encode(errors="backslashreplace").decode() if isinstance(name, str) else name


@breaks("STEPS-SIZE-03", both=True)
class CommitsText(StepsOver):
    """A step with text as a body encodes it."""

    async def commit(self, steps, *, readings=()):
        steps = [
            step._replace(
                messages=[
                    each._replace(body=each.body.encode()) if isinstance(each.body, str) else each
                    for each in step.messages
                ]
            )
            for step in steps
        ]
        return await self.inner.commit(steps, readings=readings)


@breaks("STEPS-SIZE-03", both=True)
class RoundsLimits(StepsOver):
    """The limit of a count is a float, which rounds from 2**53 on."""

    async def commit(self, steps, *, readings=()):
        rounded = [
            step._replace(counts=[each._replace(limit=int(float(each.limit + 600))) for each in step.counts])
            for step in steps
        ]
        return await self.inner.commit(rounded, readings=readings)
