"""Pauses between the attempts of one operation: random (full jitter), and limited in total time."""

import asyncio
from random import SystemRandom
from typing import Final

from brrr_aws.client_scope import ClientScope

__all__ = ["Backoff"]

FIRST_PAUSE_LIMIT: Final = 0.05
"""Longest first pause, in seconds. The limit doubles with each attempt; the pause is a random part of it."""

PAUSE_LIMIT: Final = 5.0
"""Longest pause, in seconds."""

RANDOM: Final = SystemRandom()


class Backoff:
    """Pause between the attempts of one operation.

    Args:
        within: Seconds after which no attempt follows, counted from the first failure or from the last progress.
        scope: The client's scope. Its end ends a pause.
    """

    def __init__(self, within: float, scope: ClientScope) -> None:
        self._within = within
        self._scope = scope
        self._attempts = 0
        self._deadline: float | None = None

    def progressed(self) -> None:
        """Note that a part of the operation succeeded: the time and the pauses start anew."""
        self._attempts, self._deadline = 0, None

    async def pause(self) -> bool:
        """Pause, and return whether there is time for another attempt.

        Raises:
            BackendClosedError: The client was closed.
        """
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._within
        left = self._deadline - now
        if left <= 0:
            return False
        seconds = RANDOM.uniform(0, min(PAUSE_LIMIT, FIRST_PAUSE_LIMIT * 2 ** min(self._attempts, 20)))
        self._attempts += 1
        async with self._scope.enter():
            await asyncio.sleep(min(seconds, left))
        return True
