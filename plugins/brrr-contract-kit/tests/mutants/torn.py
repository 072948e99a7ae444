"""Backends that do in several steps what an interruption must not cut: of the memory backend, and of SQLite files."""

import asyncio
from dataclasses import replace
from time import time

from brrr_core.backend import DeadLetter, Step
from brrr_sqlite.records import KINDS
from mutants.files import Meddles, of_file
from mutants.kit import CacheOver, QueueOver, StepsOver, StoreOver, breaks, live

GAP = 0.01
"""Seconds between two transactions."""


@breaks("QUEUE-CANCEL-07")
class BuriesByDeleting(QueueOver):
    """Dead-lettering deletes the message, and then adds the dead letter."""

    async def bury(self, delivery, reason):
        held = live(delivery)
        await self.inner.ack([delivery])
        await asyncio.sleep(0)
        if held:
            letter = DeadLetter(delivery.topic, delivery.body, reason, delivery.attempt, time())
            space = self.inner._space
            space.topic(delivery.topic).dead.append((next(space.dead_numbers), letter))


@breaks("QUEUE-CANCEL-07")
class RedrivesByDropping(QueueOver):
    """A redrive drops the dead letters, and then puts their messages."""

    async def redrive(self, topic, *, limit):
        letters = await self.inner.dead(topic, limit=limit)
        await self.inner.drop(topic, limit=limit)
        await asyncio.sleep(0)
        await self.inner.put(topic, [each.body for each in letters])
        return len(letters)


@breaks("STORE-CANCEL-03")
class WritesLargeValuesInParts(StoreOver):
    """A value of more than a megabyte is written in two parts."""

    async def write(self, items):
        large = [(key, value[:1_000_000]) for key, value in items if len(value) > 1_000_000]
        if large:
            await self.inner.write(large)
            await asyncio.sleep(0)
        await self.inner.write(items)


class _Torn(Meddles):
    """Uses other roles than the SQLite backend, each with its own transactions."""

    queue_kind = store_kind = cache_kind = steps_kind = None

    async def start(self):
        roles = await super().start()
        kinds = {role: getattr(self, f"{role}_kind") for role in ("queue", "store", "cache", "steps")}
        torn = {role: kind(getattr(roles, role), self) for role, kind in kinds.items() if kind is not None}
        return replace(roles, **torn)


class _TornQueue(QueueOver):
    def __init__(self, inner, backend):
        super().__init__(inner)
        self.sql = backend.change

    async def again(self, deliveries, due, *, held):
        """Delete the messages, and add them again, with their leases if they are `held`."""
        for each in deliveries:
            message, lease = each.receipt
            where = (message, lease, self.inner._clock())
            if self.sql("DELETE FROM message WHERE id = ? AND lease = ? AND due > ? RETURNING id", where):
                await asyncio.sleep(GAP)
                row = (message, each.topic, due, lease if held else 0, each.attempt, each.body)
                self.sql("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", row)


@of_file("QUEUE-CANCEL-07", "QUEUE-PROC-06")
class BuriesInTwoTransactions(_Torn):
    """Dead-lettering deletes the message in one transaction, and adds the dead letter in another one."""

    class queue_kind(_TornQueue):  # noqa: N801 - replaces an attribute of that name
        async def bury(self, delivery, reason):
            where = (*delivery.receipt, self.inner._clock())
            if self.sql("DELETE FROM message WHERE id = ? AND lease = ? AND due > ? RETURNING id", where):
                await asyncio.sleep(GAP)
                row = (delivery.topic, delivery.body, reason, delivery.attempt, self.inner._clock.wall())
                self.sql("INSERT INTO dead (topic, body, reason, attempt, buried_at) VALUES (?, ?, ?, ?, ?)", row)


@of_file("QUEUE-CANCEL-07", "QUEUE-PROC-06")
class RedrivesInTwoTransactions(_Torn):
    """A redrive deletes the dead letters in one transaction, and puts their messages in another one."""

    class queue_kind(_TornQueue):  # noqa: N801 - replaces an attribute of that name
        async def redrive(self, topic, *, limit):
            oldest = "SELECT id FROM dead WHERE topic = ? ORDER BY id LIMIT ?"
            rows = self.sql(f"DELETE FROM dead WHERE id IN ({oldest}) RETURNING body", (topic, limit))
            await asyncio.sleep(GAP)
            await self.inner.put(topic, [body for (body,) in rows])
            return len(rows)


@of_file("QUEUE-CANCEL-07", "QUEUE-PROC-06")
class ExtendsInTwoParts(_Torn):
    """An extension deletes the message, and adds it again with a later end."""

    class queue_kind(_TornQueue):  # noqa: N801 - replaces an attribute of that name
        async def extend(self, deliveries):
            await self.again(deliveries, self.inner._clock() + self.inner.lease_us, held=True)


@of_file("QUEUE-CANCEL-07", "QUEUE-PROC-06")
class ReleasesInTwoParts(_Torn):
    """A release without a delay deletes the message, and adds it again."""

    class queue_kind(_TornQueue):  # noqa: N801 - replaces an attribute of that name
        async def release(self, deliveries, *, delay=0):
            if delay:
                await self.inner.release(deliveries, delay=delay)
            else:
                await self.again(deliveries, self.inner._clock(), held=False)


@of_file("QUEUE-CANCEL-07", "QUEUE-PROC-06")
class PutsInTwoParts(_Torn):
    """A put adds empty messages, and then sets their bodies."""

    class queue_kind(_TornQueue):  # noqa: N801 - replaces an attribute of that name
        async def put(self, topic, bodies, *, delay=0):
            due = self.inner._clock() + int(delay * 1e6)
            row = (topic, due, b"")
            ids = [
                self.sql("INSERT INTO message (topic, due, body) VALUES (?, ?, ?) RETURNING id", row) for _ in bodies
            ]
            await asyncio.sleep(GAP)
            for body, ((message,),) in zip(bodies, ids, strict=True):
                self.sql("UPDATE message SET body = ? WHERE id = ?", (body, message))


@of_file("STORE-CANCEL-03", "STORE-PROC-01")
class WritesByDeleting(_Torn):
    """A write deletes the records, and then adds the new ones."""

    class store_kind(StoreOver):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, inner, backend):
            super().__init__(inner)
            self.sql = backend.change

        async def write(self, items):
            for key, _ in items:
                self.sql("DELETE FROM record WHERE hash = ? AND kind = ?", (key.call_hash, KINDS[key.kind]))
            await asyncio.sleep(GAP)
            await self.inner.write(items)


@of_file("CACHE-CANCEL-01", "CACHE-PROC-01")
class CountsByDeleting(_Torn):
    """An increment deletes the counters, and then adds them with their new numbers."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, inner, backend):
            super().__init__(inner)
            self.sql = backend.change

        async def increment(self, amounts):
            before = await self.inner.increment(dict.fromkeys(amounts, 0))
            if any(amounts.values()):
                for name in amounts:
                    self.sql("DELETE FROM counter WHERE name = ?", (name,))
                await asyncio.sleep(GAP)
                amounts = {name: before[name] + amount for name, amount in amounts.items()}
            return await self.inner.increment(amounts)


@of_file("STEPS-PROC-02", "STEPS-CANCEL-01")
class CommitsInTwoTransactions(_Torn):
    """A step puts its messages and sets its marks in a second transaction."""

    class steps_kind(StepsOver):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, inner, backend):
            self.inner = inner

        async def commit(self, steps, *, readings=()):
            done = []
            for step in steps:
                first = await self.inner.commit([step._replace(messages=(), marks=(), acks=())])
                if first != [None]:
                    await asyncio.sleep(GAP)
                    rest = Step((), messages=step.messages, marks=step.marks, acks=step.acks)
                    first = await self.inner.commit([rest], readings=readings)
                done += first
            return done
