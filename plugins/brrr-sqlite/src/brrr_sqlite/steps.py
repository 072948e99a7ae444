"""The steps: each call is one operation of the group commit, so it shares one transaction with concurrent ones."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Sequence
from sqlite3 import Connection
from typing import NamedTuple

from brrr_core.backend import (
    Delivery,
    Reading,
    Received,
    Step,
    Steps,
    check_step,
    is_awaited,
)
from brrr_sqlite import messages, records
from brrr_sqlite.clock import Clock, to_microseconds
from brrr_sqlite.expiry import Expiry
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.options import MAX_BYTES
from brrr_sqlite.queue import SqliteQueue, receipts_of
from brrr_sqlite.receivers import Leasing

__all__ = ["SqliteSteps"]


class Applied(NamedTuple):
    """The outcome of each step, and all messages that the steps leased."""

    outcomes: list[list[Received] | None]
    deliveries: list[Delivery]


class SqliteSteps(Steps):
    """Steps are stored as a whole: all steps of one `commit`, or none if it fails."""

    def __init__(
        self, commits: GroupCommit, queue: SqliteQueue, *, clock: Clock, expiry: Expiry, loop: AbstractEventLoop
    ) -> None:
        self._commits = commits
        self._queue = queue
        self._clock = clock
        self._expiry = expiry
        self._loop = loop
        self._drained: dict[str, bool] = {}

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        """Receive and read in one transaction. If the caller is cancelled, undo the leases immediately."""
        found = await self._queue.claim(topic, limit=limit, wait=wait, readings=tuple(readings))
        self._drained[topic] = found.due_in is None or found.due_in > 0
        return [Received(*pair) for pair in zip(found.deliveries, found.records, strict=True)]

    def drained(self, topic: str) -> bool:
        """Whether the last claim left no ready message."""
        return self._drained.get(topic, False)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Apply steps in one transaction. If the caller is cancelled, undo the leases immediately."""
        steps, readings = tuple(steps), tuple(readings)
        if not steps:
            return []
        for step in steps:
            check_step(step, max_body=MAX_BYTES, max_value=MAX_BYTES)

        def work(connection: Connection) -> Applied:
            outcomes = [self._apply(connection, step, readings) for step in steps]
            leased = [received.delivery for outcome in outcomes if outcome for received in outcome]
            return Applied(outcomes, leased)

        topics = {message.topic for step in steps for message in step.messages if not message.leased}
        future: Future[Applied] = self._loop.create_future()
        receivers = self._commits.receivers
        written = (item for step in steps for item in (*step.writes, *step.marks))
        values = {key.call_hash for key, record in written if record is not None and is_awaited(key)}
        leasing = Leasing(receivers, future, write=work, topics=topics, values=values)
        return (await self._commits.lease(leasing)).outcomes

    def _apply(self, connection: Connection, step: Step, readings: Sequence[Reading]) -> list[Received] | None:
        """Apply a step, if everything is as it expects."""
        keys, expected = [key for key, _ in step.expected], [record for _, record in step.expected]
        if records.read(connection, keys) != expected:
            return None
        if step.counts:
            counters = records.counters(connection, [count.counter for count in step.counts])
            if any(counters[counter] + amount > limit for counter, amount, limit in step.counts):
                return None
            records.add(connection, [(count.counter, count.amount) for count in step.counts])
        records.write(connection, step.writes, self._expiry)
        now = self._clock()
        ready = [
            (each.topic, now + to_microseconds(each.delay), each.body) for each in step.messages if not each.leased
        ]
        messages.put(connection, ready)
        until = now + self._queue.lease_us
        leased = [
            messages.put_leased(connection, each.topic, each.body, until=until) for each in step.messages if each.leased
        ]
        records.write(connection, step.marks, self._expiry)
        messages.ack(connection, receipts_of(step.acks), now=now)
        return [Received(each, records.read_with(connection, each, readings, self._expiry)) for each in leased]
