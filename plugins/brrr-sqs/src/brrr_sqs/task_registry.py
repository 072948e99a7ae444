"""Tasks that go on if their caller is cancelled. The queue owns them until it is closed."""

import asyncio
from asyncio import Task
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from brrr_core.backend import closed_error

__all__ = ["TaskRegistry", "result_of"]

ResultT = TypeVar("ResultT")

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for running tasks. Deliveries that are not settled by then come back after their lease."""


class TaskRegistry:
    """Tasks of one queue."""

    def __init__(self) -> None:
        self._tasks: set[Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, ResultT], name: str) -> "Task[ResultT]":
        """Start a task that runs to its end, or until the queue is closed."""
        if self._closed:
            work.close()
            raise closed_error()
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Wait a moment for running tasks, and for those that they start, such as releases; then cancel them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_TIMEOUT
        try:
            while self._tasks and loop.time() < deadline:
                await asyncio.wait(set(self._tasks), timeout=deadline - loop.time())
        finally:
            self._closed = True
            unfinished = set(self._tasks)
            for task in unfinished:
                task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)

    def _ended(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Mark the exception as retrieved. A waiting caller gets it; otherwise the lease brings the message back.
            task.exception()


async def result_of(task: "Task[ResultT]") -> ResultT:
    """Return the result of a task, or raise its exception. Cancelling the caller does not cancel the task.

    Raises:
        BackendClosedError: The task was cancelled because the queue was closed.
    """
    await asyncio.wait({task})
    if task.cancelled():
        raise closed_error()
    return task.result()
