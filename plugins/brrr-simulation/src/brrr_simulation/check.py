"""Check a workflow of a user: run it under crashes, repeats and reordering, and say what to change in its handlers."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine.run import Run
from brrr_core.wire import Call
from brrr_simulation.faults import Dice
from brrr_simulation.fleet import Fleet, Worker, isolated
from brrr_simulation.loop import DeadlockError
from brrr_simulation.races import Races, RunningCall, running

__all__ = ["CheckFailedError", "Effects", "check"]

Client = Callable[[brrr.AppConsumer], Coroutine[Any, Any, object]]
"""A program beside the workers. It is repeated until it ends without an error."""

TROUBLE: Final = 60.0
PATIENCE: Final = 10 * 365 * 86_400.0
STEPS: Final = 500_000
POLICY: Final = brrr.Policy(
    backoff_limit=10.0, grace=5.0, max_attempts=100, max_deliveries=100_000, max_crashes=100_000, check=True
)


class CheckFailedError(AssertionError):
    """A history in which a workflow is wrong: the seed, what was seen, and what to change."""


class Effects:
    """The effects of handlers outside of brrr: `effects.record("charge", order)`. They survive all simulated crashes.

    Attributes:
        counts: The number of times of each effect, by its name and its key.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, object]] = Counter()

    def record(self, name: str, key: object = None) -> None:
        """Note that an effect took place."""
        self.counts[name, key] += 1


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
    """Run a workflow once without faults, and once with the faults of each seed. Time is virtual: no sleep takes time.

    Args:
        handlers: Makes the handlers, for each history anew. It gets the effects that they record.
        call: The name of the task to schedule on the first topic.
        args: Its arguments.
        seeds: The seeds.
        at_most: The most times of each effect, by its name, for each key.
        at_least: The least times of each effect, by its name, in total.
        topics: The topics of the workers.
        clients: Programs beside the workers, which complete events, for example.
        codec: The codec.
        kinds: The kinds of faults, by default all: `brrr_simulation.KINDS`.
        lifespan: As that of `AppWorker`.

    Returns:
        The result of the call.

    Raises:
        CheckFailedError: A handler makes other calls when it runs again, returns something else, swallows `Defer`, or
            has an effect too often or too rarely. Or two handlers race for a part of `app.state`.
    """
    run = _Check(handlers, call, args, topics, clients, codec, lifespan, at_most or {}, at_least or {})
    expected = run.history(0, kinds=())
    for seed in seeds:
        found = run.history(seed, kinds=kinds)
        if found != expected:
            raise CheckFailedError(
                f"seed {seed}: {call!r} returned {found!r}, and without faults {expected!r}. A handler depends on "
                "something that differs when it runs again: read time, randomness and outside state in calls of their "
                "own, whose values are stored"
            )
    return expected


@dataclass(frozen=True)
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

    def history(self, seed: int, *, kinds: Collection[str] | None) -> Any:
        """Run one history, and return the result of the call."""
        effects, dice, draw = Effects(), Dice(seed, kinds=kinds), Random(seed + 1)  # noqa: S311 - a simulation
        races = Races()
        _deferred.clear()
        _swallowed.clear()
        with isolated(seed):
            fleet = Fleet(
                dice,
                steps=draw.random() < 0.5,
                policy=POLICY,
                handlers=self.handlers(effects),
                concurrency=10,
                lifespan=None if self.lifespan is None else races.lifespan(self.lifespan),
                app=_WatchedApp,
                codec=self.codec,
            )
            for number in range(max(3, len(self.topics))):
                worker = Worker(f"worker {number + 1}", self.topics[number % len(self.topics)])
                fleet.workers.append(worker)
                fleet.start(worker)
            fleet.client("client", self._schedule)
            for client in self.clients:
                fleet.plan(draw.uniform(0, TROUBLE), partial(fleet.client, "client", _without_result(client)))
            fleet.disturb(TROUBLE)
            fleet.plan(TROUBLE, lambda: setattr(dice, "calm", True))
            universe = fleet.universe
            try:
                universe.run_until(lambda: (dice.calm and fleet.idle) or universe.steps > STEPS, until=PATIENCE)
                if races.found:
                    raise CheckFailedError(f"seed {seed}: {races.found[0]}")
                return self._result(seed, fleet, effects)
            except DeadlockError as error:
                raise CheckFailedError(f"seed {seed}: {error}") from error
            finally:
                universe.end()

    async def _schedule(self, client: brrr.AppConsumer) -> None:
        await client.schedule(self.call, topic=self.topics[0])(*self.args)

    def _result(self, seed: int, fleet: Fleet, effects: Effects) -> Any:
        letters = [letter for topic in fleet.model.topics.values() for letter in topic.dead]
        if letters:
            raise CheckFailedError(f"seed {seed}: a call was dead-lettered: {letters[0].reason.partition(chr(10))[0]}")
        if _swallowed:
            names = ", ".join(map(repr, sorted(_swallowed)))
            raise CheckFailedError(
                f"seed {seed}: the handler {names} caught `Defer`, with which brrr aborts it at a call without a "
                "value, and went on. Catch `Exception` in place of `BaseException`, and raise again in a bare `except`"
            )
        for (name, key), count in effects.counts.items():
            if count > self.at_most.get(name, count):
                raise CheckFailedError(
                    f"seed {seed}: the effect {name!r} of {key!r} took place {count} times, which is more than "
                    f"{self.at_most[name]}. A handler that was interrupted runs again from its start. Give the effect "
                    "a key that is the same in each run, such as `app.call_hash`, so that its receiver drops repeats"
                )
        for name, least in self.at_least.items():
            total = sum(count for (each, _), count in effects.counts.items() if each == name)
            if total < least:
                raise CheckFailedError(
                    f"seed {seed}: the effect {name!r} took place {total} times, which is less than {least}. A "
                    "condition around it differs when the handler runs again"
                )
        encoded = brrr.load_codec(self.codec).encode_call(self.call, tuple(self.args), {})
        value = fleet.model.records.get(Key("value", encoded.call_hash))
        if value is None:
            raise CheckFailedError(f"seed {seed}: {self.call!r} has no result, and nothing is left to do")
        return value


def _without_result(client: Client) -> Callable[[brrr.AppConsumer], Coroutine[Any, Any, None]]:
    async def work(app: brrr.AppConsumer) -> None:
        await client(app)

    return work


class _WatchedRun(Run):
    """A run that notices a handler that goes on after `Defer`: its own task asks for more calls, or returns."""

    __slots__ = ()

    async def defer(self) -> None:
        try:
            await super().defer()
        except brrr.Defer:
            _deferred[id(self)] = asyncio.current_task()
            raise

    async def look_up(self, children: Sequence[Any], *, presume: bool = False) -> list[bytes | None]:
        if id(self) in _deferred and _deferred[id(self)] is asyncio.current_task():
            _swallowed.add(self.call.task_name)
        return await super().look_up(children, presume=presume)


class _WatchedApp(brrr.AppWorker):
    async def handle(self, run: Run, call: Call) -> bytes:
        run.__class__ = _WatchedRun  # both have the same slots
        token = running.set(RunningCall(f"{call.task_name!r} of {call.payload!r}", asyncio.get_running_loop()))
        try:
            payload = await super().handle(run, call)
            if run.missing:
                _swallowed.add(call.task_name)
            return payload
        finally:
            running.reset(token)
            _deferred.pop(id(run), None)


# Module state, because slots leave no place in a run. Each history clears it.
_deferred: Final[dict[int, "asyncio.Task[Any] | None"]] = {}
_swallowed: Final[set[str]] = set()
