"""Pauses between attempts, and concurrent operations."""

import asyncio

import pytest

from brrr_aws import client
from brrr_aws.client import Backoff
from brrr_aws.concurrency import run_concurrently
from brrr_core.backend import Gate
from brrr_core.errors import BackendClosedError


@pytest.fixture
def waits(monkeypatch):
    """Record the bounds of the random pauses, and let them take no time."""
    bounds = []

    class Greatest:
        def uniform(self, least, most):
            bounds.append((least, most))
            return 0.0

    monkeypatch.setattr(client, "RANDOM", Greatest())
    return bounds


async def test_limit_of_the_random_pause_doubles_up_to_5_s(waits):
    backing = Backoff(100, Gate())
    for _ in range(9):
        assert await backing.pause()

    assert waits == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4), (0, 0.8), (0, 1.6), (0, 3.2), (0, 5.0), (0, 5.0)]


async def test_pauses_restart_after_progress(waits):
    backing = Backoff(100, Gate())
    for _ in range(4):
        await backing.pause()
    backing.progressed()
    await backing.pause()

    assert waits[-1] == (0, 0.05)


async def test_pausing_ends_after_the_time_limit():
    backing = Backoff(0.05, Gate())
    count = 0
    while await backing.pause():
        count += 1
    assert count >= 1


async def test_results_are_in_order_and_at_most_limit_operations_run():
    running, most = 0, 0

    async def double(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number % 7):
            await asyncio.sleep(0)
        running -= 1
        return 2 * number

    assert await run_concurrently(double, range(50), limit=4) == [2 * number for number in range(50)]
    assert most == 4


async def test_after_a_failure_running_operations_end_and_none_begins():
    begun, ended, failed = [], [], asyncio.Event()

    async def run(number):
        begun.append(number)
        await asyncio.sleep(0)  # all three have begun
        if number == 1:
            failed.set()
            raise KeyError("one")
        await failed.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append(number)
        if number == 2:
            raise KeyError("two")

    with pytest.raises(KeyError, match="one"):
        await run_concurrently(run, range(10), limit=3)
    assert begun == [0, 1, 2]
    assert sorted(ended) == [0, 2]


async def test_keep_going_runs_all_operations_after_a_failure():
    begun = []

    async def run(number):
        begun.append(number)
        if number in {1, 3}:
            raise KeyError(number)

    with pytest.raises(KeyError, match="1"):
        await run_concurrently(run, range(10), limit=2, keep_going=True)
    assert sorted(begun) == [*range(10)]


@pytest.mark.parametrize("turns", [0, 1], ids=["before they begin", "while they run"])
async def test_operation_cancelled_from_outside_fails_the_caller(turns):
    async def run(number):
        await asyncio.Event().wait()

    running = asyncio.create_task(run_concurrently(run, range(3), limit=2))
    await asyncio.sleep(0)
    others = {asyncio.current_task(), running}
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others:
        task.cancel()

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await running


async def test_cancelling_the_caller_cancels_all_operations():
    cancelled = []

    async def run(number):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    task = asyncio.create_task(run_concurrently(run, range(5), limit=3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [0, 1, 2]
