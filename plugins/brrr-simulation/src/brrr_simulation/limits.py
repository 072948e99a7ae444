"""Schedules that go over their spawn limits, clients whose schedules share calls, and an operator who recovers them."""

import re
from collections.abc import Callable, Collection
from random import Random
from typing import Final

import brrr_core as brrr
from brrr_core.backend import DeadLetter, Key
from brrr_core.errors import SpawnLimitError
from brrr_core.wire import decode_pending
from brrr_simulation.fleet import Fleet
from brrr_simulation.graphs import APPROVAL, EVENT, RACE, Graph, Work, completer
from brrr_simulation.ledger import PLENTY, Ledger
from brrr_simulation.model import Model

__all__ = ["Limits"]

RESTART: Final = 60.0
"""Virtual seconds in which all workers are restarted with another policy."""

LOWERED: Final = 0.3
"""Share of these histories in which the policy has the low limit."""

ROUNDS: Final = 3
"""How often an operator tries to recover the calls that a limit stopped. The last time, the limit is `PLENTY`."""

_OVER: Final = re.compile(r"BRRR-ENGINE-01.*the schedule (\S+) caused more than")
"""The reason of a dead letter of a schedule that is over its spawn limit."""


class Limits:
    """The spawn limits of one history, and the calls that clients schedule besides the roots of its graph.

    In some histories the policy has the low limit, and the operator raises it and redrives the dead letters. In others
    schedules have low limits of their own, and the operator schedules their calls again under higher ones.

    Args:
        seed: The seed of the history. These choices change no others.
        graph: The call graph.
        active: Whether the history has low limits.

    Attributes:
        of_policy: The limit of the policy.
        wrong: What must not be, as text.
    """

    def __init__(self, seed: int, graph: Graph, *, active: bool) -> None:
        self._draw = draw = Random(f"limits {seed}")  # noqa: S311 - a simulation
        self._graph = graph
        self.active = active
        self.wrong: list[str] = []
        self._lowered = active and draw.random() < LOWERED
        self.of_policy = round(2 ** draw.uniform(3, 7)) if self._lowered else PLENTY
        self._refused = False
        self._served: set[int] = set()
        self._round = 0
        inner = [node.number for node in graph.nodes if node.task == "node" and node.number not in graph.roots]
        self._shared = draw.sample(inner, min(len(inner), draw.randint(1, 4))) if active else []
        self._requested = [*graph.roots, *self._shared]
        self._low = {
            number: round(2 ** draw.uniform(0, 6)) for number in self._requested if active and draw.random() < 0.6
        }

    def clients(self, seconds: float) -> list[tuple[float, str, Work]]:
        """Return further clients that schedule: the time at which each begins, its name and its program.

        Args:
            seconds: The time in which faults strike.
        """
        draw = self._draw
        found = [(draw.uniform(0, seconds / 4), f"schedules {n}", self.scheduler(n)) for n in self._shared]
        if not self._lowered:
            found += [
                (draw.uniform(0, 2 * seconds), f"schedules {number}", self.scheduler(number, 4 * limit))
                for number, limit in self._low.items()
                if draw.random() < 0.5
            ]
        return found

    def scheduler(self, number: int, limit: int | None = None, *, redrive: bool = False) -> Work:
        """Return the program of a client that schedules a call, by default with the first limit of its schedules."""
        node = self._graph.nodes[number]
        if limit is None:
            limit = self._low.get(number, PLENTY)
        own = None if self._lowered and limit != PLENTY else limit

        async def work(client: brrr.AppConsumer) -> None:
            done = await client.schedule(node.task, topic=node.topic, redrive=redrive, spawn_limit=own)(number)
            if done.state == "put" and own == PLENTY:
                self._served.add(number)  # it needs no operator

        return work

    def tolerant(self, work: Work) -> Work:
        """Return the program of a client that ends if a schedule is over its limit."""

        async def tolerated(client: brrr.AppConsumer) -> None:
            try:
                await work(client)
            except SpawnLimitError:
                self._refused = True

        return tolerated

    def recover(
        self, fleet: Fleet, ledger: Ledger, hash_of: Callable[[str, int], str]
    ) -> list[tuple[float, str, Work]]:
        """Check the fleet when it has nothing left to do. Return the clients of an operator; none if all calls ended.

        Args:
            fleet: The fleet.
            ledger: The messages of each schedule.
            hash_of: Returns the hash of a call of a task with a number.
        """
        if not self.active:
            return []
        records, nodes = fleet.model.records, self._graph.nodes
        left = [n for n in self._requested if Key("value", hash_of(nodes[n].task, n)) not in records]
        self._audit(fleet.model, ledger, left)
        self._round += 1
        if not left or self._round > ROUNDS:
            return []
        limit, now = PLENTY if self._round == ROUNDS else 10 * 8**self._round, fleet.universe.now
        if not self._lowered:
            return [
                (now + 1, f"schedules {number}", self.scheduler(number, limit, redrive=self._draw.random() < 0.2))
                for number in left
            ]
        ledger.policy_limit = limit
        fleet.change_spawn_limit(limit)
        events = [(EVENT, n) for n in self._graph.events] + [(RACE, n) for n in self._graph.races]
        events += [(APPROVAL, number) for number in self._graph.sagas]
        found = [(now + RESTART, f"completes {number}", completer(event, number)) for event, number in events]
        return [*found, (now + RESTART, "operator", self._redrive)]

    async def _redrive(self, client: brrr.AppConsumer) -> None:
        for topic in sorted({node.topic for node in self._graph.nodes}):
            await client.dead_letters(topic).redrive()

    def explains(self, letter: DeadLetter) -> bool:
        """Whether a dead letter may be left at the end, because its schedule went over its limit."""
        return self.active and bool(_OVER.search(letter.reason))

    def _audit(self, model: Model, ledger: Ledger, left: Collection[int]) -> None:
        """Find what must not be if no message is left and no client runs. `left`: the requests without an outcome."""
        wrong = self.wrong
        letters = [letter for topic in model.topics.values() for letter in topic.dead.values()]
        wrong += [f"dead letter: {letter.reason[:300]}" for letter in letters if not _OVER.search(letter.reason)]
        named = {found[1] for letter in letters if (found := _OVER.search(letter.reason))}
        wrong += [f"{root_id} is not over its limit, but a dead letter says so" for root_id in named - ledger.over]
        wrong += [f"the call {n} has no outcome, although no limit stops it" for n in left if n in self._served]
        if left and not letters and not self._refused:
            wrong.append(f"the calls {left} have no outcome, and no dead letter and no error says why")
        wrong += [
            f"the call {key.call_hash} has a mark and no message, so the next schedule does not put it"
            for key, record in model.records.items()
            if key.kind == "pending_returns"
            and decode_pending(record).scheduled_at is not None
            and Key("value", key.call_hash) not in model.records
        ]
