"""The steps of the memory backend: each is applied with the lock of the space held."""

from collections.abc import Sequence

from brrr_core.backend.checks import check_bodies, check_delay, check_topic, check_values
from brrr_core.backend.contracts import Key
from brrr_core.backend.memory.queue import MemoryQueue
from brrr_core.backend.memory.space import MAX_BYTES, Session
from brrr_core.backend.memory.topic import Message
from brrr_core.backend.steps import Reading, Received, Step, Steps, keys_of
from brrr_core.backend.watches import is_awaited

__all__ = ["MemorySteps"]


class MemorySteps(Steps):
    """Steps on the dicts and deques of one space."""

    def __init__(self, session: Session, queue: MemoryQueue) -> None:
        self._session = session
        self._queue = queue
        self._space = session.space
        self._lock = session.space.lock

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        """Receive, then read the records of the messages."""
        deliveries = await self._queue.receive(topic, limit=limit, wait=wait)
        with self._lock:
            return [Received(delivery, self._read(keys_of(delivery.body, readings))) for delivery in deliveries]

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Apply all steps in one turn of the event loop."""
        self._session.check()
        for step in steps:
            _check(step)
        with self._lock:
            return [self._apply(step, readings) for step in steps]

    def _apply(self, step: Step, readings: Sequence[Reading]) -> list[Received] | None:
        records, counters, space, loop = self._space.records, self._space.counters, self._space, self._session.loop
        if any(records.get(key) != expected for key, expected in step.expected):
            return None
        counts = {count.counter: counters.get(count.counter, 0) + count.amount for count in step.counts}
        if any(counts[count.counter] > count.limit for count in step.counts):
            return None
        counters.update(counts)
        records.update(step.writes)
        now, leased = space.clock(), list[Received]()
        for topic, body, delay, lease in step.messages:
            found = space.topic(topic)
            if lease:
                deadline = now + self._queue.lease
                delivery = found.put_leased(Message(body), deadline=deadline, current_loop=loop)
                leased.append(Received(delivery, None))
            else:
                found.put((Message(body),), now=now, delay=delay, current_loop=loop)
        for key, mark in step.marks:
            if mark is None:
                records.pop(key, None)
            else:
                records[key] = mark
        for key, record in (*step.writes, *step.marks):
            if record is not None and is_awaited(key):
                space.announce(key.call_hash)
        self._queue.remove(step.acks)
        return [Received(delivery, self._read(keys_of(delivery.body, readings))) for delivery, _ in leased]

    def _read(self, keys: Sequence[Key] | None) -> list[bytes | None] | None:
        return None if keys is None else [self._space.records.get(key) for key in keys]


def _check(step: Step) -> None:
    for message in step.messages:
        check_topic(message.topic)
        check_delay(message.delay)
        check_bodies(message.topic, (message.body,), MAX_BYTES)
    check_values((record for _, record in (*step.writes, *step.marks)), MAX_BYTES)
