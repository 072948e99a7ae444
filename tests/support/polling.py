"""Waiting, in a coroutine, for what nobody tells of."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], *, bound: float = 10.0) -> None:
    """Look whether something is so, again and again, for `bound` seconds at most."""
    async with asyncio.timeout(bound):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.002)  # between looks
