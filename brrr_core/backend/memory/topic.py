"""One topic's messages: ready, delayed, leased or dead. Plain data; the caller holds the lock of the space.

Every operation is O(1) or O(log n) a message. What is leased stands in a heap by the time that its lease runs out; what
was acked or extended is not searched for there, but skipped when it comes to the top, and swept when it is the most of
the heap.
"""

from asyncio import AbstractEventLoop, get_running_loop
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from threading import Lock

from brrr_core.backend.contracts import DeadLetter, Delivery, QueueStats
from brrr_core.backend.memory.waiting import Alarm, Line

__all__ = ["Lease", "Message", "Topic"]

SWEEP = 64
"""A heap of leases is swept when it has more dead entries than live ones and this many."""


class Message:
    """A body, and how many times it was delivered."""

    __slots__ = ("attempt", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.attempt = 0


class Lease:
    """One delivery's hold on its message, and its receipt: from `claim` until it is settled or runs out.

    Attributes:
        deadline: When it runs out, by the space's clock.
        entry: The time under which it stands in the heap. Not later than `deadline`.
        live: Not settled, and not noticed to have run out.
    """

    __slots__ = ("deadline", "entry", "live", "message", "topic")

    def __init__(self, topic: "Topic", message: Message, deadline: float) -> None:
        self.topic = topic
        self.message = message
        self.deadline = deadline
        self.entry = deadline
        self.live = True


class Topic:
    """The messages of one topic, and the line of receivers that wait for them."""

    __slots__ = ("_clock", "_delayed", "_leased", "_leases", "_lock", "_serial", "dead", "line", "name", "ready")

    def __init__(self, name: str, clock: Callable[[], float], lock: Lock) -> None:
        self.name = name
        self.ready: deque[Message] = deque()
        self.dead: deque[DeadLetter] = deque()
        self.line = Line(clock, self._ring)
        self._clock = clock
        self._lock = lock
        self._delayed: list[tuple[float, int, Message]] = []
        self._leases: list[tuple[float, int, Lease]] = []
        self._leased = 0
        self._serial = count()

    @property
    def unused(self) -> bool:
        """Nothing is in it, and nobody waits for it."""
        return not (self.ready or self._leased or self._delayed or self.dead or self.line)

    def put(self, messages: Iterable[Message], *, now: float, delay: float, here: AbstractEventLoop) -> None:
        """Add messages, ready after `delay` seconds, and wake who waits for them."""
        if delay > 0:
            due = now + delay
            for message in messages:
                heappush(self._delayed, (due, next(self._serial), message))
            self.line.expect(due, here)
            return
        before = len(self.ready)
        self.ready.extend(messages)
        self.line.wake(len(self.ready) - before, here)

    def claim(self, limit: int, *, now: float, lease: float, here: AbstractEventLoop) -> list[Delivery]:
        """Lease up to `limit` ready messages for `lease` seconds."""
        due = self._promote(now)
        ready, deadline = self.ready, now + lease
        deliveries: list[Delivery] = []
        for _ in range(min(limit, len(ready))):
            message = ready.popleft()
            message.attempt += 1
            hold = Lease(self, message, deadline)
            heappush(self._leases, (deadline, next(self._serial), hold))
            deliveries.append(Delivery(self.name, message.body, hold, message.attempt))
        if due:  # what fell due and was not taken here is for others
            self.line.wake(min(due, len(ready)), here)
        if deliveries:
            self._leased += len(deliveries)
            self.line.expect(deadline, here)
        return deliveries

    def end(self, hold: Lease) -> Message:
        """End a live lease: its message belongs to the caller."""
        hold.live = False
        self._leased -= 1
        if len(self._leases) > 2 * self._leased + SWEEP:
            self._leases = [entry for entry in self._leases if entry[2].live]
            heapify(self._leases)
        return hold.message

    def extend(self, hold: Lease, *, deadline: float, here: AbstractEventLoop) -> None:
        """Let a live lease run out at `deadline` instead."""
        hold.deadline = deadline
        if deadline < hold.entry:  # only where backends of different leases share the space
            hold.entry = deadline
            heappush(self._leases, (deadline, next(self._serial), hold))
            self.line.expect(deadline, here)

    def due(self) -> float:
        """When the next delayed or leased message may become ready, by the space's clock. `inf`: never."""
        delayed = self._delayed[0][0] if self._delayed else inf
        leased = self._leases[0][0] if self._leases else inf
        return min(delayed, leased)

    def stats(self, now: float, here: AbstractEventLoop) -> QueueStats:
        """What the topic holds now."""
        self.line.wake(self._promote(now), here)
        return QueueStats(len(self.ready), self._leased, len(self._delayed), len(self.dead))

    def _promote(self, now: float) -> int:
        """Make ready what has fallen due. How many; the caller wakes who waits for them."""
        before = len(self.ready)
        while self._delayed and self._delayed[0][0] <= now:
            self.ready.append(heappop(self._delayed)[2])
        while self._leases and self._leases[0][0] <= now:
            entry, _, hold = heappop(self._leases)
            if not hold.live or entry != hold.entry:
                continue
            if hold.deadline > now:
                hold.entry = hold.deadline
                heappush(self._leases, (hold.entry, next(self._serial), hold))
                continue
            hold.live = False
            self._leased -= 1
            self.ready.append(hold.message)
        return len(self.ready) - before

    def _ring(self, alarm: Alarm) -> None:
        here = get_running_loop()
        with self._lock:
            self.line.wake(self._promote(self._clock()), here)
            alarm.set(self.due(), here)
