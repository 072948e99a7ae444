"""The turns of calls: messages of one call are handled one by one, so that it runs once and wakes its parents once."""

import asyncio
from typing import Any

__all__ = ["Turns", "current_task"]


class Turns:
    """The tasks that handle calls now, by call hash. A parked run has no turn."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def task_of(self, call_hash: str) -> "asyncio.Task[Any] | None":
        """Return the task that handles a call."""
        turn = self._turns.get(call_hash)
        return None if turn is None else turn.task

    async def wait(self, call_hash: str) -> None:
        """Wait until no task handles a call."""
        while (earlier := self._turns.get(call_hash)) is not None:
            await asyncio.wait({earlier.ended})

    def begin(self, call_hash: str, task: "asyncio.Task[Any]") -> None:
        """Begin the turn of a task, or move the turn of another task to it."""
        turn = self._turns.get(call_hash)
        if turn is None:
            self._turns[call_hash] = _Turn(task)
        else:
            turn.task = task

    def end(self, call_hash: str, task: "asyncio.Task[Any]") -> None:
        """End the turn of a task, unless another task has it now."""
        turn = self._turns.get(call_hash)
        if turn is not None and turn.task is task:
            del self._turns[call_hash]
            turn.end()


class _Turn:
    """The turn of the task that handles a call.

    Attributes:
        task: The task.
    """

    __slots__ = ("_ended", "task")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self._ended: asyncio.Future[None] | None = None

    @property
    def ended(self) -> "asyncio.Future[None]":
        """A future that is done when the turn has ended."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def end(self) -> None:
        """End the turn."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def current_task() -> "asyncio.Task[Any]":
    """Return the current task. Deliveries are handled in tasks."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - as above
    return task
