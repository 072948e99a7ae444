"""What a rule leaves behind: tasks, threads, files, sockets, warnings of the interpreter, errors of the loop."""

import gc
import sys
import threading
import time
import warnings
from asyncio import AbstractEventLoop, Task, all_tasks, current_task, new_event_loop
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from brrr_core.contract.checks import broken, shown

__all__ = ["Loose", "open_files", "other_tasks", "poll", "threads", "watched"]

FOLDERS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
SETTLE: Final = 2.0
"""Seconds that a thread may take to end after its backend was closed."""

ThingT = TypeVar("ThingT")


class Loose:
    """Collects what went wrong without anybody to raise it to."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def new_loop(self) -> AbstractEventLoop:
        """An event loop for this thread, which refuses callbacks from others and tells of them.

        The debug mode does the former too, and makes everything else that a client library does twice as slow.
        """
        loop, owner = new_event_loop(), threading.get_ident()

        def own(method: Callable[..., Any]) -> Callable[..., Any]:
            def checked(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != owner:
                    what = f"{method.__name__} was called from another thread than the loop's"
                    self.found.append(what)
                    raise RuntimeError(what)
                return method(*args, **kwargs)

            return checked

        for name in ("call_soon", "call_at"):
            setattr(loop, name, own(getattr(loop, name)))
        loop.set_exception_handler(self.of_loop)
        return loop

    def of_loop(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: tasks that were forgotten, callbacks that raised."""
        del loop
        error = context.get("exception")
        self.found.append(f"{context.get('message')}: {error!r}" if error else str(context.get("message")))

    def of_interpreter(self, unraisable: Any) -> None:
        """The interpreter's hook for errors in finalizers."""
        self.found.append(f"{unraisable.err_msg or 'an error in a finalizer'}: {unraisable.exc_value!r}")

    def check(self) -> None:
        """Raise `RuleBrokenError` if anything was collected."""
        if self.found:
            broken(f"the backend lets errors loose that nobody gets: {'; '.join(map(shown, self.found[:5]))}")


@contextmanager
def watched() -> Generator[Loose]:
    """Run a rule, and make sure that it leaves nothing behind.

    Raises:
        RuleBrokenError: A thread, a file or a socket is still open, a `ResourceWarning` was given, or an error was let
            loose.
    """
    loose = Loose()
    before, begun = open_files(), threads()
    gc.freeze()  # the collection below is for what the rule leaves, and need not look at all that was imported
    hook, sys.unraisablehook = sys.unraisablehook, loose.of_interpreter
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield loose
            gc.collect()
        loose.found += [str(each.message) for each in warned if issubclass(each.category, ResourceWarning)]
    finally:
        sys.unraisablehook = hook
        gc.unfreeze()
    # The loop's own thread pool has ended with the loop.
    left = poll(lambda: threads() - begun)
    if left:
        broken(f"threads run on after the backend was closed: {sorted(thread.name for thread in left)}")
    opened = poll(lambda: open_files() - before)
    if opened:
        broken(f"files or sockets are open after the backend was closed: {sorted(opened)}")
    loose.check()


def other_tasks() -> set["Task[Any]"]:
    """The tasks of the running loop beside the current one."""
    return {task for task in all_tasks() if task is not current_task()}


def threads() -> set[threading.Thread]:
    """The threads of this process."""
    return set(threading.enumerate())


def open_files() -> set[str]:
    """The open file descriptors and what they lead to; none where the system does not tell."""
    for folder in FOLDERS:
        if folder.is_dir():
            return {f"{each.name}: {target}" for each in folder.iterdir() if (target := _target(each))}
    return set()


def _target(link: Path) -> str:
    try:
        return str(link.readlink()) if link.is_symlink() else "open"
    except OSError:  # the descriptor of this very listing
        return ""


def poll(left: Callable[[], set[ThingT]]) -> set[ThingT]:
    """What is still left when it has had the time to go."""
    deadline = time.monotonic() + SETTLE
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.005)  # between looks: threads and descriptors tell nobody that they have gone
    return found
