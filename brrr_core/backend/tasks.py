"""The asyncio tasks of a backend: they start in a later turn of the event loop, and other code may cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from brrr_core.errors import BackendClosedError

__all__ = ["cancelled_from_outside", "start_task"]

ResultT = TypeVar("ResultT")


def start_task(work: Coroutine[Any, Any, ResultT], *, name: str | None = None) -> "asyncio.Task[ResultT]":
    """Create a task in the running loop, and return it before its work begins.

    With `asyncio.eager_task_factory`, the work would run to its first wait, or even to its end, before the caller
    could store the task.
    """
    loop = asyncio.get_running_loop()
    return loop.create_task(work if loop.get_task_factory() is None else _in_next_turn(work), name=name)


def cancelled_from_outside() -> BackendClosedError:
    """Return the error for operations of a backend with a task that other code cancelled."""
    return BackendClosedError(
        "the tasks of this backend were cancelled from outside",
        remedy="The event loop is ending, or the program cancels all tasks. Cancel only the tasks that you created.",
    )


async def _in_next_turn(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    try:
        await asyncio.sleep(0)
    except BaseException:
        work.close()  # cancelled before it began
        raise
    return await work
