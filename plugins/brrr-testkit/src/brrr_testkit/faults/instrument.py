"""Wrappers of queue, store, cache and steps. They count operations, and fail, wait or die when a test demands it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from brrr_core.backend import (
    Cache,
    DeadLetter,
    Delivery,
    Key,
    Queue,
    QueueStats,
    Reading,
    Received,
    Roles,
    Step,
    Steps,
    Store,
    Swap,
)
from brrr_core.errors import BackendClosedError

__all__ = ["Instrument", "Operation", "bodies_put"]

T = TypeVar("T")


class Operation(NamedTuple):
    """One backend operation: its number (from 1), its name, such as `store.swap`, and its items.

    The items of `steps.commit` are its steps.
    """

    number: int
    name: str
    items: Sequence[Any]


def bodies_put(operation: Operation, result: Any) -> list[bytes]:
    """Return the bodies of the messages that an operation with this result has put."""
    if operation.name == "steps.commit":
        steps: list[Step] = [step for step, done in zip(operation.items, result, strict=True) if done is not None]
        return [message.body for step in steps for message in step.messages]
    return [*operation.items] if operation.name == "queue.put" else []


async def nothing(operation: Operation) -> None:
    """Do nothing before or after an operation: the default."""


def ignore(operation: Operation, result: Any) -> None:
    """Ignore the effect of an operation: the default."""


@dataclass
class Instrument:
    """Wraps the backends of one worker.

    Attributes:
        before: Awaited before each operation. If it raises, the operation has no effect.
        after: Awaited after each effect. If it raises, the answer is lost.
        effect: Called with each operation and its result, in the turn of the loop in which it takes effect.
        dead: Whether operations fail without effect, as if the process of the worker had been killed.
        operations: The operations, in order.
        calls: The number of operations by name.
        items: The number of items by name, and the number of messages under `received`. An applied step counts as the
            simple operations with the same effects: its messages are items of `queue.put`, and so on.
    """

    before: Callable[[Operation], Awaitable[None]] = nothing
    after: Callable[[Operation], Awaitable[None]] = nothing
    effect: Callable[[Operation, Any], None] = ignore
    dead: bool = False
    operations: list[Operation] = field(default_factory=list[Operation])
    calls: Counter[str] = field(default_factory=Counter[str])
    items: Counter[str] = field(default_factory=Counter[str])

    def wrap(self, roles: Any) -> Roles:
        """Return the roles of a backend (or of `Roles`) behind this instrument."""
        steps = None if roles.steps is None else _Steps(roles.steps, self)
        return Roles(_Queue(roles.queue, self), _Store(roles.store, self), _Cache(roles.cache, self), steps)

    async def run(self, name: str, items: Sequence[Any], effect: Callable[[], Awaitable[T]]) -> T:
        """Run one operation."""
        self._check_alive()
        operation = Operation(len(self.operations) + 1, name, items)
        self.operations.append(operation)
        self.calls[name] += 1
        if name != "steps.commit":
            self.items[name] += len(items)
        await self.before(operation)
        self._check_alive()
        result = await effect()
        self._count(operation, result)
        self.effect(operation, result)
        await self.after(operation)
        self._check_alive()
        return result

    def total(self, role: str) -> int:
        """Return the number of items in all operations of `queue`, `store` or `cache`."""
        return sum(number for name, number in self.items.items() if name.startswith(f"{role}."))

    def _count(self, operation: Operation, result: Any) -> None:
        if operation.name in {"queue.receive", "steps.receive"}:
            self.items["received"] += len(result)
        if operation.name == "steps.receive":
            self.items["store.read"] += sum(len(each.records or ()) for each in result)
        if operation.name == "steps.commit":
            for step, leased in zip(operation.items, result, strict=True):
                if leased is not None:
                    self.items.update(_items_of(step))
                    self.items["received"] += len(leased)
                    self.items["store.read"] += sum(len(each.records or ()) for each in leased)

    def _check_alive(self) -> None:
        if self.dead:
            raise BackendClosedError("this worker was killed", remedy="The test killed it: start another one.")


class _Queue(Queue):
    def __init__(self, inner: Queue, instrument: Instrument) -> None:
        self.inner = inner
        self.lease = inner.lease
        self.letters = inner.letters
        self.inspector = inner.inspector
        self._run = instrument.run

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        await self._run("queue.put", bodies, lambda: self.inner.put(topic, bodies, delay=delay))

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        return await self._run("queue.receive", (), lambda: self.inner.receive(topic, limit=limit, wait=wait))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._run("queue.ack", deliveries, lambda: self.inner.ack(deliveries))

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        await self._run("queue.release", deliveries, lambda: self.inner.release(deliveries, delay=delay))

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        await self._run("queue.extend", deliveries, lambda: self.inner.extend(deliveries))

    async def bury(self, delivery: Delivery, reason: str) -> None:
        await self._run("queue.bury", (delivery,), lambda: self.inner.bury(delivery, reason))

    async def stats(self, topic: str) -> QueueStats:
        return await self.inner.stats(topic)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        return await self.inner.dead(topic, limit=limit)

    async def redrive(self, topic: str, *, limit: int) -> int:
        return await self.inner.redrive(topic, limit=limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        return await self.inner.drop(topic, limit=limit)


class _Store(Store):
    def __init__(self, inner: Store, instrument: Instrument) -> None:
        self.inner = inner
        self.expires_after = inner.expires_after
        self.notifier = inner.notifier
        self._run = instrument.run

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        return await self._run("store.read", keys, lambda: self.inner.read(keys))

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        await self._run("store.write", items, lambda: self.inner.write(items))

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        return await self._run("store.swap", swaps, lambda: self.inner.swap(swaps))


class _Cache(Cache):
    def __init__(self, inner: Cache, instrument: Instrument) -> None:
        self.inner = inner
        self._run = instrument.run

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        return await self._run("cache.increment", list(amounts.items()), lambda: self.inner.increment(amounts))


class _Steps(Steps):
    def __init__(self, inner: Steps, instrument: Instrument) -> None:
        self.inner = inner
        self._run = instrument.run

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        return await self._run(
            "steps.receive", (), lambda: self.inner.receive(topic, limit=limit, wait=wait, readings=readings)
        )

    def drained(self, topic: str) -> bool:
        return self.inner.drained(topic)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        return await self._run("steps.commit", steps, lambda: self.inner.commit(steps, readings=readings))


def _items_of(step: Step) -> Mapping[str, int]:
    """Return the numbers of items of the simple operations with the effects of a step. An expected record is a swap."""
    swapped = {key for key, _ in (*step.expected, *step.marks)}
    return {
        "cache.increment": len(step.counts),
        "store.write": len(step.writes),
        "queue.put": len(step.messages),
        "store.swap": len(swapped - {key for key, _ in step.writes}),
        "queue.ack": len(step.acks),
    }
