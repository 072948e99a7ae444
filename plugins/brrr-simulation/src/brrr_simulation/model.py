"""The backends of a simulated fleet: queue, store, cache and steps as plain data, without latency or faults.

Workers use it through `backend.py`. Each change is reported to a watcher, which checks the invariants.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from math import inf
from typing import NamedTuple, Protocol, cast

from brrr_core.backend import (
    DeadLetter,
    Delivery,
    Key,
    QueueStats,
    Reading,
    Received,
    Step,
    StoredLetter,
    Swap,
    keys_of,
)
from brrr_core.backend import Message as StepMessage

__all__ = ["Message", "Model", "Watcher"]


class Watcher(Protocol):
    """Gets each change of a record, and each message that is put or removed, at the moment of the change."""

    def changed(self, key: Key, before: bytes | None, after: bytes | None, *, swapped: bool) -> None:
        """Report a changed record. `swapped`: the change was a swap, and not a write without a comparison."""

    def put(self, body: bytes) -> None:
        """Report a message that was put."""

    def removed(self, body: bytes, *, dropped: bool = False) -> None:
        """Report a message that was removed for good: acknowledged, or `dropped` from the dead letters."""

    def counted(self, counter: str, amount: int) -> None:
        """Report an increased counter."""

    def settled(self) -> None:
        """Report that an operation or a step is complete. Before that, invariants may be violated."""


class Message:
    """A message of a topic.

    Attributes:
        body: Its body.
        attempt: The number of its deliveries.
        lease: Number of its present lease; None if it is not leased.
        deadline: When that lease ends.
    """

    __slots__ = ("attempt", "body", "deadline", "lease")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.attempt = 0
        self.lease: int | None = None
        self.deadline = 0.0


class _Receipt(NamedTuple):
    message: Message
    lease: int


class _Topic:
    def __init__(self) -> None:
        self.ready: deque[Message] = deque()
        self.leased: set[Message] = set()
        self.delayed: dict[Message, float] = {}
        self.dead: dict[str, DeadLetter] = {}
        self.waiting: deque[Callable[[], object]] = deque()


class Model:
    """The state of all backends.

    Args:
        now: Returns the virtual time.
        at: Calls a function at a virtual time.
        lease: Lease of a delivery in seconds.

    Attributes:
        records: The records.
        counters: The counters of the cache.
        topics: The topics by name.
        loose: The bodies of messages whose lease ended, or whose put is late. Such a message may be put again after it
            was acknowledged.
        watcher: Gets every change.
        watches: The functions to call when the value of a call is created, by its hash.
        actor: The process whose operation takes effect, and the time at which it sent the operation.
    """

    def __init__(
        self, now: Callable[[], float], at: Callable[[float, Callable[[], object]], object], lease: float
    ) -> None:
        self.records: dict[Key, bytes] = {}
        self.counters: dict[str, int] = {}
        self.topics: dict[str, _Topic] = {}
        self.loose: set[bytes] = set()
        self.watcher: Watcher | None = None
        self.watches: defaultdict[str, list[Callable[[], object]]] = defaultdict(list)
        self.actor: tuple[str, float] = ("", 0.0)
        self.lease = lease
        self._now = now
        self._at = at
        self._leases = 0
        self.buried: list[DeadLetter] = []
        """Every message that was dead-lettered."""
        self.expired = 0
        """Leases that ended while a worker held the message."""

    def topic(self, name: str) -> _Topic:
        """Return a topic, created if necessary."""
        found = self.topics.get(name)
        if found is None:
            found = self.topics[name] = _Topic()
        return found

    # Queue

    def put(self, name: str, bodies: Iterable[bytes], delay: float = 0) -> None:
        """Put messages."""
        topic = self.topic(name)
        for body in bodies:
            self._put_again(topic, Message(body), delay)
            if self.watcher is not None:
                self.watcher.put(body)

    def _put_again(self, topic: _Topic, message: Message, delay: float) -> None:
        if delay <= 0:
            topic.ready.append(message)
            self._wake(topic)
            return
        topic.delayed[message] = due = self._now() + delay
        self._at(due, lambda: self._due(topic, message))

    def _due(self, topic: _Topic, message: Message) -> None:
        if topic.delayed.pop(message, None) is not None:
            topic.ready.append(message)
            self._wake(topic)

    def _wake(self, topic: _Topic) -> None:
        """Let all waiting receivers look. Their latencies decide their order."""
        waiting, topic.waiting = topic.waiting, deque()
        for wake in waiting:
            wake()

    def claim(self, name: str, limit: int, pick: Callable[[int], int]) -> list[Delivery]:
        """Lease up to `limit` ready messages. `pick` gets the number of ready messages, and returns an index."""
        topic, claimed = self.topic(name), list[Delivery]()
        while topic.ready and len(claimed) < limit:
            at = pick(len(topic.ready))
            message = topic.ready[at]
            del topic.ready[at]
            claimed.append(self._lease(topic, name, message))
        return claimed

    def _lease(self, topic: _Topic, name: str, message: Message) -> Delivery:
        self._leases += 1
        message.attempt += 1
        message.lease = self._leases
        topic.leased.add(message)
        self._extend(topic, message)
        return Delivery(name, message.body, _Receipt(message, message.lease), message.attempt)

    def _extend(self, topic: _Topic, message: Message) -> None:
        lease, message.deadline = message.lease, self._now() + self.lease

        def expire() -> None:
            if message.lease == lease and message.deadline <= self._now():
                self.expired += 1
                self.loose.add(message.body)
                self._end(topic, message)
                topic.ready.append(message)
                self._wake(topic)

        self._at(message.deadline, expire)

    def _end(self, topic: _Topic, message: Message) -> None:
        message.lease = None
        topic.leased.discard(message)

    def _live(self, delivery: Delivery) -> tuple[_Topic, Message] | None:
        receipt = cast("_Receipt", delivery.receipt)
        if receipt.message.lease != receipt.lease or receipt.message not in self.topic(delivery.topic).leased:
            return None
        return self.topic(delivery.topic), receipt.message

    def ack(self, delivery: Delivery) -> None:
        """Remove a message."""
        if (live := self._live(delivery)) is not None:
            self._end(*live)
            if self.watcher is not None:
                self.watcher.removed(delivery.body)

    def release(self, delivery: Delivery, delay: float) -> None:
        """Make a message ready again."""
        if (live := self._live(delivery)) is not None:
            self._end(*live)
            self._put_again(*live, delay)

    def extend(self, delivery: Delivery) -> None:
        """Restart a lease."""
        if (live := self._live(delivery)) is not None:
            self._extend(*live)

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Dead-letter a message."""
        if (live := self._live(delivery)) is not None:
            self._end(*live)
            letter = DeadLetter(delivery.topic, delivery.body, reason, delivery.attempt, self._now())
            self.buried.append(letter)
            live[0].dead[f"{len(self.buried)}"] = letter

    def stats(self, name: str) -> QueueStats:
        """Count the messages of a topic."""
        topic = self.topic(name)
        return QueueStats(len(topic.ready), len(topic.leased), len(topic.delayed), len(topic.dead))

    def letters(self, name: str, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return dead letters, oldest first."""
        found = (StoredLetter(*each) for each in self.topic(name).dead.items() if int(each[0]) > int(after or 0))
        return list(islice(found, limit))

    def redrive(self, name: str, ids: Sequence[str], *, again: bool) -> int:
        """Put dead letters back, or drop them."""
        topic = self.topic(name)
        letters = [topic.dead.pop(each) for each in ids if each in topic.dead]
        for letter in letters:
            if again:
                self._put_again(topic, Message(letter.body), 0)
            elif self.watcher is not None:
                self.watcher.removed(letter.body, dropped=True)
        return len(letters)

    def lose_all(self) -> int:
        """Lose every message, as a queue that is not durable does when it restarts."""
        lost = 0
        for topic in self.topics.values():
            lost += len(topic.ready) + len(topic.leased) + len(topic.delayed)
            for message in topic.leased:
                message.lease = None
                self.loose.add(message.body)
            for messages in (topic.ready, topic.leased, topic.delayed):
                messages.clear()
        return lost

    def next_due(self) -> float | None:
        """Return when the next delayed message becomes ready; `inf` for never, None if a message is ready or leased."""
        due = inf
        for topic in self.topics.values():
            if topic.ready or topic.leased:
                return None
            if topic.delayed:
                due = min(due, *topic.delayed.values())
        return due

    # Store and cache

    def write(self, key: Key, record: bytes, *, swapped: bool = False) -> None:
        """Set a record."""
        before = self.records.get(key)
        self.records[key] = record
        self._changed(key, before, record, swapped=swapped)

    def swap(self, swap: Swap) -> bool:
        """Compare and swap a record."""
        key, expected, new = swap
        if self.records.get(key) != expected:
            return False
        if new is None:
            self.records.pop(key, None)
        else:
            self.records[key] = new
        self._changed(key, expected, new, swapped=True)
        return True

    def _changed(self, key: Key, before: bytes | None, after: bytes | None, *, swapped: bool) -> None:
        if self.watcher is not None and before != after:
            self.watcher.changed(key, before, after, swapped=swapped)
        if before is None and key.kind == "value" and key.call_hash in self.watches:
            for wake in tuple(self.watches[key.call_hash]):
                wake()

    def increment(self, counter: str, amount: int) -> int:
        """Add to a counter."""
        after = self.counters.get(counter, 0) + amount
        if amount:
            self.counters[counter] = after
            if self.watcher is not None:
                self.watcher.counted(counter, amount)
        return after

    # Steps

    def with_records(self, delivery: Delivery, readings: Sequence[Reading]) -> Received:
        """Return a delivery and its records."""
        keys = keys_of(delivery.body, readings)
        return Received(delivery, None if keys is None else [self.records.get(key) for key in keys])

    def apply(self, step: Step, readings: Sequence[Reading], effects: int | None = None) -> list[Received] | None:
        """Apply a step, or only the first `effects` of its effects, as a server that fails in the middle."""
        expected: Mapping[Key, bytes | None] = dict(step.expected)
        if any(self.records.get(key) != record for key, record in step.expected):
            return None
        if any(self.counters.get(counter, 0) + amount > limit for counter, amount, limit in step.counts):
            return None
        leased: list[Delivery] = []
        actions: list[Callable[[], object]] = [
            *(partial(self.increment, count.counter, count.amount) for count in step.counts),
            *(partial(self.write, key, record, swapped=key in expected) for key, record in step.writes),
            *(partial(self._put_message, message, leased) for message in step.messages),
            *(partial(self._mark, key, record, swapped=key in expected) for key, record in step.marks),
            *(partial(self.ack, delivery) for delivery in step.acks),
        ]
        for action in actions[:effects]:
            action()
        return [self.with_records(delivery, readings) for delivery in leased]

    def _put_message(self, message: StepMessage, leased: list[Delivery]) -> None:
        if not message.leased:
            self.put(message.topic, [message.body], message.delay)
            return
        leased.append(self._lease(self.topic(message.topic), message.topic, Message(message.body)))
        if self.watcher is not None:
            self.watcher.put(message.body)

    def _mark(self, key: Key, record: bytes | None, *, swapped: bool) -> None:
        if record is None:
            self.swap(Swap(key, self.records.get(key), None))
        else:
            self.write(key, record, swapped=swapped)
