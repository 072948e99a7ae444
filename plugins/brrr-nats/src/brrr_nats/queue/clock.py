"""The servers' clock, which delays are counted by, as the local clock may be wrong."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final

from brrr_nats.client.requests import RequestClient

__all__ = ["ServerClock", "read_time"]

MAX_AGE_SECONDS: Final = 300.0
"""Seconds after which the servers are asked again."""

MAX_DRIFT_SECONDS: Final = 0.1
"""Seconds of change between the two local clocks after which the servers are asked again: someone set the clock, or the
machine slept."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServerClock:
    """The offset of the servers' clock from the loop's clock, which cannot be set.

    Args:
        client: The client.
        stream: Any stream; the reply with its information includes the server's time.
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
