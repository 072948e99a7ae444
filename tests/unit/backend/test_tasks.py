"""`pause` waits between attempts, and `finish_opening` closes a connection whose caller was cancelled."""

import asyncio
from contextlib import suppress
from math import isclose

import pytest

from brrr_core.backend import finish_opening, pause
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


async def test_connection_opened_before_its_caller_was_cancelled_is_closed() -> None:
    begun, proceed, closed = asyncio.Event(), asyncio.Event(), list[str]()

    async def opening() -> str:
        begun.set()
        with suppress(asyncio.CancelledError):  # as `wait_for` of Python 3.11 does at the end of an opening
            await proceed.wait()
        return "connection"

    async def close(connection: str) -> None:
        await asyncio.sleep(0)
        closed.append(connection)

    caller = asyncio.create_task(finish_opening(opening(), close))
    await begun.wait()
    caller.cancel()
    await asyncio.wait({caller})

    assert caller.cancelled()
    assert closed == ["connection"]


async def test_opening_ends_with_its_caller() -> None:
    ended = asyncio.Event()

    async def opening() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def close(connection: None) -> None:
        raise AssertionError("nothing was opened")

    caller = asyncio.create_task(finish_opening(opening(), close))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})

    assert caller.cancelled()
    assert ended.is_set()


async def test_opened_connection_is_returned_and_errors_are_raised() -> None:
    async def opening(text: str) -> str:
        if not text:
            raise ConnectionError("refused")
        return text

    async def close(connection: str) -> None:
        raise AssertionError("it is in use")

    assert await finish_opening(opening("connection"), close) == "connection"
    with pytest.raises(ConnectionError):
        await finish_opening(opening(""), close)


async def test_opening_cancelled_by_other_code_fails_its_caller() -> None:
    async def opening() -> None:
        await asyncio.Event().wait()

    async def close(connection: None) -> None: ...

    before = asyncio.all_tasks()
    caller = asyncio.create_task(finish_opening(opening(), close))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before - {caller}:
        task.cancel()

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await caller


async def test_opening_cancelled_by_other_code_with_its_caller_finishes_its_clean_up() -> None:
    cleaned: list[str] = []

    async def opening() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("socket")

    async def close(connection: None) -> None: ...

    before = asyncio.all_tasks()
    caller = asyncio.create_task(finish_opening(opening(), close))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in [*(asyncio.all_tasks() - before - {caller}), caller]:
        task.cancel()
    await asyncio.wait({caller})

    assert caller.cancelled()
    assert cleaned == ["socket"]
