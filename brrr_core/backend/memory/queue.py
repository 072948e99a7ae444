"""The queue of the memory backend: the contract's operations on topics, and receivers that wait."""

from asyncio import sleep
from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from time import time

from brrr_core.backend.checks import check_bodies, check_delay, check_limit, check_topic, check_wait
from brrr_core.backend.contracts import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.memory.options import MAX_BYTES
from brrr_core.backend.memory.space import Session
from brrr_core.backend.memory.topic import Lease, Message, Topic
from brrr_core.backend.memory.waiting import Waiter

__all__ = ["MemoryQueue"]


class MemoryQueue(Queue):
    """Messages in deques and heaps.

    Nothing but `receive` ever suspends. What it claims it returns without another await, so a cancelled `receive` has
    claimed nothing, and hands the wake-up that it may have got to the next receiver.
    """

    def __init__(self, session: Session, lease: float) -> None:
        self.lease = lease
        self._session = session
        self._space = session.space
        self._lock = session.space.lock
        self._clock = session.space.clock
        self._loop = session.loop
        self._waiting: dict[Waiter, Topic] = {}

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages and wake as many receivers as can take them, in whatever loop they wait."""
        self._session.check()
        check_topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BYTES)
        if not bodies:
            return
        with self._lock:
            self._space.topic(topic).put(map(Message, bodies), now=self._clock(), delay=delay, here=self._loop)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take messages, oldest first; wait for one by the time of the loop, not by the clock of the space."""
        check_topic(topic)
        check_limit(limit)
        check_wait(wait)
        deadline = self._loop.time() + wait
        await sleep(0)  # a consumer that never runs dry must not starve the others of its loop
        while True:
            with self._lock:
                self._session.check()
                place = self._space.topic(topic)
                taken = place.claim(limit, now=self._clock(), lease=self.lease, here=self._loop)
                if taken or self._loop.time() >= deadline:
                    self._space.tidy(place)
                    return taken
                waiter = self._join(place, limit, deadline)
            try:
                await waiter.future
            except BaseException:
                with self._lock:
                    self._leave(waiter)
                raise
            with self._lock:
                waiter.woken = False  # we look ourselves
                self._leave(waiter)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        self._session.check()
        with self._lock:
            for hold in self._held(deliveries):
                hold.topic.end(hold)
                self._space.tidy(hold.topic)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Give messages back; they queue up behind those that are ready."""
        self._session.check()
        check_delay(delay)
        now = self._clock()
        with self._lock:
            for hold in self._held(deliveries):
                hold.topic.put((hold.topic.end(hold),), now=now, delay=delay, here=self._loop)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start leases anew."""
        self._session.check()
        with self._lock:
            deadline = self._clock() + self.lease
            for hold in self._held(deliveries):
                hold.topic.extend(hold, deadline=deadline, here=self._loop)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        self._session.check()
        with self._lock:
            for hold in self._held((delivery,)):
                message = hold.topic.end(hold)
                letter = DeadLetter(hold.topic.name, message.body, reason, message.attempt, time())
                hold.topic.dead.append(letter)

    async def stats(self, topic: str) -> QueueStats:
        """Exact counts."""
        self._session.check()
        check_topic(topic)
        with self._lock:
            place = self._space.topics.get(topic)
            return place.stats(self._clock(), self._loop) if place else QueueStats(0, 0, 0, 0)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        self._session.check()
        check_topic(topic)
        check_limit(limit)
        with self._lock:
            place = self._space.topics.get(topic)
            return list(islice(place.dead, limit)) if place else []

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        return self._take_dead(topic, limit, again=True)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return self._take_dead(topic, limit, again=False)

    def close(self) -> None:
        """End every waiting `receive` with `BackendClosedError`, and leave no timer behind."""
        with self._lock:
            self._session.closed = True
            for waiter in list(self._waiting):
                self._leave(waiter)
                waiter.wake()

    def _take_dead(self, topic: str, limit: int, *, again: bool) -> int:
        self._session.check()
        check_topic(topic)
        check_limit(limit)
        with self._lock:
            place = self._space.topics.get(topic)
            if place is None:
                return 0
            letters = [place.dead.popleft() for _ in range(min(limit, len(place.dead)))]
            if again:
                fresh = [Message(letter.body) for letter in letters]
                place.put(fresh, now=self._clock(), delay=0, here=self._loop)
            self._space.tidy(place)
            return len(letters)

    def _held(self, deliveries: Sequence[Delivery]) -> Iterator[Lease]:
        """The leases that still hold. Lazy: an earlier item of the batch may settle a later one."""
        now, topics = self._clock(), self._space.topics
        for delivery in deliveries:
            hold = delivery.receipt
            if (
                isinstance(hold, Lease)
                and hold.live
                and hold.deadline > now
                and topics.get(hold.topic.name) is hold.topic  # not a receipt of another space
            ):
                yield hold

    def _join(self, topic: Topic, limit: int, deadline: float) -> Waiter:
        waiter = Waiter(self._loop, limit)
        if deadline != inf:
            waiter.timer = self._loop.call_at(deadline, waiter.wake)
        topic.line.join(waiter, topic.due())
        self._waiting[waiter] = topic
        return waiter

    def _leave(self, waiter: Waiter) -> None:
        topic = self._waiting.pop(waiter, None)
        if topic is None:  # `close` was first
            return
        if waiter.timer is not None:
            waiter.timer.cancel()
        topic.line.leave(waiter)
        if waiter.woken:
            topic.line.wake(min(waiter.limit, len(topic.ready)), self._loop)
        self._space.tidy(topic)
