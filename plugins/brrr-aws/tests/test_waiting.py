"""Waits between attempts, and running side by side."""

import asyncio

import pytest

from brrr_aws import backoff
from brrr_aws.backoff import Backoff
from brrr_aws.spreading import spread


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
    backing = Backoff(100)
    for _ in range(9):
        assert await backing.pause()

    assert waits == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4), (0, 0.8), (0, 1.6), (0, 3.2), (0, 5.0), (0, 5.0)]


async def test_progress_begins_anew(waits):
    backing = Backoff(100)
    for _ in range(4):
        await backing.pause()
    backing.progressed()
    await backing.pause()

    assert waits[-1] == (0, 0.05)


async def test_there_is_an_end():
    backing = Backoff(0.05)
    count = 0
    while await backing.pause():
        count += 1
    assert count >= 1


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


async def test_the_first_error_is_raised_and_the_others_are_cancelled():
    cancelled = []

    async def run(number):
        try:
            if number == 1:
                raise KeyError("one")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(KeyError, match="one"):
        await spread(run, range(3), limit=3)
    assert sorted(cancelled) == [0, 2]


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
