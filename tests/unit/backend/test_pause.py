"""`pause` waits between the attempts of an operation, with jitter, until the backend closes."""

import asyncio
from math import isclose

import pytest

from brrr_core.backend import pause
from brrr_core.errors import BackendClosedError


async def test_next_pause_is_twice_as_long_up_to_the_longest() -> None:
    pauses = [0.001]
    for _ in range(4):
        pauses.append(await pause(pauses[-1], longest=0.006))
    assert all(map(isclose, pauses, (0.001, 0.002, 0.004, 0.006, 0.006)))


async def test_pause_ends_when_the_time_left_is_over() -> None:
    async with asyncio.timeout(10):
        assert await pause(600, longest=600, left=0) == 600


async def test_closing_ends_a_pause_with_an_error() -> None:
    closing = asyncio.Event()
    waiting = asyncio.create_task(pause(600, longest=600, closing=closing))
    await asyncio.sleep(0)
    closing.set()
    with pytest.raises(BackendClosedError):
        await waiting


async def test_cancelling_a_pause_cancels_its_caller() -> None:
    waiting = asyncio.create_task(pause(600, longest=600))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
