"""Detect a stalled event loop: on a busy machine a lease may expire through no fault of the backend."""

from asyncio import TimerHandle, get_running_loop
from typing import Final, Self

__all__ = ["StallDetector"]

INTERVAL: Final = 0.02
"""Seconds between two readings of the clock."""


class StallDetector:
    """Reads the clock periodically inside `async with`. It uses callbacks, since rules count the tasks of the loop.

    Args:
        longest: The loop counts as stalled if more seconds pass between two readings.
    """

    def __init__(self, longest: float) -> None:
        self.stalled = False
        self._longest = longest
        self._last = 0.0
        self._timer: TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._last = get_running_loop().time()
        self._tick()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._read_clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._read_clock()
        self._timer = get_running_loop().call_later(INTERVAL, self._tick)

    def _read_clock(self) -> None:
        now = get_running_loop().time()
        self.stalled = self.stalled or now - self._last > self._longest
        self._last = now
