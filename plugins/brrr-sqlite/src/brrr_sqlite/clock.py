"""The time by which messages fall due: the machine's, in whole microseconds, because processes share it."""

from collections.abc import Callable
from time import time_ns
from typing import Final

__all__ = ["Clock", "Microseconds", "microseconds"]

Microseconds = int
"""Microseconds since the unix epoch, or a span of them."""

STEP: Final = 60_000_000
FOREVER: Final = 2**62
"""About 146,000 years: SQLite's integers have 64 bits, and a sum of two of these still fits."""


class Clock:
    """The wall clock, which stands still rather than go back.

    A clock that was set back by up to a minute would else hide what was just put, and mix up the order. One that was
    set back by more was wrong before, and is believed.

    Args:
        source: Nanoseconds since the unix epoch.
    """

    def __init__(self, source: Callable[[], int] = time_ns) -> None:
        self._source = source
        self._latest: Microseconds = 0

    def __call__(self) -> Microseconds:
        """The time now."""
        now = self._source() // 1000
        if not now < self._latest <= now + STEP:
            self._latest = now
        return self._latest


def microseconds(seconds: float) -> Microseconds:
    """A span of seconds, cut to what SQLite can count with."""
    return int(min(seconds * 1e6, FOREVER // 2))
