"""Stop signals: the event loop of a process handles them, and forked children do not inherit the handlers."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

__all__ = [
    "STOP_SIGNALS",
    "add_handler",
    "exiting",
    "interruptible",
    "remove_handler",
    "stop_on_sigterm",
    "unregister",
]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

EXIT_DELAY: Final = 2.0
"""Seconds that a program has to end by itself after SIGTERM, counted from the return of its last loop."""

CHECK_INTERVAL: Final = 0.2
"""Seconds between two checks of a program that may take more time."""

TASK_CODE: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
"""Flags of code that only a task runs."""

Stop = Callable[[], None]
_Handler = Callable[[int, FrameType | None], object]


@dataclass(slots=True, eq=False)
class _LoopStops:
    """The functions that SIGTERM calls on one event loop.

    Attributes:
        stops: The functions, each with its grace in seconds.
        callers: The tasks whose worker loops have returned since SIGTERM.
        deadline: The end of the grace, by the clock of the event loop; None before SIGTERM.
        left: Whether `SystemExit` was raised.
    """

    stops: list[tuple[Stop, float]] = field(default_factory=list[tuple[Stop, float]])
    callers: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    deadline: float | None = None
    left: bool = False


# Module state, because a signal belongs to the process, and all its connections share the handler.
_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopStops]] = WeakKeyDictionary()
_masks: Final = threading.local()
_interrupted: "list[_Handler]" = []
"""SIGINT's handlers of the program, one for each open `interruptible` block; only the first one counts."""


def stop_on_sigterm(stop: Stop, *, grace: float) -> None:
    """Call `stop` on SIGTERM, until `unregister(stop)`. After SIGTERM the program ends as `unregister` describes.

    This works only in the main thread of a process that has no SIGTERM handler of its own. A handler that the program
    installs later takes precedence.

    Args:
        stop: Stops a loop gracefully.
        grace: Seconds that the loop may take.
    """
    loop = asyncio.get_running_loop()
    loop_stops = _loops.get(loop)
    if loop_stops is None:
        loop_stops = _LoopStops()
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or not add_handler(
            signal.SIGTERM, _terminate, loop_stops
        ):
            return
        _loops[loop] = loop_stops
    loop_stops.stops.append((stop, grace))
    if loop_stops.deadline is not None:
        stop()


def unregister(stop: Stop) -> None:
    """No longer call `stop` on SIGTERM. When the last function is removed, the signal gets its default again.

    If SIGTERM came, the program has `EXIT_DELAY` seconds from now to end by itself. The current task, whose worker loop
    has returned, may continue until the grace is over. Then `SystemExit` ends the event loop: `asyncio.run` cancels the
    remaining tasks and runs their `finally` blocks.
    """
    loop = asyncio.get_running_loop()
    loop_stops = _loops.get(loop)
    entry = next((each for each in loop_stops.stops if each[0] == stop), None) if loop_stops is not None else None
    if loop_stops is None or entry is None:
        return
    loop_stops.stops.remove(entry)
    if loop_stops.deadline is not None:
        caller = asyncio.current_task()
        if caller is not None:
            loop_stops.callers.add(caller)
        loop.call_later(EXIT_DELAY, _leave, loop_stops)
    elif not loop_stops.stops:
        del _loops[loop]
        remove_handler(signal.SIGTERM)


def _terminate(loop_stops: _LoopStops) -> None:
    # Ignore a second signal: parents often relay a signal that the whole process group received.
    if loop_stops.deadline is not None or signal.getsignal(signal.SIGTERM) is not _heard:
        return
    loop_stops.deadline = asyncio.get_running_loop().time() + max(grace for _, grace in loop_stops.stops)
    for stop, _ in list(loop_stops.stops):
        stop()


def _leave(loop_stops: _LoopStops) -> None:
    if loop_stops.stops or loop_stops.left or loop_stops.deadline is None:
        return
    loop = asyncio.get_running_loop()
    if loop.time() < loop_stops.deadline and not all(caller.done() for caller in loop_stops.callers):
        loop.call_later(CHECK_INTERVAL, _leave, loop_stops)
        return
    loop_stops.left = True
    raise SystemExit(128 + signal.SIGTERM)


def add_handler(number: int, callback: Callable[..., object], *args: Any) -> bool:
    """Call `callback` on the running event loop on a signal, in this process but not in its forked children.

    Returns:
        Whether that works. Only the main thread can handle signals, and event loops on Windows cannot.
    """
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, callback, *args)
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    # Python's handler only claims the signal: the event loop notices it by its wake-up file descriptor.
    signal.signal(number, _heard)
    signal.siginterrupt(number, False)
    return True


def remove_handler(number: int) -> None:
    """Undo `add_handler`: the signal gets its default again. A handler that replaced ours stays."""
    if signal.getsignal(number) is _heard:
        asyncio.get_running_loop().remove_signal_handler(number)


@contextmanager
def exiting(number: int) -> Generator[None, None, None]:
    """Raise `SystemExit` on a signal in this block, except while an event loop handles it.

    Without a handler, the kernel does not deliver the signal to the first process of a container.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return
    signal.signal(number, _exit)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def interruptible() -> Generator[None, None, None]:
    """Make a second SIGINT safe in this block: let it interrupt tasks, but not the event loop or its callbacks.

    `asyncio.run` cancels the main task at the first SIGINT, and raises `KeyboardInterrupt` at the second one, at the
    very line that runs. If that line belongs to the event loop, a callback can be lost that the loop has just taken
    from its queue. The task that waits for this callback never continues, and the program never ends.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler) or handler is _heard:
        yield
        return
    if not _interrupted:
        signal.signal(signal.SIGINT, _interrupt)
    _interrupted.append(handler)
    try:
        yield
    finally:
        first = _interrupted[0]
        _interrupted.pop()
        if not _interrupted and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, first)


def _interrupt(number: int, frame: FrameType | None) -> None:
    handler = _interrupted[0]
    try:
        handler(number, frame)
    except KeyboardInterrupt as interrupt:
        if isinstance(handler, partial) and isinstance(getattr(handler.func, "__self__", None), asyncio.Runner):
            _interrupted[0] = signal.default_int_handler  # as `asyncio.run` does when the interrupt leaves the loop
        if _in_task(frame):
            raise
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise interrupt from None
        loop.call_soon_threadsafe(_raise, interrupt)


def _in_task(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_flags & TASK_CODE:
            return True
        frame = frame.f_back
    return False


def _raise(error: BaseException) -> None:
    raise error


def _heard(_number: int, _frame: FrameType | None) -> None:
    pass


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _ours() -> list[signal.Signals]:
    return [number for number in STOP_SIGNALS if signal.getsignal(number) in (_heard, _exit)]


# A forked child has the handlers of its parent and the file descriptor that wakes the parent's event loop: a signal to
# the child would stop the parent. The signals are blocked until the child has removed the handlers.
def _before_fork() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS) if _ours() else None


def _after_fork() -> None:
    if _masks.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_fork_in_child() -> None:
    if _masks.before is None:
        return
    _loops.clear()
    signal.set_wakeup_fd(-1)
    for number in _ours():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
