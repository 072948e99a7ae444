"""The messages of one topic: ready, delayed, leased or dead. The caller holds the lock of the space.

Every operation takes O(1) or O(log n) per message. A heap holds the leases by their expiry. When a lease is settled or
extended, its heap entry stays and becomes stale. Stale entries are skipped at the top of the heap, and swept when they
outnumber the live ones.
"""

from asyncio import AbstractEventLoop, get_running_loop
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from threading import Lock

from brrr_core.backend.contracts import Delivery, QueueStats
from brrr_core.backend.inspection import Peeked
from brrr_core.backend.memory.letters import Numbered
from brrr_core.backend.memory.waiting import Alarm, WaitQueue

__all__ = ["Lease", "Message", "Topic"]

SWEEP_MARGIN = 64
"""The heap of leases is swept when its stale entries outnumber the live ones by more than this."""


class Message:
    """A body, and the number of its deliveries."""

    __slots__ = ("attempt", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.attempt = 0


class Lease:
    """The lease of one delivery, and its receipt: from `claim` until it is settled or expires.

    Attributes:
        deadline: The expiry, by the clock of the space.
        entry: The time of its entry in the heap; at most `deadline`.
        live: False once it is settled, or its expiry was noticed.
    """

    __slots__ = ("deadline", "entry", "live", "message", "topic")

    def __init__(self, topic: "Topic", message: Message, deadline: float) -> None:
        self.topic = topic
        self.message = message
        self.deadline = deadline
        self.entry = deadline
        self.live = True


class Topic:
    """The messages of one topic, and the receivers that wait for them."""

    __slots__ = (
        "_clock",
        "_delayed",
        "_leased",
        "_leases",
        "_lock",
        "_serial",
        "dead",
        "delivered",
        "name",
        "ready",
        "waiters",
    )

    def __init__(self, name: str, clock: Callable[[], float], lock: Lock) -> None:
        self.name = name
        self.delivered = 0
        self.ready: deque[Message] = deque()
        self.dead: Numbered = []
        self.waiters = WaitQueue(clock, self._on_alarm)
        self._clock = clock
        self._lock = lock
        self._delayed: list[tuple[float, int, Message]] = []
        self._leases: list[tuple[float, int, Lease]] = []
        self._leased = 0
        self._serial = count()

    @property
    def unused(self) -> bool:
        """Whether the topic has no message and no waiting receiver."""
        return not (self.ready or self._leased or self._delayed or self.dead or self.waiters)

    def put(self, messages: Iterable[Message], *, now: float, delay: float, current_loop: AbstractEventLoop) -> None:
        """Add messages that become ready after `delay` seconds, and wake receivers for them."""
        if delay > 0:
            due = now + delay
            for message in messages:
                heappush(self._delayed, (due, next(self._serial), message))
            self.waiters.expect(due, current_loop)
            return
        before = len(self.ready)
        self.ready.extend(messages)
        self.waiters.wake(len(self.ready) - before, current_loop)

    def claim(self, limit: int, *, now: float, lease_seconds: float, current_loop: AbstractEventLoop) -> list[Delivery]:
        """Lease up to `limit` ready messages for `lease_seconds`."""
        promoted = self._make_due_ready(now)
        ready, deadline = self.ready, now + lease_seconds
        deliveries = [self._lease(ready.popleft(), deadline) for _ in range(min(limit, len(ready)))]
        if promoted:  # others can take the messages that fell due and were not claimed here
            self.waiters.wake(min(promoted, len(ready)), current_loop)
        if deliveries:
            self.waiters.expect(deadline, current_loop)
        return deliveries

    def put_leased(self, message: Message, *, deadline: float, current_loop: AbstractEventLoop) -> Delivery:
        """Add a message that is leased until `deadline` from the beginning."""
        self.waiters.expect(deadline, current_loop)
        return self._lease(message, deadline)

    def _lease(self, message: Message, deadline: float) -> Delivery:
        message.attempt += 1
        self.delivered += 1
        lease = Lease(self, message, deadline)
        heappush(self._leases, (deadline, next(self._serial), lease))
        self._leased += 1
        return Delivery(self.name, message.body, lease, message.attempt)

    def end(self, lease: Lease) -> Message:
        """End a live lease, and hand its message to the caller."""
        lease.live = False
        self._leased -= 1
        if len(self._leases) > 2 * self._leased + SWEEP_MARGIN:
            self._leases = [entry for entry in self._leases if entry[2].live]
            heapify(self._leases)
        return lease.message

    def extend(self, lease: Lease, *, deadline: float, current_loop: AbstractEventLoop) -> None:
        """Let a live lease expire at `deadline`."""
        lease.deadline = deadline
        if deadline < lease.entry:  # only if backends with different leases share the space
            lease.entry = deadline
            heappush(self._leases, (deadline, next(self._serial), lease))
            self.waiters.expect(deadline, current_loop)

    def next_due(self) -> float:
        """Return when the next delayed or leased message can become ready, by the clock of the space, or `inf`."""
        delayed = self._delayed[0][0] if self._delayed else inf
        leased = self._leases[0][0] if self._leases else inf
        return min(delayed, leased)

    def stats(self, now: float, current_loop: AbstractEventLoop) -> QueueStats:
        """Count the messages in each state."""
        self.waiters.wake(self._make_due_ready(now), current_loop)
        return QueueStats(len(self.ready), self._leased, len(self._delayed), len(self.dead))

    def peek(self, now: float, current_loop: AbstractEventLoop, limit: int) -> list[Peeked]:
        """Return messages: the ready ones, and then those that are leased or delayed."""
        self.stats(now, current_loop)  # makes due messages ready
        leased = sorted((lease.deadline, lease.message.body) for _, _, lease in self._leases if lease.live)
        delayed = sorted((due, message.body) for due, _, message in self._delayed)
        return [
            *(Peeked(message.body, "ready") for message in islice(self.ready, limit)),
            *(Peeked(body, "leased") for _, body in leased),
            *(Peeked(body, "delayed") for _, body in delayed),
        ][:limit]

    def purge(self, now: float, current_loop: AbstractEventLoop) -> int:
        """Delete the ready and the delayed messages, and return their number."""
        ready, _, delayed, _ = self.stats(now, current_loop)
        self.ready.clear()
        self._delayed.clear()
        return ready + delayed

    def receiving(self, now: float, current_loop: AbstractEventLoop) -> bool:
        """Whether a receiver waits, or holds a message."""
        return bool(self.waiters) or self.stats(now, current_loop).leased > 0

    def _make_due_ready(self, now: float) -> int:
        """Make due messages ready, and return their number. The caller wakes receivers for them."""
        before = len(self.ready)
        while self._delayed and self._delayed[0][0] <= now:
            self.ready.append(heappop(self._delayed)[2])
        while self._leases and self._leases[0][0] <= now:
            entry, _, lease = heappop(self._leases)
            if not lease.live or entry != lease.entry:
                continue
            if lease.deadline > now:
                lease.entry = lease.deadline
                heappush(self._leases, (lease.entry, next(self._serial), lease))
                continue
            lease.live = False
            self._leased -= 1
            self.ready.append(lease.message)
        return len(self.ready) - before

    def _on_alarm(self, alarm: Alarm) -> None:
        current_loop = get_running_loop()
        with self._lock:
            self.waiters.wake(self._make_due_ready(self._clock()), current_loop)
            alarm.set(self.next_due(), current_loop)
