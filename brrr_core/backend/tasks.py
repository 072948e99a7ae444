"""The tasks and pauses of a backend, and the errors of operations that end with them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from math import inf
from os import getpid
from random import uniform
from typing import Any, TypeVar

from brrr_core.errors import BackendClosedError, ForkedError

__all__ = ["cancelled_from_outside", "check_process", "closed_error", "finish_opening", "pause", "start_task"]

ResultT = TypeVar("ResultT")


def start_task(
    work: Coroutine[Any, Any, ResultT], *, name: str | None = None, context: Context | None = None
) -> "asyncio.Task[ResultT]":
    """Create a task in the running loop, and return it before its work begins.

    The task runs in `context`, by default in a copy of the current context.

    With `asyncio.eager_task_factory`, the work would run to its first wait, or even to its end, before the caller
    could store the task.
    """
    loop = asyncio.get_running_loop()
    return loop.create_task(
        work if loop.get_task_factory() is None else _in_next_turn(work), name=name, context=context
    )


async def finish_opening(
    opening: Coroutine[Any, Any, ResultT], close: Callable[[ResultT], Awaitable[object]]
) -> ResultT:
    """Await the opening of a connection, and return it. If the caller is cancelled, close the connection.

    A client library may lose the connection, or even the cancellation, if it is cancelled at the end of its opening:
    `asyncio.wait_for` of Python 3.11 swallows it then. So the opening is a separate task.

    Raises:
        BackendClosedError: Other code cancelled the task.
    """
    task = start_task(opening, name="brrr opens a connection")
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        if not task.cancelling():  # a second cancellation would interrupt its clean-up
            task.cancel()
        await asyncio.wait({start_task(_close_opened(task, close), name="brrr closes a connection")})
        raise
    if task.cancelled():
        raise cancelled_from_outside()
    return task.result()


async def _close_opened(task: "asyncio.Task[ResultT]", close: Callable[[ResultT], Awaitable[object]]) -> None:
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await close(task.result())


async def pause(seconds: float, *, longest: float, closing: asyncio.Event | None = None, left: float = inf) -> float:
    """Wait before another attempt. Return the seconds of the next pause.

    Part of the time is random, so that the clients of a server that restarts do not all return at the same time.

    Args:
        seconds: The most seconds to wait. Up to half of them are cut at random.
        longest: The most seconds of the next pause, which is twice as long otherwise.
        closing: Is set when the backend closes.
        left: Seconds after which the pause ends in any case.

    Raises:
        BackendClosedError: `closing` is set.
    """
    try:
        async with asyncio.timeout(min(uniform(seconds / 2, seconds), left)):  # noqa: S311 - jitter, not a secret
            await (closing or asyncio.Event()).wait()
    except TimeoutError:
        return min(2 * seconds, longest)
    raise closed_error()


def closed_error() -> BackendClosedError:
    """Return the error for operations of a backend that was closed."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


def cancelled_from_outside() -> BackendClosedError:
    """Return the error for operations of a backend with a task that other code cancelled."""
    return BackendClosedError(
        "the tasks of this backend were cancelled from outside",
        remedy="The event loop is ending, or the program cancels all tasks. Cancel only the tasks that you created.",
    )


def check_process(opened_in: int) -> None:
    """Check that a backend is used in the process that opened it, whose id is `opened_in`.

    Raises:
        ForkedError: This is another process.
    """
    if opened_in != getpid():
        raise ForkedError(
            f"this backend was opened in process {opened_in}, but is used in process {getpid()}",
            remedy="Open a separate backend in each process.",
        )


async def _in_next_turn(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    try:
        await asyncio.sleep(0)
    except BaseException:
        work.close()  # cancelled before it began
        raise
    return await work
