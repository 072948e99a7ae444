"""The backends as one process sees them: every operation takes time, and can be struck by faults."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from brrr_core.backend import (
    Cache,
    DeadLetter,
    Delivery,
    Key,
    LetterBox,
    Notifier,
    Queue,
    QueueStats,
    Reading,
    Received,
    Step,
    Steps,
    Store,
    StoredLetter,
    Swap,
    closed_error,
)
from brrr_core.errors import BackendUnavailableError
from brrr_simulation.faults import Dice
from brrr_simulation.loop import Process, Universe
from brrr_simulation.model import Model
from brrr_simulation.pairs import Pairs

__all__ = ["Line", "parts"]

T = TypeVar("T")

LATE: Final = (1.0, 3.0)
"""How long a slow operation takes, or a process stays frozen, in leases: the least and the most."""

LOST_HINTS: Final = 0.3
"""Share of the hints of new values that get lost. A notifier may lose them, so this is not a fault."""

Effect = Callable[[int | None], T]
"""Applies an operation, or only this number of its items, and returns the result."""


class Line:
    """The connection of a process to the backends.

    Args:
        universe: The virtual time.
        model: The state of the backends.
        dice: Decides which faults strike.
        process: The process.
        killed: Called when a fault kills the process.

    Attributes:
        in_flight: The number of running operations of all processes, in a list that they share. A receive that waits
            does not count.
    """

    in_flight: list[int]

    def __init__(
        self,
        universe: Universe,
        model: Model,
        dice: Dice,
        process: Process,
        *,
        in_flight: list[int],
        away_until: list[float],
        killed: Callable[[Process], None],
        trace: Callable[[str, str, Sequence[Any]], None] | None = None,
        pairs: Pairs | None = None,
    ) -> None:
        self.universe = universe
        self.model = model
        self.dice = dice
        self.process = process
        self.in_flight = in_flight
        self._away_until = away_until
        self._killed = killed
        self._trace = trace
        self._pairs = pairs

    async def operate(self, name: str, items: Sequence[Any], effect: Effect[T], *, parts: int | None = None) -> T:
        """Run an operation.

        Args:
            name: Its name, such as `store.swap`.
            items: Its items, for stories.
            effect: Applies the operation, or only some of its parts.
            parts: The number of its parts; by default the number of its items.
        """
        universe, dice, process = self.universe, self.dice, self.process
        if process.dead:
            raise closed_error()
        future, sent = process.create_future(), universe.now
        self.in_flight[0] += 1
        delay = dice.latency()
        if not dice.calm:
            if dice.strikes("crash", process.name, f"before {name}", universe.now):
                self.in_flight[0] -= 1
                self._killed(process)
                return await future  # type: ignore[no-any-return] # it is never set
            if dice.strikes("slow", process.name, name, universe.now):
                delay += self.model.lease * dice.random.uniform(*LATE)
                if name == "queue.put":
                    self.model.loose.update(items)
            if dice.strikes("freeze", process.name, f"after it sent {name}", universe.now):
                process.frozen_until = universe.now + self.model.lease * dice.random.uniform(*LATE)

        def arrive() -> None:
            failure = self._fate(name, len(items) if parts is None else parts)
            result: Any = None
            if failure is None or failure[1] != 0:
                if self._trace is not None:
                    self._trace(process.name, name, items)
                if self._pairs is not None:
                    self._pairs.effect(process.name, name, items)
                self.model.actor = (process.name, sent)
                result = effect(None if failure is None else failure[1])
                if self.model.watcher is not None:
                    self.model.watcher.settled()
            if not (dice.calm or process.dead) and dice.strikes("crash", process.name, f"after {name}", universe.now):
                self._killed(process)
            universe.after(dice.latency(), lambda: answer(None if failure is None else failure[0], result))

        def answer(error: str | None, result: Any) -> None:
            self.in_flight[0] -= 1
            frozen = process.frozen_until > universe.now and not process.dead
            if self._pairs is not None and not frozen:
                self._pairs.ended(process.name, name, items, cut=process.dead or error is not None)
            if process.dead or future.done():
                return
            if frozen:
                self.in_flight[0] += 1
                universe.at(process.frozen_until, lambda: answer(error, result))
            elif error is not None:
                future.set_exception(BackendUnavailableError(error, remedy="The simulation has injected this fault."))
            else:
                future.set_result(result)

        universe.after(delay, arrive)
        return await future  # type: ignore[no-any-return]

    def _fate(self, name: str, parts: int) -> tuple[str, int | None] | None:
        """Return the error of an operation and how many parts it applies (None for all); None if it succeeds."""
        dice, now, who = self.dice, self.universe.now, self.process.name
        if self._away_until[0] > now:
            return "the backend is away", 0
        if dice.calm:
            return None
        if dice.strikes("refused", who, name, now):
            return "the operation was refused", 0
        if dice.strikes("lost", who, name, now):
            return "the answer was lost", None
        if parts > 1 and dice.strikes("partial", who, name, now):
            return "the server failed in the middle", dice.random.randrange(1, parts)
        return None

    async def receive(self, topic: str, limit: int, wait: float, finish: Callable[[Delivery], T]) -> list[T]:
        """Receive messages. A wait does not count as a running operation."""
        universe, model, dice, process = self.universe, self.model, self.dice, self.process
        future = process.create_future()
        until = universe.now + wait
        over = False

        def pick(ready: int) -> int:
            if ready > 1 and dice.strikes("reorder", process.name, "queue.receive", universe.now):
                return dice.random.randrange(ready)
            return 0

        def look() -> None:
            nonlocal over
            if process.dead or future.done() or over:
                return
            if self._away_until[0] > universe.now:
                over = True
                universe.after(dice.latency(), refuse)
                return
            early = dice.strikes("early", process.name, "queue.receive", universe.now)
            claimed = [] if early else model.claim(topic, limit, pick)
            if claimed or universe.now >= until or early:
                over = True
                received = [finish(delivery) for delivery in claimed]
                if self._trace is not None and claimed:
                    self._trace(process.name, "queue.receive", claimed)
                if self._pairs is not None:
                    self._pairs.effect(process.name, "queue.receive", claimed)
                if dice.strikes("lost", process.name, "queue.receive", universe.now):
                    universe.after(dice.latency(), refuse)
                else:
                    self.in_flight[0] += 1
                    universe.after(dice.latency(), lambda: answer(received, claimed))
            else:
                model.topic(topic).waiting.append(lambda: universe.after(dice.latency(), look))

        def refuse() -> None:
            if not (process.dead or future.done()):
                error = BackendUnavailableError("the answer was lost", remedy="The simulation has injected this fault.")
                future.set_exception(error)

        def answer(received: list[T], claimed: Sequence[Delivery]) -> None:
            if process.frozen_until > universe.now and not process.dead:
                universe.at(process.frozen_until, lambda: answer(received, claimed))
                return
            self.in_flight[0] -= 1
            if self._pairs is not None:
                self._pairs.ended(process.name, "queue.receive", claimed, cut=process.dead)
            if not (process.dead or future.done()):
                future.set_result(received)

        if process.dead:
            raise closed_error()
        universe.after(dice.latency(), look, process)
        universe.at(until + dice.latency(), look, process)
        return await future  # type: ignore[no-any-return]


def parts(line: Line, *, hints: bool = False) -> tuple[Queue, Store, Cache, Steps]:
    """Return queue, store, cache and steps on a line. With `hints`, the store gives hints of new values."""
    store = _Store(line)
    store.notifier = _Notifier(line) if hints else None
    return _Queue(line), store, _Cache(line), _Steps(line)


class _Queue(Queue):
    def __init__(self, line: Line) -> None:
        self.lease = line.model.lease
        self.letters = _Letters(line)
        self._line = line

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        line = self._line

        def effect(items: int | None) -> None:
            line.model.put(topic, bodies[:items], delay)
            if line.dice.strikes("duplicate", line.process.name, "queue.put", line.universe.now):
                line.model.put(topic, bodies[:1], delay)

        await line.operate("queue.put", bodies, effect)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        return await self._line.receive(topic, limit, wait, lambda delivery: delivery)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._each("queue.ack", deliveries, self._line.model.ack)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        await self._each("queue.release", deliveries, lambda delivery: self._line.model.release(delivery, delay))

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        await self._each("queue.extend", deliveries, self._line.model.extend)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        await self._each("queue.bury", (delivery,), lambda delivery: self._line.model.bury(delivery, reason))

    async def stats(self, topic: str) -> QueueStats:
        return await self._line.operate("queue.stats", (), lambda _: self._line.model.stats(topic))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        stored = await self._line.operate("queue.dead", (), lambda _: self._line.model.letters(topic, limit))
        return [each.letter for each in stored]

    async def redrive(self, topic: str, *, limit: int) -> int:
        return await self._act("queue.redrive", topic, limit, again=True)

    async def drop(self, topic: str, *, limit: int) -> int:
        return await self._act("queue.drop", topic, limit, again=False)

    async def _act(self, name: str, topic: str, limit: int, *, again: bool) -> int:
        model = self._line.model

        def effect(_: int | None) -> int:
            return model.redrive(topic, [each.id for each in model.letters(topic, limit)], again=again)

        return await self._line.operate(name, (), effect)

    async def _each(self, name: str, items: Sequence[Delivery], do: Callable[[Delivery], object]) -> None:
        def effect(number: int | None) -> None:
            for item in items[:number]:
                do(item)

        await self._line.operate(name, items, effect)


class _Letters(LetterBox):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        return await self._line.operate("letters.page", (), lambda _: self._line.model.letters(topic, limit, after))

    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        dead = self._line.model.topic(topic).dead
        return await self._line.operate(
            "letters.find", (), lambda _: [StoredLetter(each, dead[each]) for each in ids if each in dead]
        )

    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        model = self._line.model
        return await self._line.operate(
            "letters.redrive", ids, lambda number: model.redrive(topic, ids[:number], again=True)
        )

    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        model = self._line.model
        return await self._line.operate(
            "letters.drop", ids, lambda number: model.redrive(topic, ids[:number], again=False)
        )


class _Store(Store):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        found = self._line.model.records.get
        return await self._line.operate("store.read", keys, lambda _: [found(key) for key in keys], parts=1)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        def effect(number: int | None) -> None:
            for key, record in items[:number]:
                self._line.model.write(key, record)

        await self._line.operate("store.write", items, effect)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        model = self._line.model
        return await self._line.operate(
            "store.swap", swaps, lambda number: [model.swap(swap) for swap in swaps[:number]]
        )


class _Notifier(Notifier):
    """Gives hints, most of the time."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._watches: dict[tuple[str, Callable[[], None]], Callable[[], object]] = {}

    async def watch(self, call_hash: str, wake: Callable[[], None]) -> bool:
        line = self._line

        def hint() -> None:
            if line.dice.random.random() >= LOST_HINTS:
                line.universe.after(line.dice.latency(), wake, line.process)

        def effect(_: int | None) -> None:
            self._watches[call_hash, wake] = hint
            line.model.watches[call_hash].append(hint)

        try:
            await line.operate("store.watch", (call_hash,), effect)
        except BackendUnavailableError:
            return False
        return True

    def unwatch(self, call_hash: str, wake: Callable[[], None]) -> None:
        hint = self._watches.pop((call_hash, wake), None)
        if hint is not None:
            self._line.model.watches[call_hash].remove(hint)


class _Cache(Cache):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        model = self._line.model
        return await self._line.operate(
            "cache.increment",
            [*amounts],
            lambda number: {name: model.increment(name, amount) for name, amount in [*amounts.items()][:number]},
        )


class _Steps(Steps):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        line = self._line
        return await line.receive(topic, limit, wait, lambda delivery: line.model.with_records(delivery, readings))

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        line = self._line
        effects = sum(len(part) for step in steps for part in step[1:])

        def effect(number: int | None) -> list[list[Received] | None]:
            results: list[list[Received] | None] = []
            for step in steps:
                size = sum(len(part) for part in step[1:])
                results.append(line.model.apply(step, readings, number))
                if number is not None:
                    number -= size
                    if number <= 0:
                        break
                if line.model.watcher is not None:
                    line.model.watcher.settled()
            return results

        return await line.operate("steps.commit", steps, effect, parts=effects)
