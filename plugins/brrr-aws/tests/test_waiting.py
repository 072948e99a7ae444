"""Waits between attempts, and running side by side."""

import asyncio

import pytest

from brrr_aws import backoff
from brrr_aws.backoff import Backoff
from brrr_aws.lifetime import Lifetime
from brrr_aws.spreading import spread
from brrr_core.errors import BackendClosedError


@pytest.fixture
def waits(monkeypatch):
    """The bounds of the waits that were drawn, which then take no time."""
    bounds = []

    class Greatest:
        def uniform(self, least, most):
            bounds.append((least, most))
            return 0.0

    monkeypatch.setattr(backoff, "RANDOM", Greatest())
    return bounds


async def test_waits_are_drawn_from_0_to_twice_as_long_each_time_up_to_a_bound(waits):
    backing = Backoff(100, Lifetime())
    for _ in range(9):
        assert await backing.pause()

    assert waits == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4), (0, 0.8), (0, 1.6), (0, 3.2), (0, 5.0), (0, 5.0)]


async def test_progress_begins_anew(waits):
    backing = Backoff(100, Lifetime())
    for _ in range(4):
        await backing.pause()
    backing.progressed()
    await backing.pause()

    assert waits[-1] == (0, 0.05)


async def test_there_is_an_end():
    backing = Backoff(0.05, Lifetime())
    count = 0
    while await backing.pause():
        count += 1
    assert count >= 1


async def test_what_waits_ends_with_its_client_and_nothing_more_waits():
    lifetime = Lifetime()
    waiting = [asyncio.create_task(_wait(lifetime)) for _ in range(3)]
    await asyncio.sleep(0)
    lifetime.end()
    for task in waiting:
        with pytest.raises(BackendClosedError):
            await task
    async with asyncio.timeout(10):
        with pytest.raises(BackendClosedError):
            await _wait(lifetime)


async def test_a_cancellation_passes_a_lifetime_also_when_that_ends():
    lifetime = Lifetime()
    for ends in (False, True):
        task = asyncio.create_task(_wait(lifetime))
        await asyncio.sleep(0)
        task.cancel()
        if ends:
            lifetime.end()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_request_under_way_ends_if_others_cancel_every_task_of_its_client():
    lifetime = Lifetime()
    waiting = asyncio.create_task(_wait(lifetime))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task(), waiting}:
        task.cancel()
    later = asyncio.create_task(_wait(lifetime))

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await waiting
    for _ in range(5):
        await asyncio.sleep(0)
    assert not later.done()
    lifetime.end()
    with pytest.raises(BackendClosedError, match="closed"):
        await later


async def test_cancellation_that_a_client_library_passes_on_is_not_the_callers():
    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        async with Lifetime().within():
            raise asyncio.CancelledError


async def test_a_timeout_of_somebody_else_passes_a_lifetime():
    with pytest.raises(TimeoutError, match="theirs"):
        async with Lifetime().within():
            raise TimeoutError("theirs")


async def _wait(lifetime):
    async with lifetime.within():
        await asyncio.Event().wait()


async def test_results_come_in_order_and_so_many_run_at_a_time():
    running, most = 0, 0

    async def double(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number % 7):
            await asyncio.sleep(0)
        running -= 1
        return 2 * number

    assert await spread(double, range(50), limit=4) == [2 * number for number in range(50)]
    assert most == 4


async def test_after_an_error_what_runs_may_end_and_nothing_more_begins():
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
        await spread(run, range(10), limit=3)
    assert begun == [0, 1, 2]
    assert sorted(ended) == [0, 2]


async def test_all_are_run_to_the_end_where_that_is_wanted():
    begun = []

    async def run(number):
        begun.append(number)
        if number in {1, 3}:
            raise KeyError(number)

    with pytest.raises(KeyError, match="1"):
        await spread(run, range(10), limit=2, to_the_end=True)
    assert sorted(begun) == [*range(10)]


@pytest.mark.parametrize("turns", [0, 1], ids=["before they begin", "under way"])
async def test_tasks_that_others_cancel_fail_the_caller_that_nobody_cancelled(turns):
    async def run(number):
        await asyncio.Event().wait()

    spreading = asyncio.create_task(spread(run, range(3), limit=2))
    await asyncio.sleep(0)
    others = {asyncio.current_task(), spreading}
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others:
        task.cancel()

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await spreading


async def test_cancelling_cancels_all():
    cancelled = []

    async def run(number):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    task = asyncio.create_task(spread(run, range(5), limit=3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [0, 1, 2]
