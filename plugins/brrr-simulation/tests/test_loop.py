"""The event loops: virtual time, processes that die and freeze, and the end of everything."""

import asyncio

import pytest

from brrr_simulation.loop import DeadlockError, Universe


@pytest.fixture
def universe() -> Universe:
    return Universe()


def test_month_of_sleep_takes_no_time(universe: Universe) -> None:
    task = universe.process("one").start(asyncio.sleep(30 * 86_400))
    assert universe.run_until(task.done, until=1e9)
    assert universe.now == 30 * 86_400
    universe.end()


def test_waits_of_processes_end_in_the_order_of_their_times(universe: Universe) -> None:
    order: list[int] = []

    async def wait(seconds: int) -> None:
        async with asyncio.timeout(100):
            await asyncio.sleep(seconds)
        order.append(seconds)

    tasks = [universe.process(str(seconds)).start(wait(seconds)) for seconds in (3, 1, 2)]
    universe.run_until(lambda: all(task.done() for task in tasks), until=10)
    assert order == [1, 2, 3]
    universe.end()


def test_process_that_dies_runs_no_finally_before_the_end(universe: Universe) -> None:
    ran: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            ran.append("finally")

    process = universe.process("mortal")
    process.start(work())
    universe.at(1, process.kill)
    other = universe.process("other").start(asyncio.sleep(10))
    universe.run_until(other.done, until=20)
    assert ran == []
    universe.end()
    assert ran == ["finally"]


def test_frozen_process_continues_later(universe: Universe) -> None:
    times: list[float] = []
    process = universe.process("frozen")

    async def work() -> None:
        await asyncio.sleep(1)
        times.append(asyncio.get_running_loop().time())

    task = process.start(work())
    process.frozen_until = 50
    universe.run_until(task.done, until=100)
    assert times == [51]
    universe.end()


def test_blocking_functions_run_immediately(universe: Universe) -> None:
    async def work() -> int:
        return await asyncio.to_thread(lambda: 7)

    task = universe.process("one").start(work())
    universe.run_until(task.done, until=1)
    assert task.result() == 7
    universe.end()


def test_deadlock_is_an_error(universe: Universe) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    task = universe.process("one").start(work())
    with pytest.raises(DeadlockError, match="no timer"):
        universe.run_until(task.done, until=10)
    universe.end()
