"""Queues with broken parts for operators: dead letters by their ids, and topics."""

from brrr_core.backend import Activity, Inspector, LetterBox, Peeked
from mutants.kit import QueueOver, breaks


class _BoxOver(LetterBox):
    """A letter box that passes every operation on to another."""

    def __init__(self, inner):
        self.inner = inner

    async def page(self, topic, *, limit, after=None):
        return await self.inner.page(topic, limit=limit, after=after)

    async def find(self, topic, ids):
        return await self.inner.find(topic, ids)

    async def redrive(self, topic, ids):
        return await self.inner.redrive(topic, ids)

    async def drop(self, topic, ids):
        return await self.inner.drop(topic, ids)


class _InspectorOver(Inspector):
    """An inspector that passes every operation on to another."""

    def __init__(self, inner, queue):
        self.inner = inner
        self.queue = queue

    async def topics(self):
        return await self.inner.topics()

    async def peek(self, topic, *, limit):
        return await self.inner.peek(topic, limit=limit)

    async def purge(self, topic):
        return await self.inner.purge(topic)

    async def activity(self, topic):
        return await self.inner.activity(topic)


@breaks("QUEUE-LETTERS-01")
class PagesByPlace(QueueOver):
    """A page begins at a position, so letters are skipped after an earlier one was dropped."""

    def __init__(self, inner):
        super().__init__(inner)
        places = {}

        class Placed(_BoxOver):
            async def page(self, topic, *, limit, after=None):
                begin = places[after] + 1 if after is not None else 0
                found = (await self.inner.page(topic, limit=begin + limit))[begin:]
                places.update((each.id, begin + place) for place, each in enumerate(found))
                return found

        self.letters = Placed(inner.letters)


@breaks("QUEUE-LETTERS-02")
class RedrivesTheOldest(QueueOver):
    """As many dead letters as there are ids are redriven, the oldest first."""

    def __init__(self, inner):
        super().__init__(inner)

        class Oldest(_BoxOver):
            async def redrive(self, topic, ids):
                return await inner.redrive(topic, limit=len(await self.inner.find(topic, ids)) or 1)

        self.letters = Oldest(inner.letters)


@breaks("QUEUE-LETTERS-03")
class NumbersLetters(QueueOver):
    """The id of a dead letter is its position in the topic, which another one gets later."""

    def __init__(self, inner):
        super().__init__(inner)

        class Places(_BoxOver):
            async def _ids(self, topic, ids):
                found = await self.inner.page(topic, limit=100)
                return [
                    found[int(each)].id for each in ids if each.isascii() and each.isdigit() and len(found) > int(each)
                ]

            async def page(self, topic, *, limit, after=None):
                found = (await self.inner.page(topic, limit=100))[: limit if after is None else 0]
                return [each._replace(id=str(place)) for place, each in enumerate(found)]

            async def find(self, topic, ids):
                return await self.inner.find(topic, await self._ids(topic, ids))

            async def drop(self, topic, ids):
                return await self.inner.drop(topic, await self._ids(topic, ids[:1]))

        self.letters = Places(inner.letters)


@breaks("QUEUE-INSPECT-01")
class ListsReadyTopics(QueueOver):
    """A topic that has only dead letters is not listed."""

    def __init__(self, inner):
        super().__init__(inner)

        class Ready(_InspectorOver):
            async def topics(self):
                return [topic for topic in await self.inner.topics() if (await self.queue.stats(topic)).ready]

        self.inspector = Ready(inner.inspector, inner)


@breaks("QUEUE-INSPECT-01")
class PeeksByReceiving(QueueOver):
    """A message that is peeked at is received and released, which counts as a delivery."""

    def __init__(self, inner):
        super().__init__(inner)

        class Receiving(_InspectorOver):
            async def peek(self, topic, *, limit):
                taken = await self.queue.receive(topic, limit=limit, wait=0)
                await self.queue.release(taken)
                return [Peeked(each.body, "ready") for each in taken]

        self.inspector = Receiving(inner.inspector, inner)


@breaks("QUEUE-INSPECT-02")
class PurgesTheDead(QueueOver):
    """A purge deletes the dead letters too."""

    def __init__(self, inner):
        super().__init__(inner)

        class Everything(_InspectorOver):
            async def purge(self, topic):
                await self.queue.drop(topic, limit=100)
                return await self.inner.purge(topic)

        self.inspector = Everything(inner.inspector, inner)


@breaks("QUEUE-INSPECT-03")
class NeverReceives(QueueOver):
    """Nothing ever receives, even while a message is leased."""

    def __init__(self, inner):
        super().__init__(inner)

        class Still(_InspectorOver):
            async def activity(self, topic):
                await self.inner.activity(topic)
                return Activity(receiving=False)

        self.inspector = Still(inner.inspector, inner)


@breaks("QUEUE-INSPECT-04")
class PurgesNowhere(QueueOver):
    """A purge of the empty topic does nothing instead of being refused."""

    def __init__(self, inner):
        super().__init__(inner)

        class Lenient(_InspectorOver):
            async def purge(self, topic):
                return await self.inner.purge(topic) if topic else 0

        self.inspector = Lenient(inner.inspector, inner)
