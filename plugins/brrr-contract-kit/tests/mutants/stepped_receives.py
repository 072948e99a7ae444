"""Steps with broken leases, readings, or receives."""

import asyncio

from brrr_core.backend import Received, keys_of
from mutants.kit import StepsOver, breaks


class _Leases(StepsOver):
    """Changes the deliveries of the messages that a commit leases."""

    def changed(self, delivery):
        raise NotImplementedError

    async def commit(self, steps, *, readings=()):
        done = await self.inner.commit(steps, readings=readings)
        return [
            None if leased is None else [each._replace(delivery=self.changed(each.delivery)) for each in leased]
            for leased in done
        ]


@breaks("STEPS-LEASE-01", "STEPS-MODEL-01")
class LeasesByReceiving(StepsOver):
    """A message is leased by a put and a receive, which can return another message."""

    async def commit(self, steps, *, readings=()):
        done = []
        for step in steps:
            plain = [each._replace(leased=False) for each in step.messages]
            done += await self.inner.commit([step._replace(messages=plain)])
            for each in step.messages if done[-1] is not None else ():
                if each.leased:
                    done[-1] += await self.inner.receive(each.topic, limit=1, wait=0, readings=readings)
        return done


@breaks("STEPS-LEASE-01")
class CountsLeasesFromZero(_Leases):
    """A message that a step leases is attempt 0."""

    def changed(self, delivery):
        return delivery._replace(attempt=0)


@breaks("STEPS-LEASE-02")
class LeasesWithoutEnd(_Leases):
    """The lease of a message that a step has put never ends."""

    def changed(self, delivery):
        delivery.receipt.deadline += 1_000
        return delivery


@breaks("STEPS-LEASE-03", "STEPS-LEASE-01")
class GivesDeadReceipts(_Leases):
    """The receipts of leased messages settle nothing."""

    def changed(self, delivery):
        return delivery._replace(receipt="none")


class _Readings(StepsOver):
    """Reads other records, or none."""

    def read(self, body, readings):
        raise NotImplementedError

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(topic, limit=limit, wait=wait, readings=())
        return [await self.with_records(each, readings) for each in found]

    async def commit(self, steps, *, readings=()):
        done = await self.inner.commit(steps)
        return [leased and [await self.with_records(each, readings) for each in leased] for leased in done]

    async def with_records(self, received, readings):
        keys = self.read(received.delivery.body, readings)
        return Received(received.delivery, None if keys is None else await self.store.read(keys))


@breaks("STEPS-READ-01", "STEPS-MODEL-01")
class ReadsValuesOnly(_Readings):
    """Every reading reads a value."""

    def read(self, body, readings):
        return keys_of(body, [each._replace(kind="value") for each in readings])


@breaks("STEPS-READ-01")
class IgnoresPrefixes(_Readings):
    """The prefix of a reading is left out."""

    def read(self, body, readings):
        return keys_of(body, [each._replace(prefix="") for each in readings])


@breaks("STEPS-READ-01")
class ReadsOfTheCallOnly(_Readings):
    """A reading of the root reads the record of the call."""

    def read(self, body, readings):
        return keys_of(body, [each._replace(part="call_hash") for each in readings])


@breaks("STEPS-READ-01")
class ReadsEachOnce(_Readings):
    """Readings that are named twice are read once."""

    def read(self, body, readings):
        return keys_of(body, list(dict.fromkeys(readings)))


@breaks("STEPS-READ-02")
class ReadsBehindTheEnd(_Readings):
    """Bytes behind a message are ignored."""

    def read(self, body, readings):
        return keys_of(body, readings) or keys_of(body[:-1], readings)


@breaks("STEPS-READ-02")
class GivesNoRecords(_Readings):
    """If a body is not a schedule message, its delivery has an empty list of records."""

    def read(self, body, readings):
        return keys_of(body, readings) or []


@breaks("STEPS-READ-02")
class DropsWhatItCannotRead(StepsOver):
    """A receive leaves out messages that are not schedule messages."""

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)
        return [each for each in found if each.records is not None]


@breaks("STEPS-READ-03", "STEPS-MODEL-01")
class ReadsBeforeItCommits(StepsOver):
    """The records of leased messages are read before the steps."""

    async def commit(self, steps, *, readings=()):
        bodies = [each.body for step in steps for each in step.messages if each.leased]
        keys = {body: keys_of(body, readings) for body in bodies}
        before = {body: each if each is None else await self.store.read(each) for body, each in keys.items()}
        done = await self.inner.commit(steps, readings=readings)
        return [leased and [each._replace(records=before[each.delivery.body]) for each in leased] for leased in done]


@breaks("STEPS-RECEIVE-01", "STEPS-MODEL-01")
class IgnoresLimitInSteps(StepsOver):
    """A receive returns all ready messages, for any limit."""

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)
        return found + await self.inner.receive(topic, limit=1000, wait=0, readings=readings) if found else []


@breaks("STEPS-RECEIVE-01")
class AcceptsAnyLimit(StepsOver):
    """A receive with a limit of 0 takes one message."""

    async def receive(self, topic, *, limit, wait, readings):
        return await self.inner.receive(topic, limit=max(limit, 1), wait=wait, readings=readings)


@breaks("STEPS-RECEIVE-02", "STEPS-PUT-02")
class LooksAtTheEndInSteps(StepsOver):
    """A receive looks for messages only at the beginning and the end of its wait."""

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(topic, limit=limit, wait=0, readings=readings)
        if found or not wait:
            return found
        await asyncio.sleep(min(wait, 30))
        return await self.inner.receive(topic, limit=limit, wait=0, readings=readings)


@breaks("STEPS-RECEIVE-03")
class HidesWhileItReads(StepsOver):
    """The lease begins after the records were read; a cancellation before that hides the message without an end."""

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)
        for each in found:
            each.delivery.receipt.deadline += 1_000
        await asyncio.sleep(0)
        for each in found:
            each.delivery.receipt.deadline -= 1_000
        return found


@breaks("STEPS-RECEIVE-04", "STEPS-PUT-01")
class HasItsOwnTopics(StepsOver):
    """Only steps receive the messages that steps put."""

    async def receive(self, topic, *, limit, wait, readings):
        found = await self.inner.receive(f"steps/{topic}", limit=limit, wait=0, readings=readings)
        return found or await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)

    async def commit(self, steps, *, readings=()):
        mine = [
            step._replace(messages=[each._replace(topic=f"steps/{each.topic}") for each in step.messages])
            for step in steps
        ]
        return await self.inner.commit(mine, readings=readings)
