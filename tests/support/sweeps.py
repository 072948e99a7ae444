"""Scenarios for sweeps, in which a fault hits each operation of a worker in turn."""

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import brrr_core as brrr
import brrr_cron
from brrr_core.errors import BackendClosedError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support import scenarios
from tests.support.losses import lose_everything
from tests.support.requests import Cancelling, Retrying
from tests.support.scenarios import EPOCH, LEASE, RESULT, TOPIC, Stage, World, everything, stage
from tests.support.virtual import run_virtually

__all__ = ["LONG", "SCENARIOS", "Scenario", "Single", "operations_of"]

Handlers = Callable[[World], Mapping[str, Any]]


class Scenario:
    """A workflow with its preparation, the events outside while it runs, and its result."""

    steps: bool = True
    result: Any = RESULT
    dead: int = 0
    handlers: Handlers = staticmethod(everything)

    async def begin(self, on: Stage) -> None:
        """Put the top-level call."""
        await on.client.schedule("top", topic=TOPIC)()

    async def outside(self, on: Stage) -> None:
        """Act while the workers run, for example complete an event."""


class Redriven(Scenario):
    """Lose all messages of a running workflow, and redrive it."""

    async def begin(self, on: Stage) -> None:
        await super().begin(on)
        worker, connection = on.worker(handlers=self.handlers)
        await asyncio.sleep(LEASE / 2)  # virtual: by now all but the slow call is done
        worker.cancel()
        await asyncio.wait({worker})
        await connection.close()
        on.observer.forget()
        await lose_everything(on.backend.queue)
        await on.client.schedule("top", topic=TOPIC, redrive=True)()


def crowd(world: World) -> Mapping[str, Any]:
    """More parents of one child than its record has room for."""

    @brrr.handler_no_arg
    async def child() -> int:
        await asyncio.sleep(2.0)
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return n + await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(5))))

    return {"child": child, "parent": parent, "top": top}


class Crowded(Scenario):
    """Five parents register in a record that has room for two returns."""

    result = 15
    handlers = staticmethod(crowd)

    async def begin(self, on: Stage) -> None:
        with_room_for(2)
        await super().begin(on)


def failing(world: World) -> Mapping[str, Any]:
    """Calls that fail at once, after their attempts, and because of a child; one that handles them; one that waits."""

    @brrr.handler_no_arg
    async def refused(number: int) -> int:
        raise brrr.TerminalError("refused", details=number)

    @brrr.handler_no_arg(max_attempts=2, on_exhausted="fail")
    async def hopeless() -> int:
        raise ConnectionError("never")

    @brrr.handler_no_arg
    async def patient() -> int:
        if "patient" not in world.failed:
            world.failed.add("patient")
            raise brrr.Again(after=5.0)
        return 1

    @brrr.handler
    async def through(app: brrr.ActiveWorker) -> int:
        return await app.call(refused)(2)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        calls = app.call(refused)(1), app.call(hopeless)(), app.call(through)(), app.call(refused)(2)
        outcomes = await app.gather(*calls, return_exceptions=True)
        try:
            return await app.call(refused)(4)
        except brrr.CallFailedError as error:
            failed = [outcome for outcome in outcomes if isinstance(outcome, brrr.CallFailedError)]
            return len(failed) + await app.call(patient)() if error.details == 4 else 0

    return {"refused": refused, "hopeless": hopeless, "patient": patient, "through": through, "top": top}


class Failing(Scenario):
    """Failures are outcomes, and the call whose attempts are used up leaves a dead letter too."""

    result = 5
    dead = 1
    handlers = staticmethod(failing)


def sending(world: World) -> Mapping[str, Any]:
    """Calls that are sent before and after a call that defers the run, and one that ends when they have run."""

    @brrr.handler_no_arg
    async def note(name: str) -> None:
        world.failed.add(name)

    @brrr.handler_no_arg
    async def child() -> int:
        return 1

    @brrr.handler_no_arg
    async def noted() -> int:
        if len(world.failed) < 3:
            raise brrr.Again(after=1.0)
        return 2

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        await app.send(note)("one")
        number = await app.call(child)()
        await app.gather(app.send(note)("two"), app.send(note)("three"))
        return number + await app.call(noted)()

    return {"note": note, "child": child, "noted": noted, "top": top}


class Sending(Scenario):
    """No fault loses a call that no run waits for."""

    result = 3
    handlers = staticmethod(sending)


def waiting(world: World) -> Mapping[str, Any]:
    """Sequential and concurrent sleeps, deadlines that are kept and missed, and events."""

    @brrr.handler_no_arg
    async def quick() -> int:
        return 1

    @brrr.handler
    async def slow(app: brrr.ActiveWorker) -> int:
        await app.sleep("2m")
        return 2

    @brrr.handler
    async def napping(app: brrr.ActiveWorker, name: str) -> str:
        await app.sleep(20, key=name)
        return name

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[object]:
        await app.sleep(5)
        await app.gather(app.sleep(10), app.sleep(15), app.call(napping)("one"))
        waits = (
            app.call(quick, deadline=60)(),
            app.call(slow, deadline=60)(),
            app.call(slow, delay=10, deadline="1h")(),
            app.event("go", 1, deadline=600),
            app.event("never", deadline=90),
            app.event("go", 2),
        )
        outcomes = await app.gather(*waits, return_exceptions=True)
        await app.sleep_until(EPOCH + 100)
        return [type(each).__name__ if isinstance(each, Exception) else each for each in outcomes]

    return {"quick": quick, "slow": slow, "napping": napping, "top": top}


class Waiting(Scenario):
    """Timers and events wake their parents, and every run sees the same outcome of each wait."""

    result = [1, "DeadlineExceededError", 2, "one", "DeadlineExceededError", "CallFailedError"]  # noqa: RUF012
    handlers = staticmethod(waiting)

    async def outside(self, on: Stage) -> None:
        await on.client.event("go", 1).complete("one")
        await asyncio.sleep(70)
        await on.client.event("go", 2).fail("refused")


def changing(world: World) -> Mapping[str, Any]:
    """The first worker has version 1 of a handler, and the next ones have version 2, which makes another call."""
    version = 2 if "version 1" in world.failed else 1
    world.failed.add("version 1")

    @brrr.handler_no_arg
    async def child(name: str) -> int:
        world.failed.add(name)
        return 1

    @brrr.handler(version=version, oldest_version=1)
    async def top(app: brrr.ActiveWorker) -> int:
        if app.version == 1:
            return await app.call(child)("first") + await app.call(child)("second")
        assert "first" not in world.failed, "the call began with version 1"
        return 2 * await app.call(child)("only")

    return {"child": child, "top": top}


class Changing(Scenario):
    """The worker after the fault has newer code. It continues a call that began with the older code as that."""

    result = 2
    handlers = staticmethod(changing)


def scheduled(world: World) -> Mapping[str, Any]:
    """Note the ticks of a schedule until there are three, each of which has a child."""

    @brrr.handler_no_arg
    async def child(tick: str) -> str:
        return tick

    @brrr.handler
    async def minutely(app: brrr.ActiveWorker, tick: str) -> None:
        world.ticks.add(await app.call(child)(tick))

    @brrr.handler_no_arg
    async def top() -> list[str]:
        if len(world.ticks) < 3:
            raise brrr.Again(after=20)
        return sorted(world.ticks)[:3]

    return {"child": child, "minutely": minutely, "top": top}


class Scheduled(Scenario):
    """No fault loses a tick of a recurring schedule, or makes two calls of it."""

    result = [f"2027-01-15T08:0{minute}:00Z" for minute in (1, 2, 3)]  # noqa: RUF012
    handlers = staticmethod(scheduled)

    async def begin(self, on: Stage) -> None:
        await super().begin(on)
        on.schedules = [brrr_cron.every("* * * * *", "minutely", missed="all")]


def deploying(version: int) -> Handlers:
    """Return handlers of old or new code."""

    def handlers(world: World) -> Mapping[str, Any]:
        @brrr.handler_no_arg
        async def child(name: str) -> int:
            await asyncio.sleep(2.0)
            return 1

        @brrr.handler(version=version, old_topics={1: "old"} if version == 2 else {})
        async def top(app: brrr.ActiveWorker) -> list[object]:
            if version == 2:
                await app.call(child)("new")
            await app.sleep(5)
            await app.call(child)("first")
            return [app.version, app.topic, await app.call(child)("second")]

        @brrr.handler(version=version)
        async def beside(app: brrr.ActiveWorker) -> int:
            return await app.call(child)("beside")

        return {"child": child, "top": top, "beside": beside}

    return handlers


class Moving(Scenario):
    """A call that began with old code moves to the topic of a worker with that code, in spite of any fault."""

    result = [1, "old", 1]  # noqa: RUF012
    handlers = staticmethod(deploying(2))

    async def begin(self, on: Stage) -> None:
        await super().begin(on)
        worker, connection = on.worker(handlers=deploying(1))
        await asyncio.sleep(1)  # virtual: by now the call sleeps
        await on.stop(worker, connection)
        await on.client.schedule("beside", topic=TOPIC)()

    async def outside(self, on: Stage) -> None:
        worker, connection = on.worker(handlers=deploying(1), topic="old")
        await on.client.result("top")()
        await on.stop(worker, connection)


class Insistent(Scenario):
    """Clients schedule the call again and again, and each of them dies at another of its operations."""

    async def outside(self, on: Stage) -> None:
        for last in itertools.cycle(range(1, 6)):
            if (await on.client.status("top")()).state == "done":
                return
            with suppress(BackendClosedError):
                await on.another_client(scenarios.mortal(last)).schedule("top", topic=TOPIC)()
            await asyncio.sleep(7)


class Stranded(Scenario):
    """A schedule after a dead-lettered descendant recovers the workflow, in spite of a fault before or after it."""

    result = 13
    dead = 1
    handlers = staticmethod(scenarios.poisoned)

    async def begin(self, on: Stage) -> None:
        on.client = scenarios.Mending(on)
        await super().begin(on)


def with_room_for(returns: int) -> None:
    """Make pending records small. `scenario` undoes it."""
    import brrr_core.engine.scheduling as module

    module.__dict__["RETURNS_LIMIT"] = returns


class Single(Scenario):
    """The workflow without steps."""

    steps = False


KINDS: Any = (Redriven, Crowded, Failing, Sending, Waiting, Changing, Moving, Scheduled, Insistent, Stranded)
SCENARIOS = {"workflow": Scenario} | {kind.__name__.lower(): kind for kind in (*KINDS, Cancelling, Retrying)}
LONG = {"cancelling", "waiting"}  # some hundred operations


def operations_of(scenario: Scenario) -> list[Operation]:
    """Return the operations of a run without faults. Of successive receives that find nothing, it has the first."""
    idle: set[int] = set()
    received = 0

    async def after(operation: Operation) -> None:
        nonlocal received
        if operation.name.endswith(".receive") and instrument.items["received"] == received:
            idle.add(operation.number)
        received = instrument.items["received"]

    instrument = Instrument(after=after)

    async def main() -> list[Operation]:
        async with stage(steps=scenario.steps) as on:
            await scenario.begin(on)
            worker, connection = on.worker(instrument, handlers=scenario.handlers)
            await scenario.outside(on)
            await on.verify(scenario.result, scenario.dead)
            operations = list(instrument.operations)
            await on.stop(worker, connection)
            return [each for each in operations if not idle >= {each.number, each.number - 1}]

    random.seed(1)
    return run_virtually(main())
