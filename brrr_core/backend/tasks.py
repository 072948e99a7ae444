"""Starts tasks that begin in a later turn of the event loop, whichever task factory the loop has."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["start_task"]

ResultT = TypeVar("ResultT")


def start_task(work: Coroutine[Any, Any, ResultT], *, name: str | None = None) -> "asyncio.Task[ResultT]":
    """Start a task of the running loop, and return it before its work begins.

    `asyncio.eager_task_factory` would run the work up to its first wait, or even to its end, before the caller has
    noted the task anywhere.
    """
    loop = asyncio.get_running_loop()
    return loop.create_task(work if loop.get_task_factory() is None else _in_next_turn(work), name=name)


async def _in_next_turn(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    try:
        await asyncio.sleep(0)
    except BaseException:
        work.close()  # cancelled before it began
        raise
    return await work
