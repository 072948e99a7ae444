"""Check a workflow of a user: run it under crashes, repeats and reordering. A failure names the remedy."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from random import Random
from typing import Any, Final

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.wire import decode_call, decode_message
from brrr_simulation.faults import Dice
from brrr_simulation.fleet import Fleet, Worker, isolated
from brrr_simulation.history import Report
from brrr_simulation.loop import DeadlockError
from brrr_simulation.story import shrink, side_by_side, timeline
from brrr_simulation.watching import Effects, Watch, WatchedApp, effect_name, name_of

__all__ = ["CheckFailedError", "Effects", "check"]

Client = Callable[[brrr.AppConsumer], Coroutine[Any, Any, object]]
"""A program that runs together with the workers. It is repeated until it ends without an error."""

TROUBLE: Final = 60.0
"""Virtual seconds in which faults strike."""
WINDOWS: Final = 4
"""The most such periods of faults in one history. Between them are long waits of the workflow."""
PATIENCE: Final = 10 * 365 * 86_400.0
"""Virtual seconds after which a history is stuck."""

STEPS: Final = 500_000
"""The number of callbacks after which a history is an endless loop."""

SCALES: Final = (1.0, 4.0)
"""Factors for the probabilities of faults. They are high, because a workflow of a few calls has few operations."""
TRIES: Final = 60
"""The most histories in the search for a short story."""
SHOWN: Final = 100
"""The most events in a story."""
POLICY: Final = brrr.Policy(
    backoff_limit=10.0, grace=5.0, max_attempts=100, max_deliveries=100_000, max_crashes=100_000, check=True
)


class CheckFailedError(AssertionError):
    """A workflow failed in a history. The message has the seed, the fault of the workflow, and the remedy.

    Attributes:
        seed: The seed that repeats the history.
        story: The events of the history: runs of handlers, effects, and the faults that the failure needs.
    """

    seed: int = 0
    story: str = ""


def check(
    handlers: Callable[[Effects], Mapping[str, Any]],
    call: str,
    *args: Any,
    seeds: Iterable[int] = range(50),
    at_most: Mapping[str, int] | None = None,
    at_least: Mapping[str, int] | None = None,
    topics: Sequence[str] = ("check",),
    clients: Sequence[Client] = (),
    codec: str = "json",
    kinds: Collection[str] | None = None,
    lifespan: Any = None,
) -> Any:
    """Run a workflow once without faults, and once for each seed with faults. Time is virtual, so sleeps take no time.

    Args:
        handlers: Returns new handlers for each history. It gets the `Effects` on which they record their effects.
        call: The name of the task to schedule on the first topic.
        args: Its arguments.
        seeds: The seeds.
        at_most: For each name of an effect, the most times that it may take place with one key.
        at_least: For each name of an effect, the least times that it must take place with all keys together.
        topics: The topics of the workers.
        clients: Programs that run together with the workers, for example to complete events.
        codec: The codec.
        kinds: The kinds of faults; by default all of `brrr_simulation.KINDS`.
        lifespan: The lifespan of the application, as `AppWorker` takes it.

    Returns:
        The result of the call.

    Raises:
        CheckFailedError: In a re-run, a handler makes other calls or returns another result. Or it swallows `Defer`, or
            has an effect too often or too rarely; or two handlers race for a part of `app.state`.
    """
    run = _Check(handlers, call, args, topics, clients, codec, lifespan, at_most or {}, at_least or {})
    report = run.report(0, kinds=())
    if report.violations:
        raise _failure("without faults", report, partial(run.report, kinds=()))
    run.expected = report.result
    for seed in seeds:
        report = run.report(seed, kinds=kinds)
        if report.violations:
            raise _failure(f"seed {seed}", report, partial(run.report, kinds=kinds))
    return run.expected


@dataclass
class _CheckReport(Report):
    result: Any = None


@dataclass
class _Check:
    handlers: Callable[[Effects], Mapping[str, Any]]
    call: str
    args: Sequence[Any]
    topics: Sequence[str]
    clients: Sequence[Client]
    codec: str
    lifespan: Any
    at_most: Mapping[str, int]
    at_least: Mapping[str, int]
    expected: Any = None

    def report(
        self, seed: int, *, kinds: Collection[str] | None, dropped: Collection[int] = (), trace: bool = False
    ) -> _CheckReport:
        """Run one history, and return its violations. With `trace`, it also has the story of the handlers."""
        effects, draw = Effects(), Random(seed + 1)  # noqa: S311 - a simulation
        dice = Dice(seed, kinds=kinds, dropped=dropped, scales=SCALES)
        report = _CheckReport(seed, workers=max(3, len(self.topics)), faults=dice.struck)
        with isolated(seed):
            watch = Watch(lambda: fleet.universe.now)
            fleet = Fleet(
                dice,
                steps=draw.random() < 0.5,
                policy=POLICY if kinds != () else replace(POLICY, max_attempts=brrr.Policy().max_attempts),
                handlers=self.handlers(effects),
                concurrency=10,
                lifespan=None if self.lifespan is None else watch.races.lifespan(self.lifespan),
                app=partial(WatchedApp, watch),
                place=watch,
                codec=brrr.load_codec(self.codec),
            )
            watch.interrupts = fleet.interrupts
            for number in range(report.workers):
                worker = Worker(f"worker {number + 1}", self.topics[number % len(self.topics)])
                fleet.workers.append(worker)
                fleet.start(worker)
            fleet.client("client", self._schedule)
            for client in self.clients:
                fleet.plan(draw.uniform(0, TROUBLE), partial(fleet.client, "client", _without_result(client)))
            self._disturb(fleet, WINDOWS)
            universe = fleet.universe
            try:
                universe.run_until(
                    lambda: (dice.calm and fleet.idle) or watch.wrong or universe.steps > STEPS, until=PATIENCE
                )
                report.violations += (
                    watch.races.found or self._wrong(fleet, effects, watch) or self._differs(report, fleet)
                )
            except DeadlockError as error:
                report.violations.append(str(error))
            finally:
                universe.end()
        report.calls = sum(key.kind == "call" for key in fleet.model.records)
        if trace:
            report.trace = watch.story
        return report

    def _disturb(self, fleet: Fleet, windows: int) -> None:
        """Let faults strike for `TROUBLE` seconds, and again after each of the first long waits of the workflow."""

        def end() -> None:
            due = fleet.model.next_due()
            if due in (None, inf) or windows == 1:
                fleet.dice.calm = True
            else:
                fleet.plan(due, lambda: self._disturb(fleet, windows - 1))

        fleet.disturb(TROUBLE)
        fleet.plan(fleet.universe.now + TROUBLE, end)

    async def _schedule(self, client: brrr.AppConsumer) -> None:
        await client.schedule(self.call, topic=self.topics[0])(*self.args)

    def _wrong(self, fleet: Fleet, effects: Effects, watch: Watch) -> list[str]:
        """Return the faults of the handlers, the most helpful one first."""
        wrong = [
            f"`{_name_of(letter.body, fleet)}` was dead-lettered: {letter.reason.partition(chr(10))[0]}"
            for topic in fleet.model.topics.values()
            for letter in topic.dead.values()
        ]
        if wrong and watch.differing is not None:
            wrong[0] += f"\n\n{side_by_side(*watch.differing)}\n"
        wrong += [
            f"the handler {name!r} caught `Defer`, with which brrr aborts it at a call without a value, and went on. "
            "Catch `Exception` instead of `BaseException`, and raise again in a bare `except`"
            for name in sorted(watch.swallowed)
        ]
        wrong += [
            f"{effect_name(name, key)} took place {count} times, which is more than {self.at_most[name]}. A handler "
            "runs again from its start after a crash, and when a call that it waits for has a value. Give the effect a "
            "key that is the same in each run, such as `app.call_hash`, so that its receiver can ignore repeats"
            for (name, key), count in effects.counts.items()
            if count > self.at_most.get(name, count)
        ]
        for name, least in self.at_least.items():
            total = sum(count for (each, _), count in effects.counts.items() if each == name)
            if total < least:
                wrong.append(
                    f"{effect_name(name, None)} took place {total} times, which is less than {least}. A condition "
                    "around it differs when the handler runs again"
                )
        return wrong

    def _differs(self, report: _CheckReport, fleet: Fleet) -> list[str]:
        """Read the result. Return how it differs from the result without faults."""
        encoded = brrr.load_codec(self.codec).encode_call(self.call, tuple(self.args), {})
        report.result = fleet.model.records.get(Key("value", encoded.call_hash))
        if report.result is None:
            return [f"{self.call!r} has no result, and nothing is left to do"]
        if self.expected in (None, report.result):
            return []
        text = (
            f"{self.call!r} returned {report.result!r}, and without faults {self.expected!r}. A handler depends on "
            "something that differs when it runs again: read the time, randomness and outside state in separate calls, "
            "whose values are stored"
        )
        return [text]


def _failure(where: str, report: Report, run: Callable[..., Report]) -> CheckFailedError:
    """Return the error of a report, with the story of the smallest history of its seed that fails."""
    try:
        shrunk = shrink(report.seed, run, sizes=(), tries=TRIES)
    except ValueError:
        error = CheckFailedError(
            f"{where}: {report.violations[0]}. A second history of this seed passed, so some state outlives "
            "a history: create fakes and caches inside the function that makes the handlers"
        )
    else:
        error = CheckFailedError(f"{where}: {shrunk.report.violations[0]}")
        error.story = "\n".join(timeline(shrunk.report, shown=SHOWN))
        error.add_note(error.story)
    error.seed = report.seed
    return error


def _name_of(body: bytes, fleet: Fleet) -> str:
    """Return the name of the call of a message."""
    call_hash = decode_message(body).call_hash
    return name_of(decode_call(call_hash, fleet.model.records[Key("call", call_hash)]))


def _without_result(client: Client) -> Callable[[brrr.AppConsumer], Coroutine[Any, Any, None]]:
    async def work(app: brrr.AppConsumer) -> None:
        await client(app)

    return work
