"""Random call graphs: their handlers, and the outcomes that they must have under any faults."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

import brrr_core as brrr
from brrr_core.errors import DeadlineExceededError
from brrr_simulation.loop import Process

__all__ = [
    "APPROVAL",
    "EVENT",
    "HANDLERS",
    "KINDS",
    "RACE",
    "RACE_SECONDS",
    "SKEW",
    "TOPICS",
    "Effects",
    "Graph",
    "Node",
    "Work",
    "completer",
    "current_graph",
]

Work = Callable[[brrr.AppConsumer], Coroutine[Any, Any, None]]
"""The program of a client."""

TOPICS: Final = ("left", "right")
EVENT: Final = "happens"
APPROVAL: Final = "approved"
RACE: Final = "races"
RACE_SECONDS: Final = 60.0
DAY: Final = 86_400.0
FAILED: Final = 10_000
"""The number that a failed child adds to the sum of its parent."""

KINDS: Final[Mapping[str, int]] = {
    "plain": 40,
    "flaky": 8,
    "failing": 4,
    "sleep": 5,
    "event": 5,
    "deadline": 3,
    "race": 3,
    "again": 4,
    "long": 4,
    "saga": 5,
    "send": 4,
}
"""The kinds of calls, with their weights."""

SAGA_STEPS: Final = 3
"""The bookings of a saga."""

ROOTS: Final = 3
"""The most calls that clients schedule."""

SKEW: Final = 30.0
"""Seconds by which the clocks of two machines can differ."""


@dataclass(slots=True)
class Node:
    """A call of the graph.

    Attributes:
        number: Its number, and its only argument.
        kind: Its kind, one of `KINDS`.
        children: The calls that it makes, by number.
        style: How it makes them: `gather`, `one by one`, or `mixed`, first some and then the others.
        strict: Whether it fails if a child has failed. Otherwise it adds `FAILED` for the child.
        topic: The topic of its message.
        seconds: The duration of a sleep or a long call.
        times: How often it raises before it returns.
    """

    number: int
    kind: str
    children: list[int]
    style: str
    strict: bool
    topic: str
    seconds: float
    times: int

    @property
    def task(self) -> str:
        """The name of its task."""
        return "saga" if self.kind == "saga" else "node"


@dataclass
class Effects:
    """The effects of handlers outside of brrr. They survive all simulated crashes.

    Attributes:
        counts: The number of times of each effect.
        wrong: What handlers observed and must not occur.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])


@dataclass
class Graph:
    """A random call graph. The children of a call have lower numbers than the call.

    Attributes:
        nodes: The calls.
        roots: The numbers of the calls that clients schedule.
        effects: The effects of the handlers.
    """

    nodes: list[Node]
    roots: list[int]
    effects: Effects = field(default_factory=Effects)

    @classmethod
    def random(
        cls,
        dice: Random,
        lease: float,
        *,
        size: int | None = None,
        long: bool = True,
        only: Collection[str] = tuple(KINDS),
    ) -> "Graph":
        """Return a random graph.

        Args:
            dice: Makes the choices.
            lease: Lease in seconds.
            size: The number of calls, by default 30 to 45.
            long: Whether some of them sleep for weeks.
            only: The kinds of calls that may occur.
        """
        size = dice.randint(30, 45) if size is None else size
        shape = dice.choice(("mixed", "mixed", "wide", "chain", "diamond"))
        two_topics = dice.random() < 0.4
        kinds = [kind for kind in KINDS if kind == "plain" or (dice.random() < 0.6 and kind in only)]
        weights = [KINDS[kind] for kind in kinds]
        nodes: list[Node] = []
        for number in range(size):
            kind = "plain" if number == size - 1 else dice.choices(kinds, weights)[0]
            nodes.append(
                Node(
                    number,
                    kind,
                    [] if kind == "saga" else _children(dice, number, shape),
                    dice.choice(("gather", "gather", "one by one", "mixed")),
                    dice.random() < 0.3,
                    dice.choice(TOPICS) if two_topics else TOPICS[0],
                    dice.choice((5.0, 60.0, 40 * DAY if long else 600.0))
                    if kind == "sleep"
                    else lease * dice.uniform(0.5, 1.5),
                    dice.randint(1, 2),
                )
            )
        used = {child for node in nodes for child in node.children}
        roots = [number for number in range(size) if number not in used]
        nodes[-1].children = sorted({*nodes[-1].children, *roots[:-ROOTS]})
        return cls(nodes, roots[-ROOTS:])

    @property
    def events(self) -> list[int]:
        """The calls that wait for an event without a deadline. A client completes it."""
        return [node.number for node in self.nodes if node.kind == "event"]

    @property
    def races(self) -> list[int]:
        """The calls that wait for an event with a deadline. It may happen before or after the deadline."""
        return [node.number for node in self.nodes if node.kind == "race"]

    @property
    def sagas(self) -> list[int]:
        """The calls that can be cancelled."""
        return [node.number for node in self.nodes if node.kind == "saga"]

    def outcomes(self) -> list[int | None]:
        """Return the value of each call; None if it must fail. A saga adds 0 to the sum of its parents."""
        values: list[int | None] = []
        for node in self.nodes:
            parts = [values[child] for child in node.children]
            if node.kind == "failing" or (node.strict and None in parts):
                values.append(None)
            else:
                own = {"event": 100, "deadline": 50}.get(node.kind, 0) + 1 + node.number
                values.append(own + sum(FAILED if part is None else part for part in parts))
            if node.kind == "saga":
                values[-1] = 0
        return values

    def check(self, returned: Collection[int]) -> list[str]:
        """Return what handlers observed or did, and must not occur.

        Args:
            returned: The sagas whose handlers returned. If a client cancels a saga without records, the saga fails
                immediately, even if a worker begins it at the same moment. Then its handler gets no `Cancelled`.
        """
        wrong = list(self.effects.wrong)
        for number in self.sagas:
            outcome = self.effects.counts[f"undone {number}"]
            booked = {step for step in range(SAGA_STEPS) if self.effects.counts[f"book {number} {step}"]}
            undone = {step for step in range(SAGA_STEPS) if self.effects.counts[f"undo {number} {step}"]}
            if self.effects.counts[f"cancelled {number}"] and number in returned and not outcome:
                wrong.append(f"the saga {number} was cancelled, but its handler never got Cancelled")
            if outcome and booked - undone:
                wrong.append(f"the cancelled saga {number} booked {sorted(booked)}, but undid only {sorted(undone)}")
        return wrong


@brrr.handler_no_arg
async def book(number: int, step: int) -> None:
    _effects().counts[f"book {number} {step}"] += 1


@brrr.handler_no_arg
async def undo(number: int, step: int) -> None:
    _effects().counts[f"undo {number} {step}"] += 1


@brrr.handler_no_arg
async def late(number: int) -> None:
    begun = _effects().counts.setdefault(f"late {number}", int(_clock()))
    if _clock() < begun + 2 * DAY:
        raise brrr.Again(after=DAY)


@brrr.handler
async def saga(app: brrr.ActiveWorker, number: int) -> int:
    step = 0
    try:
        for step in range(SAGA_STEPS):
            await app.call(book)(number, step)
        await app.event(APPROVAL, number)
    except brrr.Cancelled:
        for done in range(step + 1):
            await app.call(book)(number, done)  # it may be running: undo it afterwards
            await app.call(undo)(number, done)
        _effects().counts[f"undone {number}"] += 1
    return 0


@brrr.handler
async def node(app: brrr.ActiveWorker, number: int) -> int:
    this = current_graph().nodes[number]
    own = await _before(app, this)
    children = [current_graph().nodes[child] for child in this.children]
    calls = [
        app.call(saga if child.kind == "saga" else node, topic=child.topic)(child.number)
        for child in children
        if child.kind != "send"
    ]
    for child in children:
        if child.kind == "send":
            await app.send(node, topic=child.topic)(child.number)
            calls.append(app.call(node, topic=child.topic)(child.number))
    split = {"gather": len(calls), "one by one": 0, "mixed": len(calls) // 2}[this.style]
    parts: list[Any] = []
    if split:
        parts += await app.gather(*calls[:split], return_exceptions=True)
    for call in calls[split:]:
        parts += await app.gather(call, return_exceptions=True)
    for part in parts:
        if isinstance(part, int):
            own += part
        elif not isinstance(part, brrr.CallFailedError) or (this.strict and not part.cancelled):
            raise part
        elif not part.cancelled:
            own += FAILED
    await _after(this)
    return own


async def _before(app: brrr.ActiveWorker, this: Node) -> int:
    own = 1 + this.number
    if this.kind == "event":
        own += await app.event(EVENT, this.number, returns=int)
    elif this.kind == "deadline":
        try:
            await app.call(late, deadline=60.0)(this.number)
            _effects().wrong.append(f"the deadline of {this.number} did not expire")
        except DeadlineExceededError:
            own += 50
    elif this.kind == "race":
        try:
            await app.event(RACE, this.number, deadline=RACE_SECONDS)
        except DeadlineExceededError:
            _effects().counts[f"expired {this.number}"] += 1
    elif this.kind == "sleep":
        begun = _effects().counts.setdefault(f"asleep {this.number}", int(_clock()))
        await app.sleep(this.seconds)
        if _clock() < begun + this.seconds - SKEW:
            _effects().wrong.append(f"the sleep of {this.number} ended early")
    return own


async def _after(this: Node) -> None:
    if this.kind == "long":
        await asyncio.sleep(this.seconds)
    elif this.kind in {"flaky", "again"}:
        done = f"{this.kind} {this.number}"
        if _effects().counts[done] < this.times:
            _effects().counts[done] += 1
            raise ConnectionError("it fails at times") if this.kind == "flaky" else brrr.Again(after=20.0)
    elif this.kind == "failing":
        raise brrr.TerminalError("it always fails")


HANDLERS: Final[Mapping[str, Any]] = {task.name: task for task in (node, saga, book, undo, late)}
"""The handlers of all graphs. They find the graph of their history through the event loop: making new handlers for each
worker process would take as long as the history itself."""


def current_graph() -> Graph:
    """Return the graph of the history whose process runs now."""
    return cast("Graph", cast("Process", asyncio.get_running_loop()).place)


def _effects() -> Effects:
    return current_graph().effects


def _clock() -> float:
    return cast("Process", asyncio.get_running_loop()).clock()


def _children(dice: Random, number: int, shape: str) -> list[int]:
    if number == 0:
        return []
    if shape == "chain":
        return sorted({number - 1, *dice.sample(range(number), min(number, dice.randint(0, 1)))})
    if shape == "wide":
        return sorted(dice.sample(range(number), min(number, 12))) if number % 10 == 0 else []
    if shape == "diamond":
        level = number // 4 * 4
        return list(range(max(0, level - 4), level)) if level else []
    return sorted(dice.sample(range(number), min(number, dice.randint(0, 3))))


def completer(event: str, number: int) -> Work:
    """Return the program of a client that completes an event of a call."""

    async def work(client: brrr.AppConsumer) -> None:
        await client.event(event, number).complete(100)

    return work
