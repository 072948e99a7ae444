"""Waiting between attempts: full jitter, bounded in time."""

import asyncio
from random import SystemRandom
from typing import Final

from brrr_aws.lifetime import Lifetime

__all__ = ["Backoff"]

FIRST: Final = 0.05
"""Seconds that the first wait takes at most. Each further one may take twice as long, a random part of it."""

LONGEST: Final = 5.0
"""Seconds that any wait takes at most."""

RANDOM: Final = SystemRandom()


class Backoff:
    """Waits between the attempts of one operation.

    Args:
        within: Seconds after which no more attempt is made: from the first failure, or from the last progress.
        lifetime: The client's, whose end ends a wait.
    """

    def __init__(self, within: float, lifetime: Lifetime) -> None:
        self._within = within
        self._lifetime = lifetime
        self._attempts = 0
        self._deadline: float | None = None

    def progressed(self) -> None:
        """Part of the operation was done: time and waits count anew."""
        self._attempts, self._deadline = 0, None

    async def pause(self) -> bool:
        """Wait, and say whether there is time for another attempt.

        Raises:
            BackendClosedError: The client was closed.
        """
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._within
        left = self._deadline - now
        if left <= 0:
            return False
        wait = RANDOM.uniform(0, min(LONGEST, FIRST * 2 ** min(self._attempts, 20)))
        self._attempts += 1
        async with self._lifetime.within():
            await asyncio.sleep(min(wait, left))
        return True
