"""The servers' clock, which delays are counted by, and the detector of stalls, which tells when a lease began."""

import asyncio
from asyncio import AbstractEventLoop, TimerHandle
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final

from brrr_nats.client.requests import RequestClient

__all__ = ["ServerClock", "StallDetector", "read_time"]

MAX_AGE_SECONDS: Final = 300.0
"""Seconds after which the servers are asked again."""

MAX_DRIFT_SECONDS: Final = 0.1
"""Seconds of change between the two local clocks after which the servers are asked again: someone set the clock, or the
machine slept."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TICKS_PER_LEASE: Final = 60
STALL_STEPS: Final = 3
"""Steps between two ticks from which the process counts as stalled."""

CATCH_UP_TICKS: Final = 4
"""Ticks after a stall in which messages may have arrived during the stall."""


class ServerClock:
    """The offset of the servers' clock from the loop's clock, which cannot be set.

    The reply with information on any stream includes the server's time.
    """

    def __init__(self, client: RequestClient, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._offset = 0.0
        self._asked_at = float("-inf")
        self._wall_offset = 0.0

    async def after(self, seconds: float) -> str:
        """Return the servers' time in `seconds`, as servers read it. Raises `ApiError`."""
        now = self._loop.time()
        if now - self._asked_at > MAX_AGE_SECONDS or abs(time() - now - self._wall_offset) > MAX_DRIFT_SECONDS:
            info = await self._client.call_api(f"STREAM.INFO.{self._stream}")
            self._asked_at = self._loop.time()
            self._wall_offset = time() - self._asked_at
            self._offset = read_time(info["ts"]) - (now + self._asked_at) / 2
        due = EPOCH + timedelta(seconds=self._loop.time() + self._offset + seconds)
        return due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(text: str) -> float:
    """Convert a server's time, such as `2026-01-31T12:00:00.123456789Z`, to unix seconds."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


class StallDetector:
    """A timer that ticks while messages may arrive, and so notices when this process was stalled.

    Attributes:
        not_before: A time, by the loop's clock, before which no message was sent that is read now. It is the last tick
            but one, as the last tick may come between the end of a stall and the reading of messages that arrived in
            it.
    """

    def __init__(self, loop: AbstractEventLoop, lease: float) -> None:
        self.not_before = 0.0
        self._last = 0.0
        self._loop = loop
        self._step = lease / TICKS_PER_LEASE
        self._users = self._ticks_left = self._catching_up = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick for one pull."""
        self._users += 1
        if self._timer is None:
            self.not_before = self._last = self._loop.time()
            self._catching_up = 0
            self._tick()

    def stop(self) -> None:
        """End one `start`. The ticks continue for one lease."""
        self._users -= 1

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._last > STALL_STEPS * self._step:
            self._catching_up = CATCH_UP_TICKS
        if self._catching_up:
            self._catching_up -= 1
        else:
            self.not_before = self._last
        self._last = now
        self._ticks_left = TICKS_PER_LEASE if self._users else self._ticks_left - 1
        self._timer = self._loop.call_later(self._step, self._tick) if self._ticks_left > 0 else None
