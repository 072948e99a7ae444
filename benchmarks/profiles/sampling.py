"""Sample the stacks of a process by its CPU time. Waiting has no part in it, and neither have other programs."""

import signal
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Final, NamedTuple, Self

__all__ = ["Call", "Sampler", "Stacks"]

INTERVAL: Final = 0.001
"""CPU seconds between two samples. The kernel rounds this up to its tick, commonly 4 ms."""

STARTERS: Final = ("threading", "concurrent.futures.thread")
"""The modules that start the functions of threads."""


class Call(NamedTuple):
    """A function on a stack. C functions count for the Python function that calls them."""

    module: str
    function: str


Stacks = Counter[tuple[Call, ...]]
"""CPU nanoseconds by stack, whose outermost call comes first."""


class Sampler:
    """Samples the threads while its block runs, in the main thread.

    A sample gives a thread's stack the CPU time that the thread has used since its last one. So a thread that waits
    counts nothing. The handler of a signal runs when the main thread has the GIL, which another thread gives up at the
    end of its work. So its stack would mislead, and only the first function of another thread counts. For the same
    reason the main thread is not sampled while it selects: its next sample gets the time.
    """

    def __init__(self) -> None:
        self.stacks: Stacks = Counter()
        self._used: dict[int, int] = {}

    def __enter__(self) -> Self:
        for thread in _frames():
            self._used[thread] = _cpu(thread)
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # one may be on its way

    def _sample(self, _number: int, current: FrameType | None) -> None:
        main = threading.get_ident()
        for thread, frame in _frames().items():
            stack = _stack(current) if thread == main else _first(_stack(frame))
            if stack[-1].module in {"selectors", __name__}:
                continue
            used = _cpu(thread)
            spent, self._used[thread] = used - self._used.get(thread, used), used
            if spent:
                self.stacks[stack] += spent
            if thread == main:
                self._used[main] = _cpu(main)  # without this function


def _frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread. Only a private function has those of other threads."""
    return sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - see above


def _first(stack: tuple[Call, ...]) -> tuple[Call, ...]:
    """Return the function that a thread was started for."""
    return next(((call,) for call in stack if call.module not in STARTERS), stack[:1])


def _cpu(thread: int) -> int:
    """Return the CPU nanoseconds of a thread. It is alive: it cannot leave the frames while this holds the GIL."""
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))


def _stack(frame: FrameType | None) -> tuple[Call, ...]:
    calls: list[Call] = []
    while frame is not None:
        calls.append(Call(frame.f_globals.get("__name__", "?"), frame.f_code.co_qualname))
        frame = frame.f_back
    return tuple(reversed(calls))
