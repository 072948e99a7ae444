"""Tasks that go on where whoever asked for them is cancelled, owned by the queue until it is closed."""

import asyncio
from asyncio import Task
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from brrr_core.errors import BackendClosedError

__all__ = ["Owned", "closed", "outcome", "side_by_side"]

ResultT = TypeVar("ResultT")
ThingT = TypeVar("ThingT")

PARTING: Final = 2.0
"""Seconds that closing gives to what is being settled or given back. What is not, comes back when leases run out."""

SIDE_BY_SIDE: Final = 8
"""Requests of one operation that are under way at the same time."""


def closed() -> BackendClosedError:
    """The error of what is asked of a closed queue."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


class Owned:
    """The tasks of one queue."""

    def __init__(self) -> None:
        self._tasks: set[Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, ResultT], name: str) -> "Task[ResultT]":
        """Run something until it is done, or the queue is closed."""
        if self._closed:
            work.close()
            raise closed()
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
        raise closed()
    return task.result()


async def side_by_side(run: Callable[[ThingT], Coroutine[Any, Any, None]], things: Iterable[ThingT]) -> None:
    """Run something for each thing, some at the same time. One that fails does not keep the others from being run.

    Raises:
        Exception: What the first one raised that failed, when all have ended.
    """
    rest = list(things)
    if len(rest) == 1:
        await run(rest[0])
        return
    errors: list[Exception] = []
    places = iter(rest)

    async def work() -> None:
        for thing in places:
            try:
                await run(thing)
            except Exception as error:  # noqa: BLE001 - raised below, when the others are done
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(SIDE_BY_SIDE, len(rest))):
            group.create_task(work())
    if errors:
        raise errors[0]
