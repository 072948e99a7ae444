"""The queue of the memory backend: the operations of the contract, and the wait of `receive`."""

from asyncio import sleep
from collections.abc import Iterator, Sequence
from math import inf
from time import time

from brrr_core.backend.checks import check_bodies, check_delay, check_limit, check_topic, check_wait
from brrr_core.backend.contracts import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.memory.inspection import MemoryInspector
from brrr_core.backend.memory.letters import MemoryLetters, Numbered, Removal
from brrr_core.backend.memory.space import MAX_BYTES, Session
from brrr_core.backend.memory.topic import Lease, Message, Topic
from brrr_core.backend.memory.waiting import Waiter

__all__ = ["MemoryQueue"]


class MemoryQueue(Queue):
    """Messages in deques and heaps.

    Only `receive` suspends. After it claims messages, it returns without another await. So a cancelled `receive` has
    claimed nothing, and if it was woken, it passes the wake-up on to the next receiver.
    """

    def __init__(self, session: Session, lease: float) -> None:
        self.lease = lease
        self._session = session
        self._space = session.space
        self._lock = session.space.lock
        self._clock = session.space.clock
        self._loop = session.loop
        self._waiting: dict[Waiter, Topic] = {}
        self.letters = MemoryLetters(self._dead_letters, self._remove_dead)
        self.inspector = MemoryInspector(session)

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages, and wake enough receivers to take them, in any event loop."""
        self._session.check()
        check_topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BYTES)
        if not bodies:
            return
        with self._lock:
            self._space.topic(topic).put(map(Message, bodies), now=self._clock(), delay=delay, current_loop=self._loop)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take messages, oldest first. Waits by the time of the event loop, not by the clock of the space."""
        check_topic(topic)
        check_limit(limit)
        check_wait(wait)
        deadline = self._loop.time() + wait
        await sleep(0)  # a consumer that always finds messages must not starve other tasks
        while True:
            with self._lock:
                self._session.check()
                found = self._space.topic(topic)
                taken = found.claim(limit, now=self._clock(), lease_seconds=self.lease, current_loop=self._loop)
                if taken or self._loop.time() >= deadline:
                    self._space.forget_if_unused(found)
                    return taken
                waiter = self._join(found, limit, deadline)
            try:
                await waiter.future
            except BaseException:
                with self._lock:
                    self._leave(waiter)
                raise
            with self._lock:
                waiter.woken = False  # the next turn of this loop uses the wake-up
                self._leave(waiter)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        self._session.check()
        with self._lock:
            self.remove(deliveries)

    def remove(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge with the lock held."""
        for lease in self._live_leases(deliveries):
            lease.topic.end(lease)
            self._space.forget_if_unused(lease.topic)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Make messages ready again, behind those that are ready already."""
        self._session.check()
        check_delay(delay)
        now = self._clock()
        with self._lock:
            for lease in self._live_leases(deliveries):
                lease.topic.put((lease.topic.end(lease),), now=now, delay=delay, current_loop=self._loop)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart leases."""
        self._session.check()
        with self._lock:
            deadline = self._clock() + self.lease
            for lease in self._live_leases(deliveries):
                lease.topic.extend(lease, deadline=deadline, current_loop=self._loop)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        self._session.check()
        with self._lock:
            for lease in self._live_leases((delivery,)):
                message = lease.topic.end(lease)
                dead_letter = DeadLetter(lease.topic.name, message.body, reason, message.attempt, time())
                lease.topic.dead.append((next(self._space.dead_numbers), dead_letter))

    async def stats(self, topic: str) -> QueueStats:
        """Count the messages exactly."""
        self._session.check()
        check_topic(topic)
        with self._lock:
            found = self._space.topics.get(topic)
            return found.stats(self._clock(), self._loop) if found else QueueStats(0, 0, 0, 0)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        check_limit(limit)
        return [letter for _, letter in self._dead_letters(topic)[:limit]]

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        check_limit(limit)
        return self._remove_dead(topic, lambda dead: (dead[:limit], dead[limit:]), True)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        check_limit(limit)
        return self._remove_dead(topic, lambda dead: (dead[:limit], dead[limit:]), False)

    def close(self) -> None:
        """End every waiting `receive` with `BackendClosedError`, and cancel its timer."""
        with self._lock:
            self._session.closed = True
            for waiter in list(self._waiting):
                self._leave(waiter)
                waiter.wake()

    def _dead_letters(self, topic: str) -> Numbered:
        self._session.check()
        check_topic(topic)
        with self._lock:
            found = self._space.topics.get(topic)
            return found.dead if found else []

    def _remove_dead(self, topic: str, split: Removal, again: bool) -> int:
        self._session.check()
        check_topic(topic)
        with self._lock:
            found = self._space.topics.get(topic)
            if found is None:
                return 0
            removed, found.dead = split(found.dead)
            if again:
                fresh = [Message(dead_letter.body) for _, dead_letter in removed]
                found.put(fresh, now=self._clock(), delay=0, current_loop=self._loop)
            self._space.forget_if_unused(found)
            return len(removed)

    def _live_leases(self, deliveries: Sequence[Delivery]) -> Iterator[Lease]:
        """Yield the leases that have not ended. It is lazy, because one item of a batch may settle a later one."""
        now, topics = self._clock(), self._space.topics
        for delivery in deliveries:
            lease = delivery.receipt
            if (
                isinstance(lease, Lease)
                and lease.live
                and lease.deadline > now
                and topics.get(lease.topic.name) is lease.topic  # otherwise it is a receipt of another space
            ):
                yield lease

    def _join(self, topic: Topic, limit: int, deadline: float) -> Waiter:
        waiter = Waiter(self._loop, limit)
        if deadline != inf:
            waiter.timer = self._loop.call_at(deadline, waiter.wake)
        topic.waiters.join(waiter, topic.next_due())
        self._waiting[waiter] = topic
        return waiter

    def _leave(self, waiter: Waiter) -> None:
        topic = self._waiting.pop(waiter, None)
        if topic is None:  # `close` removed it already
            return
        if waiter.timer is not None:
            waiter.timer.cancel()
        topic.waiters.leave(waiter)
        if waiter.woken:
            topic.waiters.wake(min(waiter.limit, len(topic.ready)), self._loop)
        self._space.forget_if_unused(topic)
