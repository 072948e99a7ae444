"""The servers' clock, by which messages are delayed: ours may be off."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final

from brrr_nats.client.requests import Link

__all__ = ["ServerClock", "read_time"]

TRUSTED_FOR: Final = 300.0
"""Seconds after which the servers are asked again."""

JUMP: Final = 0.1
"""Seconds by which our two clocks part when somebody sets one, or the machine sleeps: then they are asked again too."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServerClock:
    """Knows how far the servers' clock is ahead of the loop's, which nobody sets.

    Args:
        link: Asks them.
        stream: Any stream; its server tells the time with what it says of it.
    """

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0
        self._asked = float("-inf")
        self._apart = 0.0

    async def after(self, seconds: float) -> str:
        """The time in so many seconds, as servers read it. Raises `ApiError`."""
        now = self._loop.time()
        if now - self._asked > TRUSTED_FOR or abs(time() - now - self._apart) > JUMP:
            told = await self._link.ask(f"STREAM.INFO.{self._stream}")
            self._asked = self._loop.time()
            self._apart = time() - self._asked
            self._ahead = read_time(told["ts"]) - (now + self._asked) / 2
        due = EPOCH + timedelta(seconds=self._loop.time() + self._ahead + seconds)
        return due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(text: str) -> float:
    """A server's time, like `2026-01-31T12:00:00.123456789Z`, in unix seconds."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
