"""The lifespan of an application: its state is made before its first loop receives, and closed after its last loop."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from brrr_core.errors import LifespanError
from brrr_core.safe_text import describe

__all__ = ["Lifespan", "lifespan_of"]


class Lifespan:
    """Enters an async context manager for its first user, and leaves it after its last one.

    Both happen in one separate task, because the loops of an application end in any order, and a task group or a
    timeout must be left in the task that entered it.

    Args:
        name: Its name, for errors.
        make: Returns the context manager that yields the state; None if the application has no state.
    """

    def __init__(self, name: str = "", make: Callable[[], object] | None = None) -> None:
        self._name = name
        self._make = make
        self._users = 0
        self._lock = asyncio.Lock()  # held while the state begins or ends, so that others wait for that
        self._begun: asyncio.Future[Any] | None = None
        self._unused = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> Any:
        """The state.

        Raises:
            LifespanError: The state was not made yet, or is closed.
        """
        if self._make is None:
            raise LifespanError(
                "the application has no state", remedy="Pass `lifespan` to `AppWorker`, or --lifespan to `brrr worker`."
            )
        if self._begun is None or not self._begun.done():
            raise LifespanError(
                f"the state of the lifespan {self._name!r} was used before it began, or after it ended",
                remedy="Pass `app.handle` itself to the loop, or run the calls within `async with app:`.",
            )
        return self._begun.result()

    async def enter(self, *, stopping: asyncio.Event | None = None, stop: Callable[[], None] | None = None) -> None:
        """Wait until the state exists. The user must call `leave` later.

        Args:
            stopping: If it is set before the state exists, the lifespan is cancelled, and there is no state.
            stop: Called when the lifespan ends, even by itself.

        Raises:
            LifespanError: The lifespan failed before it yielded a state.
        """
        if self._make is None:
            return
        stopping = stopping or asyncio.Event()
        async with self._lock:
            if self._task is None and not stopping.is_set():
                await self._begin(stopping)
            if self._task is not None and stop is not None:
                self._task.add_done_callback(lambda _: stop())
            self._users += 1

    async def leave(self) -> None:
        """End the state if this was the last user.

        Raises:
            LifespanError: The lifespan failed after it had yielded the state.
        """
        if self._make is None:
            return
        self._users -= 1  # first, so that a cancelled wait does not leave a user behind
        async with self._lock:
            if self._users == 0 and self._task is not None:
                await self._end(self._task)

    async def _begin(self, stopping: asyncio.Event) -> None:
        begun = self._begun = asyncio.get_running_loop().create_future()
        self._unused.clear()
        task = self._task = asyncio.create_task(self._live(begun), name=f"brrr lifespan {self._name}")
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({begun, task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not begun.done():
                await self._end(task)

    async def _live(self, begun: "asyncio.Future[Any]") -> None:
        assert self._make is not None  # noqa: S101 - `enter` checked it
        manager = self._make()
        if not isinstance(manager, AbstractAsyncContextManager):
            raise TypeError(f"it returned a {type(manager).__name__}, not an async context manager")
        async with cast("AbstractAsyncContextManager[object]", manager) as state:
            begun.set_result(state)
            await self._unused.wait()

    async def _end(self, task: "asyncio.Task[None]") -> None:
        assert self._begun is not None  # noqa: S101 - the task has begun
        yielded = self._begun.done()
        self._unused.set()
        if not yielded:
            task.cancel()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # no more time
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._task = self._begun = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise self._failed(error, yielded=yielded) from error

    def _failed(self, error: BaseException, *, yielded: bool) -> LifespanError:
        if yielded:
            return LifespanError(
                f"the lifespan {self._name!r} failed after its `yield`: {describe(error)}",
                remedy="Its loops have ended, and their messages are safe. Fix the cause.",
            )
        return LifespanError(
            f"the lifespan {self._name!r} failed before its `yield`, and no message was received: {describe(error)}",
            remedy="Fix the cause. A lifespan is an async function with one parameter, the application, and one "
            "`yield`, decorated with `contextlib.asynccontextmanager`.",
        )


_NONE = Lifespan()


def lifespan_of(handle: object) -> Lifespan:
    """Return the lifespan of the application whose `handle` this is; one without a state for any other function."""
    found = getattr(getattr(handle, "__self__", None), "_lifespan", None)
    return found if isinstance(found, Lifespan) else _NONE
