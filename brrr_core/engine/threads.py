"""The threads of sync handlers, and those that a timeout has abandoned."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Final, TypeVar

__all__ = ["HandlerThreads"]

ResultT = TypeVar("ResultT")

THREADS: Final = 32
"""The most threads that run the sync handlers of one connection."""


class HandlerThreads:
    """A pool of threads. Python cannot end a thread, so a sync handler that is cancelled keeps its thread.

    Attributes:
        abandoned: Threads whose handler was cancelled and still runs.
    """

    def __init__(self) -> None:
        self.limit = THREADS
        self.abandoned = 0
        self._pool: ThreadPoolExecutor | None = None
        self._returned = asyncio.Event()

    @property
    def exhausted(self) -> bool:
        """Whether at least half of the threads are abandoned."""
        return self.abandoned * 2 >= self.limit

    async def run(self, function: Callable[[], ResultT]) -> ResultT:
        """Run a blocking function in a thread, with the context variables of the caller."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.limit, thread_name_prefix="brrr")
        context = copy_context()
        future = self._pool.submit(lambda: context.run(_without_stop_iteration, function))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.done():
                self._abandon(future)
            raise
        finally:
            del future  # else the traceback of its error holds it, and both hold the locals of the handler

    async def wait_until_returned(self) -> None:
        """Wait until fewer than half of the threads are abandoned."""
        while self.exhausted:
            self._returned.clear()
            await self._returned.wait()

    def close(self) -> None:
        """Start no more functions. Running ones continue."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _abandon(self, future: "Future[ResultT]") -> None:
        self.abandoned += 1
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._end)

        future.add_done_callback(ended)

    def _end(self) -> None:
        self.abandoned -= 1
        self._returned.set()


def _without_stop_iteration(function: Callable[[], ResultT]) -> ResultT:
    try:
        return function()
    except (StopIteration, GeneratorExit) as error:  # a future cannot carry them: the task would hang or end
        raise RuntimeError(f"the function raised {type(error).__name__}") from error
