"""A model of a backend: what its queue, store and cache hold after operations that follow one another."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.stepped import records_of
from brrr_core.backend import Delivery, Key, Message, Reading, Received, Step, keys_of

__all__ = ["Model"]


class Model:
    """The expected state. Every message has a different body.

    Attributes:
        records: The records of the store.
        counters: The counters of the cache.
        ready: For each topic, the body of each ready message, and how often it was delivered.
        leased: The delivery of each leased message, by its body; None until it is known.
        dead: For each topic, the bodies of its dead letters, oldest first.
    """

    def __init__(self) -> None:
        self.records: dict[Key, bytes] = {}
        self.counters: Counter[str] = Counter()
        self.ready: defaultdict[str, dict[bytes, int]] = defaultdict(dict)
        self.leased: dict[bytes, Delivery | None] = {}
        self.dead: defaultdict[str, list[bytes]] = defaultdict(list)

    def set(self, key: Key, new: bytes | None) -> None:
        """Set a record, or delete it."""
        if new is None:
            self.records.pop(key, None)
        else:
            self.records[key] = new

    def swap(self, key: Key, expected: bytes | None, new: bytes | None) -> bool:
        """Compare and swap."""
        if self.records.get(key) != expected:
            return False
        self.set(key, new)
        return True

    def put(self, message: Message) -> None:
        """Put a message."""
        if message.leased:
            self.leased[message.body] = None
        else:
            self.ready[message.topic][message.body] = 0

    def settle(self, delivery: Delivery) -> bool:
        """End the lease of a delivery. Return whether it had one."""
        if self.leased.get(delivery.body) is not delivery:
            return False
        del self.leased[delivery.body]
        return True

    def release(self, delivery: Delivery) -> None:
        """Make a message ready again."""
        if self.settle(delivery):
            self.ready[delivery.topic][delivery.body] = delivery.attempt

    def bury(self, delivery: Delivery) -> None:
        """Dead-letter a message."""
        if self.settle(delivery):
            self.dead[delivery.topic].append(delivery.body)

    def redrive(self, topic: str) -> int:
        """Put all dead letters of a topic back, and return their number."""
        bodies = self.dead.pop(topic, [])
        self.ready[topic].update(dict.fromkeys(bodies, 0))
        return len(bodies)

    def receive(self, topic: str, found: Sequence[Delivery], limit: int) -> None:
        """Lease the messages that a receive has found. Check that it was right to find them."""
        ready = self.ready[topic]
        check(len(found) <= limit, f"a receive with the limit {limit} returned {len(found)} messages")
        check(bool(found) or not ready, f"a receive returned no message, while {len(ready)} were ready")
        for delivery in found:
            check(delivery.body in ready, f"a receive returned {delivery.body!r}, which is not ready")
            attempt = ready.pop(delivery.body) + 1
            equal((delivery.topic, delivery.attempt), (topic, attempt), "topic and attempt of a delivery")
            self.leased[delivery.body] = delivery

    def apply(self, step: Step) -> bool:
        """Apply a step. Return whether it was applied."""
        if any(self.records.get(key) != expected for key, expected in step.expected):
            return False
        if any(self.counters[counter] + amount > limit for counter, amount, limit in step.counts):
            return False
        for counter, amount, _ in step.counts:
            self.counters[counter] += amount
        for key, new in (*step.writes, *step.marks):
            self.set(key, new)
        for message in step.messages:
            self.put(message)
        for delivery in step.acks:
            self.settle(delivery)
        return True

    def commit(self, steps: Sequence[Step], done: Sequence[list[Received] | None], readings: Sequence[Reading]) -> None:
        """Apply steps, and compare the results of a commit of them."""
        states: list[dict[Key, bytes]] = []
        for number, (step, leased) in enumerate(zip(steps, done, strict=True)):
            before = f"records {self.records}, counters {dict(self.counters)}"
            equal(leased is not None, self.apply(step), f"whether step {number}, {step}, is applied to {before}")
            states.append(self.records.copy())
        for number, (step, leased) in enumerate(zip(steps, done, strict=True)):
            wanted = [(each.topic, each.body, 1) for each in step.messages if each.leased and leased is not None]
            found = [(each.delivery.topic, each.delivery.body, each.delivery.attempt) for each in leased or ()]
            equal(found, wanted, f"the leased messages of step {number}")
            for each in leased or ():
                self.leased[each.delivery.body] = each.delivery
                keys = keys_of(each.delivery.body, readings) or []
                allowed = [[state.get(key) for key in keys] for state in states[number:]]
                check(records_of(each) in allowed, f"step {number} read {each.records}, and not one of {allowed}")
