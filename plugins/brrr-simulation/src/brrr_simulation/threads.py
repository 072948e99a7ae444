"""Threads of synchronous handlers. Either one thread runs or the universe does, and the other side waits.

So virtual time decides the order of all steps of all threads, as it does for coroutines.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Semaphore, Thread, local
from typing import Any, Generic, TypeVar, cast

from brrr_simulation.loop import CLOSINGS, Process, ProcessDied

__all__ = ["SimulatedPool", "run_coroutine_threadsafe"]

ResultT = TypeVar("ResultT")


class SimulatedPool:
    """Replaces the engine's `ThreadPoolExecutor`. Its threads begin immediately."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable[[], ResultT]) -> "Future[ResultT]":
        """Run a function in a thread until it returns or waits for a coroutine. Return its future."""
        process = cast("Process", asyncio.get_running_loop())
        thread = _SimulatedThread(process, function)
        thread.go_on()
        if not thread.future.done():
            process.at_end.append(thread.end)
        return thread.future

    def shutdown(self, **_: object) -> None:
        """Do nothing. Threads that wait for a coroutine continue, and all others have ended."""


class _SimulatedThread(Generic[ResultT]):
    def __init__(self, process: Process, function: Callable[[], ResultT]) -> None:
        self.future: Future[ResultT] = Future()
        self.future.set_running_or_notify_cancel()  # a thread that has begun cannot be cancelled
        self._process = process
        self._function = function
        self._turn, self._pause = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, name=f"handler of {process.name}", daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Let the thread run until it waits or ends. The universe calls this."""
        self._turn.release()
        self._pause.acquire()
        if self.future.done():
            self._thread.join()

    def result_of(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine on the event loop, and return its result. The thread calls this."""
        tasks: list[asyncio.Task[ResultT]] = []

        def begin() -> None:
            tasks.append(self._process.create_task(coroutine))
            tasks[0].add_done_callback(lambda _: self.go_on())

        self._process.call_soon(begin)
        self._pause.release()
        self._turn.acquire()
        if self._process.dead:
            if not tasks:
                coroutine.close()
            raise ProcessDied
        return tasks.pop().result()

    def end(self) -> None:
        """Raise `ProcessDied` in the thread until it ends, because its process was killed."""
        for _ in range(CLOSINGS):
            if self.future.done():
                break
            self.go_on()

    def _run(self) -> None:
        _current.thread = self
        self._turn.acquire()
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
        self._pause.release()


class _Result(Generic[ResultT]):
    def __init__(self, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self._coroutine = coroutine

    def result(self) -> ResultT:
        """Wait for the result."""
        return cast("_SimulatedThread[ResultT]", _current.thread).result_of(self._coroutine)


def run_coroutine_threadsafe(coroutine: Coroutine[Any, Any, ResultT], _: object) -> _Result[ResultT]:
    """Replace `asyncio.run_coroutine_threadsafe` in a thread of a handler."""
    return _Result(coroutine)


_current = local()
