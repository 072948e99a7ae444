"""Operators of a history: they handle dead letters and cancel schedules by hand, while workers run and die.

Calls are dead-lettered for four reasons: a message was delivered too often, no worker knows the task yet, a handler has
used up its attempts, or a message is malformed. An operator redrives, completes, fails or drops each dead letter, and
schedules the workflows again, until all of them have the right outcome.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import brrr_core as brrr
from brrr_core.backend import DeadLetter
from brrr_core.errors import (
    BrrrError,
    BuriedError,
    CallFailedError,
    MalformedRecordError,
    NotFoundError,
    UnknownTaskError,
)
from brrr_core.wire import Call
from brrr_simulation.fleet import Fleet
from brrr_simulation.graphs import TOPICS, Graph, Work, current_graph

__all__ = ["LATER_HANDLERS", "LETTER_HANDLERS", "MALFORMED", "Operators"]

MALFORMED: Final = b"no message of brrr"
"""A body that is not a message of brrr."""

LIMITS: Final[Mapping[str, int]] = {"max_deliveries": 2, "max_crashes": 1, "max_attempts": 4}
"""The settings of a policy under which faults cause dead letters."""

PAUSE: Final = 20.0
"""Virtual seconds between the first two rounds of an operator. Each further pause is `GROWTH` times as long, up to
`LONGEST`."""

GROWTH: Final = 1.3

LONGEST: Final = 900.0

ROUNDS: Final = 60
"""The most rounds of an operator."""

_CODE: Final = re.compile(r"\[(BRRR-[A-Z]+-[0-9]+)\]")
"""The code of an error in a reason."""

BOUGHT: Final = 5
"""The value of an orphan and of a fragile call."""


@brrr.handler_no_arg
async def orphan(number: int) -> int:
    return BOUGHT


@brrr.handler
async def buyer(app: brrr.ActiveWorker, number: int) -> int:
    try:
        return number + await app.call("orphan", returns=int)(number)
    except CallFailedError:
        return -number


@brrr.handler_no_arg(max_attempts=2, on_exhausted="fail")
async def fragile(number: int) -> int:
    if not current_graph().effects.counts[f"mended {number}"]:
        raise ConnectionError("it was not mended yet")
    return BOUGHT


@brrr.handler
async def bearer(app: brrr.ActiveWorker, number: int) -> int:
    return number + await app.call(fragile)(number)


LETTER_HANDLERS: Final[Mapping[str, Any]] = {task.name: task for task in (buyer, fragile, bearer)}
LATER_HANDLERS: Final[Mapping[str, Any]] = {"orphan": orphan}
"""The handlers that workers get later, by a deployment, or never."""


class Operators:
    """The operators of one history.

    Args:
        seed: The seed of the history. These choices do not influence others.
        graph: The call graph.
        letters: Whether calls are dead-lettered.
        cancels: Whether schedules are cancelled.
        calm: Returns whether faults have ended.
    """

    def __init__(self, seed: int, graph: Graph, *, letters: bool, cancels: bool, calm: Callable[[], bool]) -> None:
        self._draw = Random(seed + 5)  # noqa: S311 - a simulation
        self._graph = graph
        self._counts = graph.effects.counts
        self._calm = calm
        self._cancels = cancels
        self._letters = letters
        self._root_ids: dict[int, set[str]] = {}
        self._outcomes = graph.outcomes()
        self._again = False
        """Whether a dead letter was dropped, so that workflows must be scheduled again."""
        self.completed: set[int] = set()
        """The nodes of the graph that an operator completed by hand. Calls below them may have no outcome."""
        self.deploy_at = self._draw.uniform(20, 200) if letters and self._draw.random() < 0.5 else None
        """When workers get `LATER_HANDLERS`; None for never."""
        self.deployed = False

    @property
    def limits(self) -> Mapping[str, Any]:
        """The settings of the policy."""
        return LIMITS if self._letters else {}

    def clients(self) -> list[tuple[float, str, Work]]:
        """Return the clients: the time at which each begins, its name and its program."""
        draw, found = self._draw, list[tuple[float, str, Work]]()
        if self._letters:
            for task in ("buyer", "bearer"):
                found.append((draw.uniform(0, 20), f"begins a {task}", self._beginner(task)))
            found.append((draw.uniform(20, 90), "operator 1", self._operator))
            if draw.random() < 0.5:
                found.append((draw.uniform(20, 90), "operator 2", self._operator))
        if self._cancels:
            for number in self._graph.roots:
                if draw.random() < 0.7:
                    found.append((draw.uniform(1, 60), f"cancels {number}", self._canceller(number)))
                found.append((draw.uniform(60, 150), f"resumes {number}", self._resumer(number)))
        return found

    def scheduled(self, number: int, done: brrr.Scheduled) -> None:
        """Record a schedule of a root, which an operator may cancel."""
        if done.root_id is not None:
            self._root_ids.setdefault(number, set()).add(done.root_id)

    def needed(self) -> set[int]:
        """Return the nodes that must have an outcome: those below roots, except below calls completed by hand."""
        left, seen = list(self._graph.roots), set[int]()
        while left:
            number = left.pop()
            if number not in seen:
                seen.add(number)
                left += [] if number in self.completed else self._graph.nodes[number].children
        return seen

    def check(
        self,
        value_of: Callable[[str, int], bytes | None],
        call_of: Callable[[bytes], Call | None],
        buried: Sequence[DeadLetter],
        *,
        faulty: bool,
    ) -> list[str]:
        """Return the wrong outcomes, and the messages that were dead-lettered without a reason.

        Args:
            value_of: Returns the value record of a task and a number.
            call_of: Returns the call of a message; None if the message is malformed.
            buried: Every message that was dead-lettered.
            faulty: Whether a fault struck.
        """
        wrong = [
            f"{letter.body!r} was dead-lettered: {letter.reason[:300]}"
            for letter in buried
            if not self._may_die(letter, call_of(letter.body), faulty=faulty)
        ]
        if not self._letters:
            return wrong
        orphaned, bought = value_of("orphan", 1), value_of("buyer", 1)
        expected = b"%d" % (1 + BOUGHT) if orphaned == b"%d" % BOUGHT else b"-1"
        if bought != expected or orphaned is None:
            wrong.append(f"the value of the orphan is {orphaned!r}, but that of its buyer is {bought!r}")
        if (borne := value_of("bearer", 1)) != b"%d" % (1 + BOUGHT):
            wrong.append(f"the caller of the redriven call must return {1 + BOUGHT}, but its value is {borne!r}")
        return wrong

    def _may_die(self, letter: DeadLetter, call: Call | None, *, faulty: bool) -> bool:
        """Whether a message may be dead-lettered for this reason. An error of a handler has no code."""
        if not self._letters or call is None:
            return self._letters and letter.body == MALFORMED and _is_due_to(letter, MalformedRecordError)
        node = self._graph.nodes[_number(call.payload)] if call.task_name == "node" else None
        raises = node.times if node is not None and node.kind == "flaky" else 0
        if _is_due_to(letter, BuriedError):
            stopped = faulty or self.deployed or call.task_name == "orphan" or raises >= LIMITS["max_deliveries"]
            return call.task_name == "fragile" or (stopped and letter.attempt > LIMITS["max_deliveries"])
        if _is_due_to(letter, UnknownTaskError):
            return call.task_name == "orphan"
        # A failed attempt counts twice if the answer of the counter is lost.
        return _CODE.search(_first_line(letter)) is None and (call.task_name == "fragile" or (faulty and raises > 0))

    def _beginner(self, task: str) -> Work:
        async def work(client: brrr.AppConsumer) -> None:
            await client.schedule(task, topic=TOPICS[0])(1)

        return work

    def _canceller(self, number: int) -> Work:
        async def work(client: brrr.AppConsumer) -> None:
            for root_id in sorted(self._root_ids.get(number, ())):
                await client.cancel_schedule(root_id)

        return work

    def _resumer(self, number: int) -> Work:
        resumes = self._draw.random() < 0.5

        async def work(client: brrr.AppConsumer) -> None:
            if resumes:
                for root_id in sorted(self._root_ids.get(number, ())):
                    await client.resume_schedule(root_id)
            async for _ in self._rounds():
                if await self._ended(client, number):
                    return

        return work

    async def _operator(self, client: brrr.AppConsumer) -> None:
        """Handle dead letters until faults have ended, and each workflow has its outcome."""
        async for _ in self._rounds():
            left = False
            for topic in TOPICS:
                for letter in await client.dead_letters(topic).read():
                    left = True
                    await self._handle(client, letter)
            ended = [await self._ended(client, number) for number in self._graph.roots]
            if self._calm() and not left and all(ended) and await self._settled(client):
                return

    def recover(self, fleet: Fleet) -> list[tuple[float, str, Work]]:
        """Return the clients that continue when nothing is left to do: an operator, if there are dead letters.

        The workflows may end before the calls below one that an operator completed by hand. So those may still be
        dead-lettered when all operators have ended.
        """
        if self._letters and any(topic.dead for topic in fleet.model.topics.values()):
            return [(fleet.universe.now + PAUSE, "operator", self._operator)]
        return []

    async def _rounds(self) -> AsyncGenerator[int, None]:
        pause = PAUSE
        for number in range(ROUNDS):
            yield number
            await asyncio.sleep(pause)
            pause = min(pause * GROWTH, LONGEST)

    async def _ended(self, client: brrr.AppConsumer, number: int) -> bool:
        """Whether a root has its outcome. If not, schedule it again if one of its messages may have been dropped."""
        node = self._graph.nodes[number]
        try:
            await client.read(node.task)(number)
        except CallFailedError:
            return True
        except NotFoundError:
            if self._again or self._cancels:
                self.scheduled(number, await client.schedule(node.task, topic=node.topic)(number))
            return False
        return True

    async def _settled(self, client: brrr.AppConsumer) -> bool:
        """Whether the calls that were dead-lettered on purpose have their outcomes. Otherwise continue with them."""
        self._counts["mended 1"] = 1
        for task in ("buyer", "bearer"):
            try:
                await client.read(task)(1)
            except CallFailedError:
                await client.retry(task, topic=TOPICS[0])(1)
                return False
            except NotFoundError:
                await client.schedule(task, topic=TOPICS[0])(1)
                return False
        return True

    async def _handle(self, client: brrr.AppConsumer, letter: brrr.Letter) -> None:
        """Handle a dead letter, in one of the ways that its call allows."""
        draw = self._draw
        one = client.dead_letters(letter.topic, ids=[str(letter.id)])
        if letter.call_hash is None:
            await (one.redrive() if draw.random() < 0.3 else one.drop())
        elif letter.task_name == "fragile":
            self._counts["mended 1"] = draw.randint(0, 1) or self._counts["mended 1"]
            await one.redrive(failed=True)
        elif letter.task_name == "orphan" and not self.deployed:
            if self.deploy_at is None:
                await (one.complete(BOUGHT) if draw.random() < 0.5 else one.fail("no worker knows it"))
        elif letter.task_name == "node" and draw.random() < 0.5:
            await self._replace(letter, one)
        elif draw.random() < 0.2:
            await client.dead_letters(letter.topic).redrive()
        else:
            await one.redrive(failed=draw.random() < 0.3)

    async def _replace(self, letter: brrr.Letter, one: brrr.LetterSelection) -> None:
        """Complete a call of the graph by hand, or drop its message and let a later schedule put it again."""
        number = _number(letter.payload or b"")
        value = self._outcomes[number]
        if value is None or self._draw.random() < 0.5:
            self._again = True
            await one.drop()
        else:
            self.completed.add(number)
            await one.complete(value)


def _number(payload: bytes) -> int:
    return int(json.loads(payload)[0])


def _first_line(letter: DeadLetter) -> str:
    return letter.reason.partition("\n")[0]


def _is_due_to(letter: DeadLetter, kind: type[BrrrError]) -> bool:
    """Whether the error in the reason of a dead letter has the code of this class."""
    found = _CODE.search(_first_line(letter))
    return found is not None and found[1] == kind.code
