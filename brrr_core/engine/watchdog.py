"""A thread that finds the handler that blocks the event loop: only another thread can run while it is blocked."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

__all__ = ["Culprit", "Watchdog"]

PARTS: Final = 4
"""How many times in the `limit` the watchdog checks the loop."""


class Culprit(NamedTuple):
    """The task that blocks the event loop, and its place in the code."""

    task: "asyncio.Task[Any]"
    where: str


class Watchdog:
    """Checks the running event loop regularly, and finds the task that blocks it if it does not respond.

    Args:
        limit: Seconds after which a loop that does not answer counts as blocked.
        stuck: Called in the thread, with the culprit and the seconds, once a loop has not answered for three limits.
    """

    def __init__(self, limit: float, stuck: Callable[[Culprit, float], None]) -> None:
        self.culprit: Culprit | None = None
        """The last task that was found. The worker takes it when it reports the block."""
        self.reported = False
        """Whether `stuck` was called for it."""
        self._limit = limit
        self._stuck = stuck
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._answered = threading.Event()
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="brrr watchdog", daemon=True).start()

    def take(self) -> tuple[Culprit | None, bool]:
        """Return the culprit of the block that has ended, and whether `stuck` was called for it."""
        found = self.culprit, self.reported
        self.culprit, self.reported = None, False
        return found

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._answered.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._limit / PARTS):
            self._answered.clear()
            began = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                return  # the loop is closed
            if self._stopping.is_set() or self._answered.wait(self._limit):
                continue
            found = self.culprit = self._look()
            if not self._answered.wait(2 * self._limit) and found is not None:
                self.reported = True
                self._stuck(found, time.monotonic() - began)
            self._answered.wait()

    def _look(self) -> Culprit | None:
        task = asyncio.current_task(self._loop)
        # The documented way to see another thread.
        frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        frame = frames.get(self._loop_thread)
        return None if task is None or frame is None else Culprit(task, _place(frame))


def _place(frame: FrameType) -> str:
    """Return the place in the code of a handler: the frame that brrr called, or the outermost one of another task."""
    place, inner, walked = frame, frame, frame.f_back
    while walked is not None:
        if str(walked.f_globals.get("__name__")).startswith("brrr_core."):
            place = inner
            break
        inner, walked = walked, walked.f_back
    code = place.f_code
    return f"{Path(code.co_filename).name}:{place.f_lineno} in {code.co_qualname}"
