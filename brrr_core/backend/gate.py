"""The gate of an open backend: it admits operations, keeps those that run, and ends them when the backend closes."""

import asyncio
from asyncio import CancelledError, Future, Task
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager, suppress
from math import inf
from os import getpid
from typing import Any, TypeVar

from brrr_core.backend.tasks import cancelled_from_outside, check_process, closed_error, pause, start_task
from brrr_core.errors import BackendClosedError

__all__ = ["Gate"]

ResultT = TypeVar("ResultT")


class Gate:
    """Refuses new operations when the backend closes, and ends running ones.

    It belongs to one event loop of the process that made it, so make it in `start`. Operations call `check`, or run
    inside `enter`. Work that continues when its caller is cancelled is a task of the gate: `start`, `result`, `shared`.

    Attributes:
        closing: Whether `refuse` or `close` was called.
    """

    def __init__(self) -> None:
        self.closing = False
        self._process = getpid()
        self._ending = asyncio.Event()
        self._closed = False
        self._tasks: set[Task[Any]] = set()
        self._shared: dict[Hashable, Task[Any]] = {}
        self._inside: set[asyncio.Timeout] = set()
        self._drained: Future[None] | None = None
        self._canary: Task[bool] | None = None

    def check(self) -> None:
        """Check that an operation may begin.

        Raises:
            BackendClosedError: The backend closes, or is closed.
            ForkedError: This is not the process that opened the backend.
        """
        if self.closing:
            raise closed_error()
        if self._process != getpid():
            check_process(self._process)

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[None]:
        """Run an operation in the block. `close` waits for it, and then ends what it awaits.

        Raises:
            BackendClosedError: The backend is closed, or other code cancelled the tasks of its client library.
            ForkedError: This is not the process that opened the backend.
        """
        self.check()
        if self._canary is None or self._canary.done() or self._canary.cancelling():
            self._start_canary()
        timeout, inside = asyncio.timeout(None), self._inside
        try:
            async with timeout:
                inside.add(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise self._reason() from None
        except CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._reason() from None  # a client library passes on the cancellation of a task of its own
        finally:
            inside.discard(timeout)
            self._note_end()

    def start(self, work: Coroutine[Any, Any, ResultT], *, name: str | None = None) -> "Task[ResultT]":
        """Start a task that ends by itself, or is cancelled by `close`. Its error may stay unread.

        Raises:
            BackendClosedError: The backend is closed. While `close` waits, tasks may still start others.
        """
        if self._closed:
            work.close()
            raise closed_error()
        task = start_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    async def result(self, task: "Future[ResultT]") -> ResultT:
        """Wait for a task. If the caller is cancelled, the task continues. Returns its result, or raises its error.

        Raises:
            BackendClosedError: The task was cancelled.
        """
        await asyncio.wait({task})
        if task.cancelled():
            raise self._reason()
        return task.result()

    async def shared(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, ResultT]], *, name: str | None = None
    ) -> ResultT:
        """Wait for the task of a key, which runs `work`. Concurrent callers share it. Raises the errors of `result`."""
        task: Task[ResultT] | None = self._shared.get(key)
        if task is None:
            task = self._shared[key] = self.start(work(), name=name)
            task.add_done_callback(lambda _: self._shared.pop(key))
        return await self.result(task)

    async def pause(self, seconds: float, *, longest: float, left: float = inf) -> float:
        """Wait before another attempt, as `pause` does, until the backend closes."""
        return await pause(seconds, longest=longest, closing=self._ending, left=left)

    def refuse(self) -> None:
        """Let no more operations begin, and end every pause. Running operations continue."""
        self.closing = True
        self._ending.set()

    async def close(self, timeout: float = 0) -> None:
        """Refuse operations, wait `timeout` seconds for those that run, then end the others and cancel the tasks.

        An operation that is ended raises `BackendClosedError`. If this call is cancelled, it ends them immediately.
        """
        self.refuse()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while self._tasks or self._inside:  # a task may start another at its end
                        self._drained = asyncio.get_running_loop().create_future()
                        await self._drained
        finally:
            self._closed = True
            left = set(self._tasks)
            for task in left:
                task.cancel()
            if self._canary is not None:
                self._canary.cancel()  # which ends the operations
        if left:
            await asyncio.wait(left)

    def _reason(self) -> BackendClosedError:
        return closed_error() if self.closing else cancelled_from_outside()

    def _on_end(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        self._note_end()
        if not task.cancelled():
            task.exception()  # retrieve it: its callers may all have been cancelled

    def _note_end(self) -> None:
        if self._drained is not None and not (self._tasks or self._inside or self._drained.done()):
            self._drained.set_result(None)

    def _start_canary(self) -> None:
        """Start a task that only waits. If other code cancels all tasks of the loop, it ends, and ends the operations.

        Client libraries may not notice that: aiohttp does not if its sending task is cancelled before it begins.
        Earlier operations end with their own canary.
        """
        inside = self._inside = set()
        self._canary = asyncio.create_task(asyncio.Event().wait(), name="brrr notices cancellations from outside")
        self._canary.add_done_callback(lambda _: _expire(inside))


def _expire(inside: set[asyncio.Timeout]) -> None:
    for timeout in inside:
        timeout.reschedule(0)
    inside.clear()
