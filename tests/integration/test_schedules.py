"""Recurring schedules run beside a loop: they stop with it, and their errors do not end it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count

import brrr_core as brrr
import brrr_cron
from brrr_core.backend import Key
from brrr_core.errors import BackendUnavailableError
from brrr_core.hooks import BackendFailed
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import QUICK, TOPIC, serving
from tests.support.scenarios import World, stage
from tests.support.virtual import run_virtually

Tick = Callable[[float], Awaitable[float]]


class Beat:
    """A schedule whose ticks the test defines."""

    def __init__(self, tick: Tick, name: str = "beat") -> None:
        self.name = name
        self.tick = tick
        self.began: list[str] = []

    def begin(self, connection: brrr.Connection, handle: object, topic: str) -> Tick:
        self.began.append(topic)
        return self.tick


class Failures:
    """Keeps the failures that hooks report."""

    def __init__(self) -> None:
        self.seen: list[BackendFailed] = []

    @brrr.hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        self.seen.append(event)


@brrr.handler_no_arg
async def fine() -> str:
    return "fine"


HANDLERS = {"fine": fine}

_names = count()


def loop_for(tick: Tick, seconds: float, *, then: Callable[[], object] = lambda: None, ahead: list[float]) -> None:
    """Run a loop with a schedule in virtual time for some seconds, call `then`, and run it as long again.

    Its clock is the virtual time plus the number in `ahead`.
    """

    async def main() -> None:
        time = asyncio.get_running_loop().time
        async with brrr.open_backend(f"memory:virtual-{next(_names)}") as backend:
            roles = backend.queue, backend.store, backend.cache
            connection = brrr.Connection(*roles, clock=lambda: time() + ahead[0])
            app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
            worker = asyncio.create_task(connection.loop(TOPIC, app.handle, schedules=[Beat(tick)]))
            await asyncio.sleep(seconds)
            then()
            await asyncio.sleep(seconds)
            connection.stop()
            await worker
            await asyncio.sleep(2 * 3600)
            await connection.close()

    run_virtually(main())


def test_schedule_ticks_at_the_times_that_it_returns_until_the_loop_stops() -> None:
    times: list[float] = []

    async def tick(now: float) -> float:
        times.append(now)
        return now + 3600

    loop_for(tick, 2.2 * 3600, ahead=[0.0])
    assert times == [0, 3600, 7200, 10800, 14400]


def test_clock_that_is_set_is_noticed_within_a_minute() -> None:
    times: list[float] = []
    ahead = [0.0]

    async def tick(now: float) -> float:
        times.append(now)
        return 3600.0 * len(times)

    loop_for(tick, 90, ahead=ahead, then=lambda: ahead.append(ahead.pop() + 3600))
    assert times == [0, 3600 + 120]


async def test_schedule_that_fails_is_reported_and_retried_while_the_worker_works(memory: str) -> None:
    failures, tries, done = Failures(), count(), asyncio.Event()

    async def tick(now: float) -> float:
        if next(tries) < 3:
            raise BackendUnavailableError("no answer")
        done.set()
        return now + 3600

    async with serving(memory, HANDLERS, hooks=[failures], schedules=[Beat(tick)]) as fleet:
        assert await fleet.run(fine) == "fine"
        await asyncio.wait_for(done.wait(), 10)
        assert await fleet.run(fine) == "fine"
    assert [(event.topic, str(event.error)) for event in failures.seen] == [(TOPIC, "[BRRR-BACKEND-01] no answer.")] * 3


async def test_bug_of_a_schedule_does_not_end_the_worker(memory: str) -> None:
    failures, ticks = Failures(), asyncio.Semaphore(0)

    async def tick(now: float) -> float:
        ticks.release()
        raise ZeroDivisionError

    async with serving(memory, HANDLERS, hooks=[failures], schedules=[Beat(tick)]) as fleet:
        for _ in range(3):
            await ticks.acquire()
        assert await fleet.run(fine) == "fine"
    assert {type(event.error) for event in failures.seen} == {ZeroDivisionError}


async def test_stop_ends_a_tick_that_waits(memory: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def tick(now: float) -> float:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return now

    async with serving(memory, HANDLERS, schedules=[Beat(tick)]):
        await begun.wait()
    assert ended.is_set()


async def test_cancelled_loop_ends_its_schedules(memory: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def tick(now: float) -> float:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return now

    async with brrr.serve(memory, policy=QUICK) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle, schedules=[Beat(tick)]))
        await begun.wait()
        loop.cancel()
        await asyncio.wait({loop})
    assert loop.cancelled()
    assert ended.is_set()


async def turns(number: int) -> None:
    """Let other tasks run, each of them for some turns of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_stopping_worker_begins_no_tick_while_its_handlers_finish(memory: str) -> None:
    running, finish = asyncio.Event(), asyncio.Event()
    ticks = 0

    @brrr.handler_no_arg
    async def slow() -> int:
        running.set()
        await finish.wait()
        return ticks

    async def tick(now: float) -> float:
        nonlocal ticks
        ticks += 1
        await asyncio.sleep(0)
        return now

    async with serving(memory, {"slow": slow}, schedules=[Beat(tick)]) as fleet:
        await fleet.app.schedule(slow, topic=TOPIC)()
        await running.wait()
        fleet.connection.stop()
        await turns(50)
        before = ticks
        await turns(50)
        finish.set()
        assert before == ticks


async def test_schedule_begins_once_for_each_loop_with_its_topic(memory: str) -> None:
    async def tick(now: float) -> float:
        return now + 3600

    beat = Beat(tick)
    async with serving(memory, HANDLERS, topics=("a", "b"), schedules=[beat]):
        pass
    assert beat.began == ["a", "b"]


def hourly_task(_: World) -> dict[str, brrr.Task]:
    @brrr.handler_no_arg
    async def hourly(tick: str) -> None: ...

    return {"hourly": hourly}


def test_schedule_costs_one_read_for_each_tick_and_worker_and_two_swaps_for_each_tick() -> None:
    cursor = Key("value", "brrr.cron/hourly")
    hours, instruments = 10, [Instrument() for _ in range(3)]

    async def main() -> None:
        async with stage() as on:
            on.schedules = [brrr_cron.every("0 * * * *", "hourly", name="hourly")]
            workers = [on.worker(instrument, handlers=hourly_task) for instrument in instruments]
            await asyncio.sleep(hours * 3600 + 60)
            for worker, connection in workers:
                await on.stop(worker, connection)

    random.seed(1)
    run_virtually(main())
    operations = [operation for instrument in instruments for operation in instrument.operations]
    reads = sum(cursor in operation.items for operation in operations if operation.name == "store.read")
    swaps = [swap.key for operation in operations if operation.name == "store.swap" for swap in operation.items]
    puts = sum(instrument.items["queue.put"] for instrument in instruments)  # those of steps too
    assert reads == 3 * (1 + hours)  # the first at the first sight
    assert swaps.count(cursor) == 1 + 2 * hours
    assert puts == hours
