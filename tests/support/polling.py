"""Polling in a coroutine, for conditions without an event."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], *, bound: float = 10.0) -> None:
    """Poll until a condition holds, for `bound` seconds at most."""
    async with asyncio.timeout(bound):
        while not condition():  # noqa: ASYNC110 - no event signals this
            await asyncio.sleep(0.002)
