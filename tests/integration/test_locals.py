"""The local variables of a run are gone when the run is over, without the help of the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

import brrr_core as brrr
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import QUICK, TOPIC, over, serving, working
from tests.support.backends import EXPENSIVE

RUNS = 20


class Local:
    """A large variable of a handler."""

    alive: ClassVar[weakref.WeakSet["Local"]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    Local.alive.clear()
    gc.disable()
    yield
    gc.enable()


@brrr.handler_no_arg
async def leaf(n: int) -> int:
    return n


@brrr.handler
async def returns(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    return n if local else 0


@brrr.handler
async def defers(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    return await app.call(leaf)(n) if local else 0


@brrr.handler
async def gathers(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    return sum(await app.gather(app.call(leaf)(n), app.call(leaf)(n + 1000))) if local else 0


@brrr.handler
async def helped(app: brrr.ActiveWorker, n: int) -> int:
    async def helper(m: int) -> int:
        inner = Local()
        return await app.call(leaf)(m) if inner else 0

    local = Local()
    return sum(await app.gather(helper(n), app.call(leaf)(n + 1000), helper(n + 2000))) if local else 0


@brrr.handler
async def fails(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    raise ValueError(local is None)


@brrr.handler
async def chains(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    try:
        await app.call(leaf)(n)
        raise ValueError(local is None)
    except ValueError as error:
        raise KeyError(n) from error


@brrr.handler
async def helper_fails(app: brrr.ActiveWorker, n: int) -> int:
    async def helper() -> int:
        inner = Local()
        raise ValueError(inner is None)

    local = Local()
    await app.gather(helper(), app.call(leaf)(n))
    return 0 if local else 1


@brrr.handler
async def exits(app: brrr.ActiveWorker, n: int) -> int:
    async def helper() -> int:
        inner = Local()
        raise SystemExit(inner is None)

    local = Local()
    await app.gather(helper())
    return 0 if local else 1


@brrr.handler
def in_a_thread(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    return app.wait(app.call(leaf)(n)) if local else 0


@brrr.handler
def in_a_thread_fails(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    raise ValueError(local is None)


@brrr.handler
async def unencodable(app: brrr.ActiveWorker, n: int) -> object:
    local = Local()
    return object() if local else 0


@brrr.handler
async def overtime(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    async with asyncio.timeout(0):
        await asyncio.sleep(60)
    return 0 if local else 1


@brrr.handler
async def wide(app: brrr.ActiveWorker, n: int) -> int:
    local = Local()
    return len(await app.gather(*map(app.call(leaf), range(n)))) if local else 0


@pytest.mark.parametrize("operation", ["store.read", "store.write"])
async def test_locals_of_a_run_that_a_backend_failed_do_not_outlive_it(memory: str, operation: str) -> None:
    instrument, failed = Instrument(), 0

    async def refuse_some(asked: Operation) -> None:
        nonlocal failed
        if asked.name == operation and len(asked.items) > 2 and failed < RUNS:
            failed += 1
            raise BackendUnavailableError("the store is away for a moment")

    async with brrr.open_backend(memory) as backend:
        connection = over(instrument.wrap(backend))
        async with working(connection, {"wide": wide, "leaf": leaf}) as fleet:
            await fleet.app.schedule(wide, topic=TOPIC)(BATCH_LIMIT + 2)  # so many that some are put while it runs
            instrument.before = refuse_some
            await fleet.idle()
            assert failed == RUNS
            assert len(Local.alive) <= 1


async def test_locals_of_a_local_run_do_not_outlive_it() -> None:
    for n in range(RUNS):
        with pytest.raises(ValueError, match="False"):
            await brrr.LocalBrrr(handlers={"fails": fails}).run(fails)(n)
    assert len(Local.alive) <= 1


GOOD = [returns, defers, gathers, helped, in_a_thread]
BAD = [fails, chains, helper_fails, exits, in_a_thread_fails, unencodable, overtime]


@EXPENSIVE
@pytest.mark.parametrize("task", [*GOOD, *BAD], ids=lambda task: task.name)
async def test_locals_of_a_run_do_not_outlive_it(url: str, task: Any) -> None:
    policy = replace(QUICK, max_attempts=2)
    async with serving(url, {task.name: task, "leaf": leaf}, policy=policy) as fleet:
        for n in range(RUNS):
            await fleet.app.schedule(task, topic=TOPIC)(n)
        if task in BAD:
            await fleet.dead(RUNS)
        await fleet.idle()
        assert len(Local.alive) <= 1
