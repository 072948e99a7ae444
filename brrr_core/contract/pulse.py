"""Whether the event loop stood still: on a busy machine a lease may run out with nobody to blame."""

from asyncio import TimerHandle, get_running_loop
from typing import Final, Self

__all__ = ["Pulse"]

BEAT: Final = 0.02
"""Seconds between two looks at the clock."""


class Pulse:
    """Looks at the clock while it is entered. Callbacks, and no task: a rule counts the tasks of its loop.

    Args:
        longest: Seconds between two looks from which on the loop counts as stalled.
    """

    def __init__(self, longest: float) -> None:
        self.stalled = False
        self._longest = longest
        self._last = 0.0
        self._timer: TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._last = get_running_loop().time()
        self._beat()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._look()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._look()
        self._timer = get_running_loop().call_later(BEAT, self._beat)

    def _look(self) -> None:
        now = get_running_loop().time()
        self.stalled = self.stalled or now - self._last > self._longest
        self._last = now
