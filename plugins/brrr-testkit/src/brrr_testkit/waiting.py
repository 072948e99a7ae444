"""Waiting for a condition that no event signals: `until` in a coroutine, `wait_until` in blocking code."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["BOUND", "until", "wait_until"]

T = TypeVar("T")

BOUND: Final = 60.0
"""Seconds that a test waits for a condition before it fails."""


async def until(condition: Callable[[], object], what: str = "", *, bound: float = BOUND) -> None:
    """Poll until the condition, a function or a coroutine function, returns a true value.

    The pauses grow from 2 ms to 50 ms, so that workers on the same loop get most of the time.

    Args:
        condition: Called without arguments.
        what: Text for the error, such as "the replica follows".
        bound: Seconds after which the test fails.

    Raises:
        AssertionError: The condition did not hold in time.
    """
    pause = 0.002
    limit = asyncio.timeout(bound)
    try:
        async with limit:
            while not await _value(condition()):
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, 0.05)
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {bound:g} s: {what or 'the condition of the test'}") from None


async def _value(found: object) -> object:
    return await found if inspect.iscoroutine(found) else found  # a future counts as a value


def wait_until(
    condition: Callable[[], T | None],
    what: str = "",
    *,
    bound: float = BOUND,
    failures: tuple[type[Exception], ...] = (OSError,),
) -> T:
    """Poll until the condition returns a true value, and return it. This blocks the thread.

    Args:
        condition: Called without arguments.
        what: Text for the error.
        bound: Seconds after which the test fails.
        failures: Errors of the condition that count as false.

    Raises:
        AssertionError: The condition did not hold in time.
    """
    deadline = time.monotonic() + bound
    while True:
        try:
            found = condition()
        except failures:
            pass
        else:
            if found:
                return found
        assert time.monotonic() < deadline, f"not within {bound:g} s: {what or 'the condition of the test'}"
        time.sleep(0.02)
