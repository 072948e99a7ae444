"""A pulse: it tells how long this process may have stood still, and so when a lease may have begun."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final

__all__ = ["Pulse"]

TICKS: Final = 60
"""Ticks of the pulse in a lease."""

STOOD_STILL: Final = 3
"""Steps between two ticks after which this process must have stood still."""

CATCHING_UP: Final = 4
"""Ticks after that, in which what is read may have lain there meanwhile."""


class Pulse:
    """Ticks while messages may come, so that the time for which this process stood still is known.

    Attributes:
        tick: A time, by the loop's clock, before which nothing was sent that is read now. It is the last tick but one:
            the last may come between the end of a standstill and the reading of what came in it.
    """

    def __init__(self, loop: AbstractEventLoop, lease: float) -> None:
        self.tick = 0.0
        self._last = 0.0
        self._loop = loop
        self._step = lease / TICKS
        self._users = 0
        self._rest = 0
        self._catching_up = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """A message may come from now on."""
        self._users += 1
        if self._timer is None:
            self.tick = self._last = self._loop.time()
            self._catching_up = 0
            self._beat()

    def stop(self) -> None:
        """For one `start`: it will not come any more, but for a little while."""
        self._users -= 1

    def end(self) -> None:
        """Do not tick any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._last > STOOD_STILL * self._step:
            self._catching_up = CATCHING_UP
        if self._catching_up:
            self._catching_up -= 1
        else:
            self.tick = self._last
        self._last = now
        self._rest = TICKS if self._users else self._rest - 1
        self._timer = self._loop.call_later(self._step, self._beat) if self._rest > 0 else None
