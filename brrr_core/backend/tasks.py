"""The tasks of a backend: they begin in a later turn of the event loop, and others may cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from brrr_core.errors import BackendClosedError

__all__ = ["cancelled_from_outside", "start_task"]

ResultT = TypeVar("ResultT")


def start_task(work: Coroutine[Any, Any, ResultT], *, name: str | None = None) -> "asyncio.Task[ResultT]":
    """Start a task of the running loop, and return it before its work begins.

    `asyncio.eager_task_factory` would run the work up to its first wait, or even to its end, before the caller has
    noted the task anywhere.
    """
    loop = asyncio.get_running_loop()
    return loop.create_task(work if loop.get_task_factory() is None else _in_next_turn(work), name=name)


def cancelled_from_outside() -> BackendClosedError:
    """Return the error for operations whose backend lost a task: others cancelled it, and not the backend."""
    return BackendClosedError(
        "the tasks of this backend were cancelled from outside",
        remedy="The event loop is ending, or the program cancels all of its tasks; it should cancel only its own.",
    )


async def _in_next_turn(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    try:
        await asyncio.sleep(0)
    except BaseException:
        work.close()  # cancelled before it began
        raise
    return await work
