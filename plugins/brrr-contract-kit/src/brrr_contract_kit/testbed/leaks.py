"""Find what a rule leaves behind: tasks, threads, files, sockets, resource warnings and unhandled errors."""

import gc
import sys
import threading
import time
import warnings
from asyncio import AbstractEventLoop, Task, all_tasks, current_task, new_event_loop
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from brrr_contract_kit.testbed.checks import shown
from brrr_core.errors import RuleBrokenError

__all__ = ["LeakError", "UnhandledErrors", "check_tasks", "open_files", "other_tasks", "poll", "threads", "watched"]

FOLDERS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
SETTLE_SECONDS: Final = 2.0
"""Seconds that a thread may take to end after its backend is closed."""

ThingT = TypeVar("ThingT")


class LeakError(RuleBrokenError):
    """A rule left something behind. `forbidden_by` is the id of the rule that forbids it, usually another one."""

    forbidden_by: str = "BACKEND-CLEAN-01"


def leaked(what: str, *, forbidden_by: str = LeakError.forbidden_by) -> NoReturn:
    """Raise `LeakError`, because something is left behind."""
    error = LeakError(what, remedy="Let `stop` release it, and return only when it has ended.")
    error.forbidden_by = forbidden_by
    raise error


class UnhandledErrors:
    """Collects errors that no caller can catch, from the event loop and from finalizers."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def new_loop(self) -> AbstractEventLoop:
        """Return an event loop for this thread, which refuses and records calls from other threads.

        The debug mode of asyncio refuses them too, but doubles the time of a client library.
        """
        loop, owner = new_event_loop(), threading.get_ident()

        def own(method: Callable[..., Any]) -> Callable[..., Any]:
            def checked(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != owner:
                    what = f"{method.__name__} was called from a thread other than that of the loop"
                    self.found.append(what)
                    raise RuntimeError(what)
                return method(*args, **kwargs)

            return checked

        for name in ("call_soon", "call_at"):
            setattr(loop, name, own(getattr(loop, name)))
        loop.set_exception_handler(self.of_loop)
        return loop

    def of_loop(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Record an error that the loop reports: a forgotten task, or a callback that raised."""
        del loop
        error = context.get("exception")
        self.found.append(f"{context.get('message')}: {error!r}" if error else str(context.get("message")))

    def of_interpreter(self, unraisable: Any) -> None:
        """Record an error that the interpreter reports from a finalizer."""
        self.found.append(f"{unraisable.err_msg or 'an error in a finalizer'}: {unraisable.exc_value!r}")

    def check(self) -> None:
        """Raise `LeakError` if anything was collected."""
        if self.found:
            errors = "; ".join(map(shown, self.found[:5]))
            leaked(f"the backend leaves errors unhandled: {errors}", forbidden_by="BACKEND-CLEAN-04")


@contextmanager
def watched() -> Generator[UnhandledErrors]:
    """Check after the block that it has left nothing behind.

    Raises:
        LeakError: A thread still runs, a file or socket is still open, a `ResourceWarning` was issued, or an error was
            not handled.
    """
    unhandled = UnhandledErrors()
    before, begun = open_files(), threads()
    gc.freeze()  # collect below only the objects of the rule, not all imported modules
    hook, sys.unraisablehook = sys.unraisablehook, unhandled.of_interpreter
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield unhandled
            gc.collect()
        unhandled.found += [str(each.message) for each in warned if issubclass(each.category, ResourceWarning)]
    finally:
        sys.unraisablehook = hook
        gc.unfreeze()
    # The thread pool of the loop has ended with the loop.
    left = poll(lambda: threads() - begun)
    if left:
        leaked(f"threads still run after the backend was closed: {sorted(thread.name for thread in left)}")
    opened = poll(lambda: open_files() - before)
    if opened:
        leaked(f"files or sockets are still open after the backend was closed: {sorted(opened)}")
    unhandled.check()


def other_tasks() -> set["Task[Any]"]:
    """Return the tasks of the running loop except the current one."""
    return {task for task in all_tasks() if task is not current_task()}


def check_tasks() -> None:
    """Check that the running loop has no other task.

    Raises:
        LeakError: Tasks are still pending.
    """
    if left := other_tasks():
        names = sorted(task.get_name() for task in left)
        leaked(f"tasks are still pending after the backend was closed: {names}")


def threads() -> set[threading.Thread]:
    """Return the threads of this process."""
    return set(threading.enumerate())


def open_files() -> set[str]:
    """Return the open file descriptors with their targets; empty if the system does not list them."""
    for folder in FOLDERS:
        if folder.is_dir():
            return {f"{each.name}: {target}" for each in folder.iterdir() if (target := _target(each))}
    return set()


def _target(link: Path) -> str:
    try:
        return str(link.readlink()) if link.is_symlink() else "open"
    except OSError:  # the descriptor of this listing itself
        return ""


def poll(left: Callable[[], set[ThingT]]) -> set[ThingT]:
    """Return the leftovers that remain after `SETTLE_SECONDS` seconds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.005)  # threads and descriptors give no signal when they end, so poll
    return found
