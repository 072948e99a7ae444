"""The steps of the memory backend: each is applied with the lock of the space held."""

from collections.abc import Iterable, Sequence

from brrr_core.backend.checks import check_step
from brrr_core.backend.contracts import Delivery, Key
from brrr_core.backend.memory.queue import MemoryQueue
from brrr_core.backend.memory.space import MAX_BYTES, Session
from brrr_core.backend.memory.topic import Message
from brrr_core.backend.steps import Reading, Received, Step, Steps, split_message
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
            return [Received(delivery, self._read(delivery.body, readings)) for delivery in deliveries]

    def drained(self, topic: str) -> bool:
        """Whether the topic has no ready message."""
        with self._lock:
            return not self._space.topic(topic).ready

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Apply all steps in one turn of the event loop."""
        self._session.check()
        for step in steps:
            check_step(step, max_body=MAX_BYTES, max_value=MAX_BYTES)
        with self._lock:
            return [self._apply(step, readings) for step in steps]

    def _apply(self, step: Step, readings: Sequence[Reading]) -> list[Received] | None:
        expected, counts, writes, messages, marks, acks = step
        space, loop = self._space, self._session.loop
        after: dict[str, int] = {}
        records, counters = space.records, space.counters
        for key, record in expected:
            if records.get(key) != record:
                return None
        for counter, amount, limit in counts:
            after[counter] = count = counters.get(counter, 0) + amount
            if count > limit:
                return None
        counters.update(after)
        records.update(writes)
        leased: list[Delivery] = []
        now = space.clock()
        for topic, body, delay, lease in messages:
            found = space.topic(topic)
            if lease:
                deadline = now + self._queue.lease
                leased.append(found.put_leased(Message(body), deadline=deadline, current_loop=loop))
            else:
                found.put((Message(body),), now=now, delay=delay, current_loop=loop)
        for key, mark in marks:
            if mark is None:
                records.pop(key, None)
            else:
                records[key] = mark
        if space.watching:
            self._announce((*writes, *marks))
        self._queue.remove(acks)
        return [Received(delivery, self._read(delivery.body, readings)) for delivery in leased]

    def _announce(self, items: Iterable[tuple[Key, bytes | None]]) -> None:
        for key, record in items:
            if record is not None and is_awaited(key):
                self._space.announce(key.call_hash)

    def _read(self, body: bytes, readings: Sequence[Reading]) -> list[bytes | None] | None:
        parts = split_message(body)
        if parts is None:
            return None
        (root_id, call_hash), records = parts, self._space.records
        return [
            records.get((kind, prefix + (call_hash if part == "call_hash" else root_id)))
            for kind, prefix, part in readings
        ]
