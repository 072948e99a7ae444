"""One history: a random fleet, call graph and faults, all from one seed, and the checks at its end."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import NotFoundError
from brrr_core.wire import FAILURE_PREFIX, Call, decode_call
from brrr_simulation.faults import Dice, Fault
from brrr_simulation.fleet import EPOCH, LEASE, Fleet, Worker, isolated
from brrr_simulation.foreign import FOREIGN, SHARED_KINDS, ForeignWorker
from brrr_simulation.graphs import APPROVAL, EVENT, HANDLERS, KINDS, RACE, SKEW, TOPICS, Graph, Work, completer
from brrr_simulation.limits import Limits
from brrr_simulation.loop import DeadlockError
from brrr_simulation.model import Model
from brrr_simulation.operators import LATER_HANDLERS, LETTER_HANDLERS, MALFORMED, Operators
from brrr_simulation.pairs import Pairs
from brrr_simulation.properties import Invariants, leftovers, message_in
from brrr_simulation.recurring import AWAKE, TICK_HANDLERS, Recurring, called_ticks
from brrr_simulation.retries import REPAIR_HANDLERS, Retries
from brrr_simulation.waits import Waits

__all__ = ["THEMES", "Operation", "Report", "simulate"]

THEMES: Final[Mapping[str, int]] = {
    "limits": 15,
    "": 58,
    "letters": 5,
    "schedules": 12,
    "foreign": 10,
    "waits": 8,
    "cancels": 0,
}
"""The special parts of histories, and how often they occur.

Schedules go over low spawn limits, operators handle dead letters, workers keep a recurring schedule, workers of other
SDKs take part, clients wait for results, or clients cancel schedules and schedule again. Those with the weight 0 run
only if they are asked for: some of their seeds still fail.
"""

TROUBLE: Final = 60.0
"""Virtual seconds in which faults are planned."""

CALM: Final = 4 * TROUBLE
"""Virtual seconds after which no fault strikes."""

PATIENCE: Final = 400 * 86_400.0
"""Virtual seconds after which a history that has not ended is stuck."""

FEW: Final = 2
"""The most parents in one pending record, in some histories. Then records become full."""

PAUSE: Final = 60.0
"""Virtual seconds between two redrives of a root. A second one within this time may find the marks of the first."""

REDRIVES: Final = 20

DEPLOYMENT: Final = 20.0
"""Virtual seconds in which all workers are restarted with more handlers."""

STEPS: Final = 1_000_000
"""The number of callbacks after which a history counts as an endless loop.

A parent that a full record turns away polls, for example until a saga gets its approval.
"""

SIZE: Final = (30, 34)
"""The least and the most calls of a graph."""

POLICY: Final = brrr.Policy(
    backoff=1.0,
    backoff_limit=600.0,
    grace=5.0,
    unavailable_timeout=120.0,
    max_attempts=10_000,
    max_deliveries=100_000,
    max_crashes=100_000,
)
"""A policy under which no fault may cause a dead letter."""


class Operation(NamedTuple):
    """An operation that took effect: its time, its process, its name and its items."""

    at: float
    process: str
    name: str
    items: Sequence[Any]


@dataclass
class Report:
    """The events of a history, and its figures.

    Attributes:
        seed: Its seed.
        calls: The number of its calls.
        workers: The number of its workers.
        faults: The faults that struck.
        violations: The violated checks; empty if there is none.
        over_limit: The number of schedules that went over their spawn limits.
        handed_over: The number of calls that another schedule took over from one of these.
        leftovers: The number of calls with an outcome whose pending record is left.
        virtual: Virtual seconds.
        seconds: Seconds of CPU.
        trace: Every operation, if tracing was on.
        names: The names of calls by their hashes, if tracing was on.
    """

    seed: int
    calls: int = 0
    workers: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    violations: list[str] = field(default_factory=list[str])
    over_limit: int = 0
    handed_over: int = 0
    leftovers: int = 0
    virtual: float = 0.0
    seconds: float = 0.0
    trace: list[Operation] = field(default_factory=list[Operation])
    names: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def kinds(self) -> Counter[str]:
        """The number of faults by kind."""
        return Counter(fault.kind for fault in self.faults)


def simulate(
    seed: int,
    *,
    dropped: Collection[int] = (),
    size: int | None = None,
    kinds: Collection[str] | None = None,
    theme: str | None = None,
    trace: bool = False,
    pairs: Pairs | None = None,
) -> Report:
    """Run the history of a seed. The same arguments give the same history.

    Args:
        seed: The seed.
        dropped: Numbers of faults to leave out.
        size: The number of calls of the graph; random by default.
        kinds: The kinds of faults; random by default.
        theme: The special part of the history, one of `THEMES`; random by default.
        trace: Whether to record every operation.
        pairs: Counts the pairs of operations.
    """
    began = time.process_time()
    report = Report(seed)
    if pairs is not None:
        pairs.begin()
    with isolated(seed, returns_limit=returns_limit(seed)):
        _History(seed, report, dropped=dropped, size=size, kinds=kinds, theme=theme, trace=trace, pairs=pairs).run()
    report.seconds = time.process_time() - began
    return report


def returns_limit(seed: int) -> int:
    """Return the most parents in one record."""
    return Random(seed).choice((1, FEW, *4 * (1_000,)))  # noqa: S311 - a simulation


class _History:
    def __init__(
        self,
        seed: int,
        report: Report,
        *,
        dropped: Collection[int],
        size: int | None,
        kinds: Collection[str] | None,
        theme: str | None,
        trace: bool,
        pairs: Pairs | None,
    ) -> None:
        self._report = report
        self._traced = trace
        self._dice = dice = Dice(seed, dropped=dropped, kinds=kinds)
        draw = Random(seed + 1)  # noqa: S311 - a simulation; the faults do not change the graph
        self._draw = draw
        size = draw.randint(*SIZE) if size is None else size
        own = Random(seed + 3)  # noqa: S311 - a simulation; other choices stay as they are
        if theme is None:
            (theme,) = own.choices(list(THEMES), list(THEMES.values()))
        self._theme = theme
        # A parent that a full record turned away polls, and so does an operator. So no call may wait for weeks.
        long = returns_limit(seed) > FEW and theme not in {"letters", "cancels", "waits"}
        only = SHARED_KINDS if theme == "foreign" else tuple(KINDS)
        if theme == "cancels":
            only = tuple(KINDS.keys() - {"deadline", "race"})  # a cancelled schedule notices no deadline
        self._graph = Graph.random(draw, LEASE, size=size, long=long, only=only)
        self._retries = Retries(seed, self._graph, lambda: fleet.lost_queue, active=theme in {"", "schedules"})
        self._recurring = Recurring(seed, self._graph, active=theme == "schedules")
        self._operators = Operators(
            seed, self._graph, letters=theme == "letters", cancels=theme == "cancels", calm=lambda: dice.calm
        )
        self._limits = limits = Limits(seed, self._graph, active=theme == "limits")
        self._waits = waits = Waits(seed, self._graph, lambda: fleet.universe.now, active=theme == "waits")
        policy = replace(
            POLICY,
            park=draw.choice((0.0, 1.0)),
            resend_after=draw.choice((None, 3_600.0)),
            check=draw.random() < 0.2,
            **self._operators.limits,
            spawn_limit=limits.of_policy,
        )
        self._fleet = fleet = Fleet(
            dice,
            steps=draw.random() < 0.5,
            policy=policy,
            handlers={**HANDLERS, **REPAIR_HANDLERS, **TICK_HANDLERS, **LETTER_HANDLERS},
            codec=_CODEC,
            place=self._graph,
            concurrency=draw.choice((1, 3, 10)),
            schedules=self._recurring.schedules,
            hints=waits.hints,
            hooks=waits.hooks,
            trace=self._note if trace else None,
            pairs=pairs,
        )
        self._invariants = fleet.model.watcher = Invariants(fleet.model, fleet.universe.time)
        self._invariants.ledger.policy_limit = limits.of_policy
        topics = [topic for topic in TOPICS if any(node.topic == topic for node in self._graph.nodes)]
        for number in range(draw.randint(3, 4)):
            fleet.workers.append(Worker(f"worker {number + 1}", topics[number % len(topics)]))
        if theme == "foreign":
            self._add_foreign(topics, own)
        report.calls, report.workers = len(self._graph.nodes), len(fleet.workers)
        self._outcomes = self._graph.outcomes()

    def _add_foreign(self, topics: Sequence[str], own: Random) -> None:
        """Let workers of another SDK take part."""
        fleet, invariants, leases = self._fleet, self._invariants, own.random() < 0.5
        for number in range(own.randint(1, 2)):
            topic = topics[-1 - number % len(topics)]
            program = ForeignWorker(topic, self._graph, self._call, leases=leases, clock=lambda: fleet.clock(None))
            fleet.workers.append(Worker(f"{FOREIGN} {number + 1}", topic, program.work))
        invariants.foreign = FOREIGN
        invariants.loses = lambda: not leases or self._struck_foreign()

    def _struck_foreign(self) -> bool:
        """Whether a fault struck a worker of another SDK."""
        return any(fault.process.startswith(FOREIGN) or fault.process == "all" for fault in self._dice.struck)

    def run(self) -> None:
        """Run the history, and report the violated checks."""
        fleet, report = self._fleet, self._report
        self._plan()
        universe = fleet.universe
        try:
            if not universe.run_until(self._over, until=PATIENCE):
                report.violations.append("the history does not end: some calls have no outcome")
            elif universe.steps > STEPS:
                report.violations.append(f"the history is an endless loop: it ran {STEPS} callbacks")
        except DeadlockError as error:
            report.violations.append(str(error))
        report.virtual = universe.now
        if self._traced:
            report.names = names_of(fleet.model)
        report.faults = self._dice.struck
        report.violations += self._invariants.violations
        ledger = self._invariants.ledger
        report.over_limit, report.handed_over = len(ledger.over), len(ledger.handed_over)
        if not report.violations:
            self._check()
        universe.end()
        fleet.workers.clear()

    def _plan(self) -> None:
        """Start the workers, and plan the actions of clients and the faults."""
        fleet, dice, draw = self._fleet, self._dice, self._draw
        for worker in fleet.workers:
            fleet.start(worker)
        for number in self._graph.roots:
            for _ in range(draw.choice((1, 1, 2))):
                self._plan_client(draw.uniform(0, 5), f"schedules {number}", self._scheduler(number))
        for number in self._graph.events:
            self._plan_client(draw.uniform(0, TROUBLE), f"completes {number}", completer(EVENT, number))
        for number in self._graph.sagas:
            if draw.random() < 0.7:
                self._plan_client(draw.uniform(0, 5), f"cancels {number}", self._canceller(number))
            self._plan_client(TROUBLE * 5, f"approves {number}", completer(APPROVAL, number))
        for number in self._graph.races:
            self._plan_client(draw.uniform(0, TROUBLE), f"races {number}", completer(RACE, number))
        for when, name, work in (
            *self._retries.clients(),
            *self._operators.clients(),
            *self._limits.clients(TROUBLE),
            *self._waits.clients(TROUBLE, CALM),
        ):
            self._plan_client(when, name, work)
        fleet.disturb(TROUBLE)
        if self._theme == "letters":
            fleet.plan(draw.uniform(0, TROUBLE), lambda: fleet.model.put(TOPICS[0], [MALFORMED]))
            if self._operators.deploy_at is not None:
                fleet.plan(self._operators.deploy_at, self._deploy)
        if "forgotten" in dice.kinds and draw.random() < 0.5 and not self._theme:
            fleet.plan(draw.uniform(1, TROUBLE), self._forget)
        fleet.awake_until = self._recurring.until
        fleet.plan(CALM, self._calm)

    def _plan_client(self, when: float, name: str, work: Work) -> None:
        tolerant = self._limits.tolerant(work)
        self._fleet.plan(when, lambda: self._fleet.client(name, tolerant))

    def _scheduler(self, number: int, *, redrive: bool = False) -> Work:
        if self._limits.active:
            return self._limits.scheduler(number)
        node = self._graph.nodes[number]

        async def work(client: brrr.AppConsumer) -> None:
            self._operators.scheduled(
                number, await client.schedule(node.task, topic=node.topic, redrive=redrive)(number)
            )

        return work

    def _redriver(self, number: int) -> Work:
        """Redrive a root until it has its value. A worker of another SDK may put no lost child of its calls."""
        node = self._graph.nodes[number]

        async def work(client: brrr.AppConsumer) -> None:
            for _ in range(REDRIVES):
                try:
                    await client.read(node.task)(number)
                except NotFoundError:
                    await client.schedule(node.task, topic=node.topic, redrive=True)(number)
                else:
                    return
                await asyncio.sleep(PAUSE)

        return work

    def _deploy(self) -> None:
        self._operators.deployed = True
        self._fleet.deploy(LATER_HANDLERS, DEPLOYMENT)

    def _canceller(self, number: int) -> Work:
        async def work(client: brrr.AppConsumer) -> None:
            if await client.cancel("saga", topic=self._graph.nodes[number].topic)(number):
                self._graph.effects.counts[f"cancelled {number}"] += 1

        return work

    def _forget(self) -> None:
        if self._fleet.lose_queue():
            self._invariants.forget()
            for number in self._graph.roots:
                self._plan_client(
                    self._fleet.universe.now + 70, f"redrives {number}", self._scheduler(number, redrive=True)
                )
            if self._recurring.schedules:
                self._plan_client(self._fleet.universe.now + 70, "redrives ticks", self._redrive_ticks)

    async def _redrive_ticks(self, client: brrr.AppConsumer) -> None:
        for at in called_ticks(self._fleet.model.records):
            await client.schedule("tick", topic=self._graph.nodes[0].topic, redrive=True)(at)

    def _calm(self) -> None:
        self._dice.calm = True
        if self._theme == "foreign" and self._struck_foreign():
            for number in self._graph.roots:
                self._plan_client(self._fleet.universe.now, f"redrives {number}", self._redriver(number))
        if self._recurring.schedules:
            self._fleet.awake_until = self._fleet.universe.now + AWAKE

    def _over(self) -> bool:
        """Whether the history has ended: all is done, an invariant is violated, or it is an endless loop."""
        return (
            bool(self._invariants.violations)
            or self._fleet.universe.steps > STEPS
            or (self._dice.calm and self._fleet.idle and not self._recover())
        )

    def _recover(self) -> bool:
        """Let an operator recover the calls that a spawn limit or a dead letter stopped. False if there are none."""
        fleet, invariants = self._fleet, self._invariants
        clients = self._limits.recover(fleet, invariants.ledger, self._hash) + self._operators.recover(fleet)
        invariants.violations += self._limits.wrong
        for when, name, work in clients:
            self._plan_client(when, name, work)
        return bool(clients) and not invariants.violations

    def _check(self) -> None:
        report, records = self._report, self._fleet.model.records
        returned = {
            number for number in self._graph.sagas if records.get(Key("value", self._hash("saga", number))) == b"0"
        }
        report.violations += self._graph.check(returned)
        needed = self._operators.needed()
        for number, expected in enumerate(self._outcomes):
            node = self._graph.nodes[number]
            found = records.get(Key("value", self._hash(node.task, number)))
            if found is None and number not in needed:
                continue
            if found is None:
                report.violations.append(f"the {node.kind} {number} has no outcome")
            elif expected is None:
                if not found.startswith(FAILURE_PREFIX):
                    report.violations.append(f"the {node.kind} {number} must fail, but returned {found!r}")
            elif found != str(expected).encode() and not (node.kind == "saga" and b"Cancelled" in found):
                report.violations.append(f"the {node.kind} {number} must return {expected}, but returned {found!r}")
        if self._theme in {"", "schedules", "limits", "waits"}:
            report.violations += self._invariants.ledger.check(len(report.faults))
        report.violations += self._retries.check(self._outcome_of)
        buried = [letter for letter in self._fleet.model.buried if not self._limits.explains(letter)]
        report.violations += self._operators.check(self._outcome_of, self._call_of, buried, faulty=bool(report.faults))
        report.violations += self._waits.check(
            self._outcome_of, lambda task, number: self._invariants.settled_at.get(self._hash(task, number), inf)
        )
        report.violations += self._recurring.check(records, self._invariants.cursors, calm=not report.faults)
        report.violations += self._late_races()
        if not self._dice.kinds and self._theme in {"", "schedules", "waits"}:
            report.violations += self._needless_work()
        for name, topic in self._fleet.model.topics.items():
            report.violations += [
                f"dead letter on {name}: {letter.reason[:300]}"
                for letter in topic.dead.values()
                if not self._limits.explains(letter)
            ]
        for process in self._fleet.universe.processes:
            report.violations += [f"{process.name}: {failure!r}" for failure in process.failures]
        left = leftovers(self._fleet.model)
        report.leftovers = len(left)
        if not self._fleet.lost_queue and self._theme != "foreign":
            wrong = (
                self._invariants.wrong_leftover(call_hash, report.faults)
                for call_hash in left
                # Its parents wake if the limit is raised and it is redriven.
                if not (self._limits.active and self._invariants.ledger.keeps(call_hash))
            )
            report.violations += filter(None, wrong)

    def _late_races(self) -> list[str]:
        """Return the waits that expired although their events had happened long before the deadline."""
        records, wrong = self._fleet.model.records, list[str]()
        for number in self._graph.races:
            if not self._graph.effects.counts[f"expired {number}"]:
                continue
            event = _CODEC.encode_call(f"brrr.event/{RACE}", (number,), {}).call_hash
            due = records.get(Key("value", f"brrr.due/{self._hash('node', number)}/0"), b"0")
            early = int(due) / 1000 - EPOCH - self._invariants.settled_at.get(event, inf)
            if early > SKEW:
                wrong.append(
                    f"the race {number} expired, although its event happened {early:.0f} s before the deadline"
                )
        return wrong

    def _needless_work(self) -> list[str]:
        """Return the unnecessary work in a history without faults."""
        wrong = [f"{self._fleet.model.expired} leases ended without a fault"] if self._fleet.model.expired else []
        edges = sum(len(node.children) for node in self._graph.nodes)
        most = 3 * (len(self._graph.nodes) + edges) + 30 * len(self._graph.sagas) + 50
        if (
            self._invariants.puts > most and returns_limit(self._report.seed) > FEW
        ):  # else turned-away parents look again
            wrong.append(f"{self._invariants.puts} messages were put, which is more than {most}")
        return wrong

    def _outcome_of(self, task: str, number: int) -> bytes | None:
        return self._fleet.model.records.get(Key("value", self._hash(task, number)))

    def _call_of(self, body: bytes) -> Call | None:
        call_hash = message_in(body).call_hash
        record = self._fleet.model.records.get(Key("call", call_hash))
        return None if record is None else decode_call(call_hash, record)

    def _call(self, number: int) -> Call:
        return _CODEC.encode_call(self._graph.nodes[number].task, (number,), {})

    def _hash(self, task: str, number: int) -> str:
        return _CODEC.encode_call(task, (number,), {}).call_hash

    def _note(self, at: float, who: str, name: str, items: Sequence[Any]) -> None:
        self._report.trace.append(Operation(at, who, name, items))


def names_of(model: Model) -> dict[str, str]:
    """Return the calls of a model by their hashes: `node [7]`."""
    calls = {
        key.call_hash: decode_call(key.call_hash, record) for key, record in model.records.items() if key.kind == "call"
    }
    return {call_hash: f"{call.task_name} {call.payload.decode()}" for call_hash, call in calls.items()}


_CODEC: Final = brrr.load_codec("json")
