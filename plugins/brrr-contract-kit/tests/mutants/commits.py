"""Steps with a broken commit: when it applies a step, its effects, or concurrent commits."""

import asyncio

from brrr_core.backend import Key, Message, Step
from brrr_core.errors import BackendClosedError
from mutants.kit import NO_DELAY, StepsOver, breaks, live


class _OneByOne(StepsOver):
    """Commits each step alone."""

    async def commit(self, steps, *, readings=()):
        return [await self.one(step, readings) for step in steps]

    async def one(self, step, readings):
        return (await self.inner.commit([step], readings=readings))[0]

    async def record(self, key):
        return (await self.store.read([key]))[0]


class _Rewritten(StepsOver):
    """Commits other steps instead."""

    def rewritten(self, step):
        raise NotImplementedError

    async def commit(self, steps, *, readings=()):
        return await self.inner.commit([self.rewritten(step) for step in steps], readings=readings)


@breaks("STEPS-APPLY-01")
class ComparesTheBeginningInSteps(_OneByOne):
    """A step is applied if each record begins with the expected bytes."""

    async def one(self, step, readings):
        found = [(key, await self.record(key), expected) for key, expected in step.expected]
        begins = [
            (key, now if now and expected and now.startswith(expected) else expected) for key, now, expected in found
        ]
        return await super().one(step._replace(expected=begins), readings)


@breaks("STEPS-APPLY-01", "STEPS-MODEL-01")
class AbsentIsEmptyInSteps(_OneByOne):
    """A step that expects an empty record is applied if the record is absent."""

    async def one(self, step, readings):
        expected = [(key, None if not each and await self.record(key) is None else each) for key, each in step.expected]
        return await super().one(step._replace(expected=expected), readings)


@breaks("STEPS-APPLY-01")
class ComparesTheFirst(_Rewritten):
    """A step compares only its first record."""

    def rewritten(self, step):
        return step._replace(expected=step.expected[:1])


@breaks("STEPS-APPLY-02", "STEPS-MODEL-01")
class CountsAnyway(_OneByOne):
    """A step that is not applied adds to its counters."""

    async def one(self, step, readings):
        done = await super().one(step, readings)
        if done is None:
            await self.inner.commit([Step((), step.counts)])
        return done


@breaks("STEPS-APPLY-02")
class AcknowledgesAnyway(_OneByOne):
    """A step that is not applied acknowledges its deliveries."""

    async def one(self, step, readings):
        done = await super().one(step, readings)
        await self.inner.commit([Step((), acks=step.acks)])
        return done


@breaks("STEPS-APPLY-02")
class PutsBeforeItCounts(_OneByOne):
    """A step over a limit puts its messages."""

    async def one(self, step, readings):
        if await super().one(Step(step.expected), ()) is None:
            return None
        leased = await super().one(Step((), writes=step.writes, messages=step.messages), readings)
        return leased if await super().one(step._replace(expected=(), writes=(), messages=()), ()) == [] else None


@breaks("STEPS-APPLY-03")
class NothingLeasedIsNone(StepsOver):
    """An applied step that leases no message returns None."""

    async def commit(self, steps, *, readings=()):
        return [leased or None for leased in await self.inner.commit(steps, readings=readings)]


@breaks("STEPS-APPLY-03", "STEPS-APPLY-05", "STEPS-MODEL-01")
class NeverDeletes(_Rewritten):
    """A mark of None changes nothing."""

    def rewritten(self, step):
        return step._replace(marks=[mark for mark in step.marks if mark[1] is not None])


@breaks("STEPS-APPLY-03", "STEPS-MODEL-01")
class EmptyMarkDeletes(_Rewritten):
    """A mark with an empty record deletes it."""

    def rewritten(self, step):
        return step._replace(marks=[(key, mark or None) for key, mark in step.marks])


@breaks("STEPS-APPLY-04", "STEPS-MODEL-01")
class ComparesAllFirst(_OneByOne):
    """All steps of a commit are compared with the records before it."""

    async def commit(self, steps, *, readings=()):
        fits = [await super(_OneByOne, self).commit([Step(step.expected)]) != [None] for step in steps]
        pairs = zip(steps, fits, strict=True)
        return [await self.one(step._replace(expected=()), readings) if fit else None for step, fit in pairs]


@breaks("STEPS-APPLY-04")
class StopsAtTheFirst(_OneByOne):
    """The steps after one that is not applied are not applied either."""

    async def commit(self, steps, *, readings=()):
        done = []
        for step in steps:
            done.append(None if None in done else await self.one(step, readings))
        return done


@breaks("STEPS-APPLY-05", "STEPS-MODEL-01")
class MarksFirst(_Rewritten):
    """Marks come before writes."""

    def rewritten(self, step):
        written = {key for key, _ in step.writes}
        return step._replace(marks=[mark for mark in step.marks if mark[0] not in written])


@breaks("STEPS-COUNT-01")
class LimitIsExclusive(_Rewritten):
    """A counter must stay below its limit."""

    def rewritten(self, step):
        return step._replace(counts=[count._replace(limit=count.limit - 1) for count in step.counts])


@breaks("STEPS-COUNT-01", "STEPS-RACE-03")
class LooksBeforeItAdds(_Rewritten):
    """A step is applied if each counter is below its limit before the addition of more than 1."""

    def rewritten(self, step):
        return step._replace(counts=[count._replace(limit=count.limit + count.amount) for count in step.counts])


@breaks("STEPS-COUNT-01", "STEPS-APPLY-03")
class CountsElsewhere(_Rewritten):
    """Steps have counters of their own."""

    def rewritten(self, step):
        return step._replace(counts=[count._replace(counter=f"steps/{count.counter}") for count in step.counts])


@breaks("STEPS-COUNT-02")
class CountsInTurn(_OneByOne):
    """A step adds to its counters in turn, until one is at its limit."""

    async def one(self, step, readings):
        for count in step.counts:
            if await super().one(Step(step.expected, [count]), ()) is None:
                return None
        return await super().one(step._replace(counts=()), readings)


@breaks("STEPS-PUT-01")
class PutsToOneTopic(_Rewritten):
    """All messages of a step go to the topic of the first."""

    def rewritten(self, step):
        return step._replace(messages=[each._replace(topic=step.messages[0].topic) for each in step.messages])


@breaks("STEPS-PUT-01")
class DropsEqualMessages(_Rewritten):
    """Equal messages of a step are put once."""

    def rewritten(self, step):
        return step._replace(messages=list(dict.fromkeys(step.messages)))


@breaks("STEPS-PUT-02")
class WakesNoReceiver(_OneByOne):
    """A message that a step puts wakes no receive."""

    async def one(self, step, readings):
        ready = [each for each in step.messages if not each.leased and not each.delay]
        kept = [each for each in step.messages if each not in ready]
        done = await super().one(step._replace(messages=kept), readings)
        for topic, body, *_ in ready if done is not None else ():
            (put,) = await self.inner.commit([Step((), messages=[Message(topic, body, leased=True)])])
            lease = put[0].delivery.receipt
            lease.live, lease.message.attempt = False, 0
            lease.topic._leased -= 1
            lease.topic.ready.append(lease.message)
        return done


@breaks("STEPS-PUT-03")
class IgnoresDelays(_Rewritten):
    """A message with a delay is ready immediately."""

    def rewritten(self, step):
        return step._replace(messages=[each._replace(delay=min(each.delay, 0)) for each in step.messages])


@breaks("STEPS-PUT-04", manifest=NO_DELAY)
class IgnoresUndeclaredDelays(IgnoresDelays):
    """A queue that does not declare `delay` puts the delayed message of a step immediately."""


@breaks("STEPS-PUT-05", "STEPS-SIZE-01")
class ChecksInTurn(_OneByOne):
    """Each step is checked when it is its turn, so that the steps before an invalid one are applied."""


@breaks("STEPS-SIZE-02")
class TakesAHundred(StepsOver):
    """Only the first hundred steps of a commit are applied."""

    async def commit(self, steps, *, readings=()):
        return await self.inner.commit(steps[:100], readings=readings) + [None] * len(steps[100:])


@breaks("STEPS-RACE-01", "STEPS-RACE-02", "STEPS-RACE-04", "STEPS-LINEAR-01")
class ComparesThenActs(_OneByOne):
    """A step reads, compares and then has its effects; other operations can come in between."""

    async def one(self, step, readings):
        found = await self.store.read([key for key, _ in step.expected])
        await asyncio.sleep(0)
        if found != [expected for _, expected in step.expected]:
            return None
        return await super().one(step._replace(expected=()), readings)


@breaks("STEPS-RACE-03")
class ReadsCountersFirst(_OneByOne):
    """A step reads its counters, compares them with the limits and then adds."""

    async def one(self, step, readings):
        for counter, amount, limit in step.counts:
            found = await self.cache.increment({counter: 0})
            await asyncio.sleep(0)
            if found[counter] + amount > limit:
                return None
        counts = [count._replace(limit=1_000_000) for count in step.counts]
        return await super().one(step._replace(counts=counts), readings)


@breaks("STEPS-RACE-04")
class ComparesInTurn(_OneByOne):
    """A step compares its records in turn; only the last comparison and the effects are atomic."""

    async def one(self, step, readings):
        for key, expected in step.expected[:-1]:
            if await self.record(key) != expected:
                return None
            await asyncio.sleep(0)
        return await super().one(step._replace(expected=step.expected[-1:]), readings)


@breaks("STEPS-CANCEL-01")
class PutsAfterwards(_OneByOne):
    """Messages are put after the other effects, and a cancellation can come in between."""

    async def one(self, step, readings):
        done = await super().one(step._replace(messages=(), acks=()), readings)
        await asyncio.sleep(0)
        return done if done is None else await super().one(Step((), messages=step.messages, acks=step.acks), readings)


@breaks("STEPS-CANCEL-01")
class KeepsCancelledLeases(StepsOver):
    """The lease of a message that a cancelled commit has put never ends."""

    async def commit(self, steps, *, readings=()):
        done = await self.inner.commit(steps, readings=readings)
        leases = [each.delivery.receipt for leased in done for each in leased or ()]
        for lease in leases:
            lease.deadline += 1_000
        await asyncio.sleep(0)
        for lease in leases:
            lease.deadline -= 1_000
        return done


@breaks("STEPS-CANCEL-02")
class CommitsSinkTogether(StepsOver):
    """The first of several commits sends all of them; if it is cancelled, so are the others."""

    def __init__(self, inner, roles):
        super().__init__(inner, roles)
        self.batch = None

    async def commit(self, steps, *, readings=()):
        if self.batch is not None:
            begin = len(self.batch[0])
            self.batch[0].extend(steps)
            return (await asyncio.shield(self.batch[1]))[begin : begin + len(steps)]
        batch = self.batch = (list(steps), asyncio.get_running_loop().create_future())
        try:
            await asyncio.sleep(0)
            self.batch = None
            batch[1].set_result(await self.inner.commit(batch[0], readings=readings))
        except BaseException:
            self.batch = None
            batch[1].cancel()
            raise
        return batch[1].result()[: len(steps)]


@breaks("STEPS-CLOSED-01")
class CommitsNothingWhenClosed(StepsOver):
    """A commit on a closed backend returns None for each step."""

    async def commit(self, steps, *, readings=()):
        try:
            return await self.inner.commit(steps, readings=readings)
        except BackendClosedError:
            return [None] * len(steps)


@breaks("STEPS-RECEIVE-05")
class TrustsItsCache(_OneByOne):
    """A step compares with the records that this backend wrote last."""

    def __init__(self, inner, roles):
        super().__init__(inner, roles)
        self.known: dict[Key, bytes | None] = {}

    async def one(self, step, readings):
        if any(self.known.get(key, expected) != expected for key, expected in step.expected):
            return None
        done = await super().one(step, readings)
        if done is not None:
            self.known.update([*step.writes, *step.marks])
        return done


@breaks("STEPS-ACK-01")
class StaleReceiptsPrevent(_OneByOne):
    """A step with a stale receipt is not applied."""

    async def one(self, step, readings):
        return await super().one(step, readings) if all(map(live, step.acks)) else None


@breaks("STEPS-ACK-01")
class AcknowledgesForOthers(_OneByOne):
    """A stale receipt acknowledges the delivery of the message's new receiver."""

    async def one(self, step, readings):
        done = await super().one(step, readings)
        for old in [each.receipt for each in step.acks if done is not None]:
            for _, _, lease in list(old.topic._leases):
                if lease.live and lease.message is old.message:
                    lease.topic.end(lease)
        return done
