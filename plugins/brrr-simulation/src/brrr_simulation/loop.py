"""Event loops in virtual time: one for each simulated process, and the universe that runs them all in one thread.

Nothing really waits: if no process can continue, the time advances to the next timer. Within a process, callbacks run
first in, first out, as asyncio promises. Processes share only the backends, whose operations take a random time. These
times alone decide in which order processes see effects of each other. The order of their turns does not matter.

A process can die at any moment without running another line of its code, as after SIGKILL. It can also freeze.
"""

import asyncio
import asyncio.events
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

__all__ = ["CLOSINGS", "DeadlockError", "Process", "ProcessDied", "Universe"]

ResultT = TypeVar("ResultT")

CLOSINGS: Final = 200
"""The most times that `ProcessDied` is raised in a coroutine of a dead process whose `finally` blocks await again."""

TASKS: Final = 200
"""The number of tasks at which a process drops those that are done from its list."""


class DeadlockError(AssertionError):
    """Every process waits, and no timer is set, so nothing can happen any longer."""


class ProcessDied(BaseException):
    """Raised in the coroutines of a dead process at the end of a history, before Python closes them."""


class Universe:
    """The virtual time, and the processes that live in it.

    Attributes:
        now: Virtual seconds since the beginning.
        processes: All processes, including dead ones.
        steps: How many callbacks have run.
        runnable: The processes that get a turn next.
        quiet: If all processes only poll, returns the time of the next event from outside; else None. The universe
            then skips the polls until that time, as if the machine had slept.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.processes: list[Process] = []
        self.steps = 0
        self.quiet: Callable[[], float | None] | None = None
        self._events: list[tuple[float, int, Process | None, Callable[[], object]]] = []
        self.runnable: deque[Process] = deque()
        self._number = 0

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    def process(self, name: str) -> "Process":
        """Start an event loop for a process."""
        return Process(self, name)  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage] # no sockets, no files

    def at(self, when: float, action: Callable[[], object], process: "Process | None" = None) -> None:
        """Call a function at a time; later if its process is frozen, and never if its process is dead."""
        self._number += 1
        heappush(self._events, (when, self._number, process, action))

    def after(self, seconds: float, action: Callable[[], object], process: "Process | None" = None) -> None:
        """Call a function after some seconds."""
        self._number += 1
        heappush(self._events, (self.now + seconds, self._number, process, action))

    def run_until(self, done: Callable[[], bool], *, until: float) -> bool:
        """Run until `done()` is true, or until a time. Return whether it is true.

        Raises:
            DeadlockError: No timer is left.
        """
        runnable, events = self.runnable, self._events
        outer = asyncio.events._get_running_loop()  # noqa: SLF001 - a test may run in a loop of its own
        try:
            while True:
                while runnable:
                    runnable.popleft().turn()
                if done():
                    return True
                if not events:
                    raise DeadlockError("every process waits, and no timer is set")
                when = events[0][0]
                if (
                    when > self.now
                    and self.quiet is not None
                    and (skip := self.quiet()) is not None
                    and skip > self.now
                ):
                    self.now = min(skip, until)
                if when > until:
                    self.now = max(self.now, until)
                    return False
                when, _, process, action = heappop(events)
                self.now = max(self.now, when)
                if process is None:
                    action()
                elif process.frozen_until > self.now:
                    self.at(process.frozen_until, action, process)
                elif not process.dead:
                    action()
        finally:
            asyncio.events._set_running_loop(outer)  # noqa: SLF001 - as above

    def end(self) -> None:
        """Close the coroutines of all processes, one after another, so that none runs later."""
        for process in self.processes:
            process.bury()


class Process(asyncio.AbstractEventLoop):
    """The event loop of one simulated process.

    Attributes:
        name: Its name in stories.
        dead: Whether it was killed.
        frozen_until: Virtual time until which it does not run.
    """

    def __init__(self, universe: Universe, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        self.place: object = None
        """An object of the history, which handlers use."""
        self.clock: Callable[[], float] = universe.time
        """Returns the unix time on the machine of the process."""
        self.died: Callable[[], object] | None = None
        """Called when the process was killed; only for clients."""
        self.at_end: list[Callable[[], object]] = []
        """Functions to call when the coroutines are closed."""
        self.failures: list[BaseException] = []
        """Errors that no task retrieved."""
        self._universe = universe
        self._turns: deque[_Handle] = deque()
        self._running = False
        universe.processes.append(self)

    # The parts of an event loop that asyncio uses.

    def get_debug(self) -> bool:
        """Whether asyncio's debug mode is on."""
        return False

    def get_task_factory(self) -> None:
        """Return None, because there is no task factory."""

    def create_future(self) -> "asyncio.Future[Any]":
        """Create a future."""
        return asyncio.Future(loop=self)

    def is_closed(self) -> bool:
        """Whether it is closed. A killed process counts as open, because its code must not notice."""
        return False

    def time(self) -> float:
        """Return the virtual time."""
        return self._universe.now

    def create_task(self, coro: Any, **how: Any) -> "asyncio.Task[Any]":
        """Create a task, and keep it until the end."""
        task = asyncio.Task(coro, loop=self, **how)
        if len(self.tasks) > TASKS:
            self.tasks = [each for each in self.tasks if not each.done()]
        self.tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        """Call a function in the next turn of this process."""
        handle = _Handle(callback, args, copy_context() if context is None else context)
        if not self.dead:
            turns = self._turns
            if not turns and not self._running:
                self._universe.runnable.append(self)
            turns.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        """Do the same as `call_soon`, because there is only one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        """Call a function at a virtual time."""
        handle = _Timer(callback, args, copy_context() if context is None else context)
        handle.at = when
        self._universe.at(when, lambda: self._due(handle), self)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:  # type: ignore[override]
        """Call a function after virtual seconds."""
        return self.call_at(self._universe.now + delay, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run a blocking function immediately, in this thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the caller gets it
            future.set_exception(error)
        return future

    def is_running(self) -> bool:
        """Whether it lives."""
        return not self.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Record an error that no task retrieved. Errors of a killed process are ignored."""
        error = context.get("exception")
        if error is not None and not self.dead:
            self.failures.append(error)

    # The parts for the universe.

    def turn(self) -> None:
        """Run the callbacks that are ready."""
        if self.dead:
            return
        if self.frozen_until > self._universe.now:
            self._universe.at(self.frozen_until, lambda: self._universe.runnable.append(self), self)
            return
        turns, callbacks = self._turns, 0
        asyncio.events._set_running_loop(self)  # noqa: SLF001 - the loop of asyncio does the same
        self._running = True
        try:
            while turns and not self.dead:
                handle = turns.popleft()
                callbacks += 1
                if not handle.over:
                    handle.context.run(handle.callback, *handle.args)
        finally:
            self._running = False
            self._universe.steps += callbacks

    def start(self, work: Coroutine[Any, Any, ResultT]) -> "asyncio.Task[ResultT]":
        """Start a coroutine in this process."""
        outer = asyncio.events._get_running_loop()  # noqa: SLF001 - a test may run in its own loop
        asyncio.events._set_running_loop(self)  # noqa: SLF001 - as above
        try:
            return self.create_task(work)
        finally:
            asyncio.events._set_running_loop(outer)  # noqa: SLF001 - as above

    def kill(self) -> None:
        """Stop running this process. Its objects stay alive, so that no `finally` of it runs."""
        self.dead = True
        self._turns.clear()

    def bury(self) -> None:
        """Kill this process, and close all its coroutines. Their actions have no effect."""
        self.kill()
        outer = asyncio.events._get_running_loop()  # noqa: SLF001 - a test may run in its own loop
        asyncio.events._set_running_loop(self)  # noqa: SLF001 - as above
        try:
            for task in self.tasks:
                if task.done():
                    continue
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - it never ends
                _close(task.get_coro())
            for end in self.at_end:
                end()
        finally:
            asyncio.events._set_running_loop(outer)  # noqa: SLF001 - as above
        self.tasks.clear()

    def _due(self, handle: "_Timer") -> None:
        if not handle.over:
            if not self._turns:
                self._universe.runnable.append(self)
            self._turns.append(handle)


class _Handle:
    """A callback. It has the parts of `asyncio.Handle` that asyncio uses, and is faster."""

    __slots__ = ("args", "callback", "context", "over")

    def __init__(self, callback: Callable[..., object], args: Sequence[Any], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.over = False

    def cancel(self) -> None:
        """Prevent the call."""
        self.over = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.over


class _Timer(_Handle):
    __slots__ = ("at",)

    at: float

    def when(self) -> float:
        """Return the time at which it is due."""
        return self.at


def _close(coroutine: Any) -> None:
    """Close a coroutine. Its method `close` fails if a `finally` block awaits."""
    with suppress(BaseException):
        for _ in range(CLOSINGS):
            coroutine.throw(ProcessDied())
