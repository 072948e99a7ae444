"""The queue role: messages of topics, with leases, delays and dead letters."""

from asyncio import AbstractEventLoop
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Final

from brrr_core.backend import (
    DeadLetter,
    Delivery,
    Queue,
    QueueStats,
    Reading,
    check_bodies,
    check_delay,
    check_limit,
    check_topic,
    check_wait,
)
from brrr_sqlite import messages, records
from brrr_sqlite.clock import Clock, to_microseconds
from brrr_sqlite.expiry import Expiry
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.inspection import SqliteInspector, SqliteLetters
from brrr_sqlite.messages import Receipt
from brrr_sqlite.options import MAX_BYTES
from brrr_sqlite.receivers import Claim, Found
from brrr_sqlite.schema import escape_surrogates
from brrr_sqlite.transactions import WRITE_NEEDED, WriteNeeded

__all__ = ["SqliteQueue", "receipts_of"]


class SqliteQueue(Queue):
    """Each method is one operation of the group commit, which reads the clock when it runs, not when it is called."""

    def __init__(
        self, commits: GroupCommit, *, lease: float, clock: Clock, expiry: Expiry, loop: AbstractEventLoop
    ) -> None:
        self.lease = lease
        self.lease_us: Final = to_microseconds(lease)
        self._commits = commits
        self._clock = clock
        self._expiry = expiry
        self._loop = loop
        self.letters = SqliteLetters(commits, clock=clock)
        self.inspector = SqliteInspector(commits, clock=clock)

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add all messages, or none."""
        check_topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BYTES)
        if not bodies:
            return
        rows, delay_us = tuple(bodies), to_microseconds(delay)

        def work(connection: Connection) -> None:
            due = self._clock() + delay_us
            messages.put(connection, [(topic, due, body) for body in rows])

        await self._commits.write(work, topics=(topic,))

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Receive the oldest messages. If the caller is cancelled, undo their leases immediately."""
        return (await self.claim(topic, limit=limit, wait=wait)).deliveries

    async def claim(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading] | None = None) -> Found:
        """Receive messages. With `readings`, also read their records in the same transaction."""
        check_topic(topic)
        check_limit(limit)
        check_wait(wait)

        def peek(connection: Connection) -> Found | WriteNeeded:
            now, due = self._clock(), messages.due(connection, topic)
            if due is not None and due <= now:
                return WRITE_NEEDED
            return Found([], None if due is None else due - now)

        def work(connection: Connection) -> Found:
            now = self._clock()
            deliveries = messages.claim(connection, topic, limit, now=now, until=now + self.lease_us)
            read: list[list[bytes | None] | None] = []
            if readings is not None:
                read = [records.read_with(connection, each, readings, self._expiry) for each in deliveries]
            due = messages.due(connection, topic)
            return Found(deliveries, None if due is None else due - now, read)

        deadline, future = self._loop.time() + wait, self._loop.create_future()
        receivers = self._commits.receivers
        return await self._commits.lease(
            Claim(receivers, future, read=peek, write=work, topic=topic, deadline=deadline)
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries: remove their messages for good."""
        if receipts := receipts_of(deliveries):
            await self._commits.write(lambda connection: messages.ack(connection, receipts, now=self._clock()))

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Make messages ready again, behind those that are ready now."""
        check_delay(delay)
        delay_us = to_microseconds(delay)
        if receipts := receipts_of(deliveries):

            def work(connection: Connection) -> None:
                now = self._clock()
                messages.release(connection, receipts, now=now, due=now + delay_us)

            await self._commits.write(work, topics={delivery.topic for delivery in deliveries})

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart leases."""
        if receipts := receipts_of(deliveries):

            def work(connection: Connection) -> None:
                now = self._clock()
                messages.extend(connection, receipts, now=now, until=now + self.lease_us)

            await self._commits.write(work)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        reason = escape_surrogates(reason)
        for receipt in receipts_of((delivery,)):

            def work(connection: Connection, receipt: Receipt = receipt) -> None:
                messages.bury(connection, receipt, reason, now=self._clock(), wall=self._clock.wall())

            await self._commits.write(work)

    async def stats(self, topic: str) -> QueueStats:
        """Return exact counts, all of one moment."""
        check_topic(topic)
        return await self._commits.read(lambda connection: messages.count(connection, topic, now=self._clock()))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        check_topic(topic)
        check_limit(limit)
        return await self._commits.read(lambda connection: messages.dead(connection, topic, limit))

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        check_topic(topic)
        check_limit(limit)
        return await self._commits.write(
            lambda connection: messages.redrive(connection, topic, limit, now=self._clock()), topics=(topic,)
        )

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        check_topic(topic)
        check_limit(limit)
        return await self._commits.write(lambda connection: messages.drop(connection, topic, limit))


def receipts_of(deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Return the receipts of this kind of backend. Others count as stale."""
    return [delivery.receipt for delivery in deliveries if isinstance(delivery.receipt, Receipt)]
