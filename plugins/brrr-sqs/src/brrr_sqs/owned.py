"""Tasks that go on where whoever asked for them is cancelled, owned by the queue until it is closed."""

import asyncio
from asyncio import Task
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from brrr_aws.errors import closed_error

__all__ = ["Owned", "outcome"]

ResultT = TypeVar("ResultT")

PARTING: Final = 2.0
"""Seconds that closing gives to what is being settled or given back. What is not, comes back when leases run out."""


class Owned:
    """The tasks of one queue."""

    def __init__(self) -> None:
        self._tasks: set[Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, ResultT], name: str) -> "Task[ResultT]":
        """Run something until it is done, or the queue is closed."""
        if self._closed:
            work.close()
            raise closed_error()
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Let what is under way end for a moment, and what follows from it, as giving back; then cancel it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PARTING
        try:
            while self._tasks and loop.time() < deadline:
                await asyncio.wait(set(self._tasks), timeout=deadline - loop.time())
        finally:
            self._closed = True
            late = set(self._tasks)
            for task in late:
                task.cancel()
        if late:
            await asyncio.wait(late)

    def _ended(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told; where nobody does, the lease brings the message back


async def outcome(task: "Task[ResultT]") -> ResultT:
    """What a task gives or raises. Being cancelled here leaves the task alone.

    Raises:
        BackendClosedError: It was ended by the queue's closing.
    """
    await asyncio.wait({task})
    if task.cancelled():
        raise closed_error()
    return task.result()
