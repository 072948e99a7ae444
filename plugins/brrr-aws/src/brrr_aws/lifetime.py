"""The time for which a client is open: what waits within it ends with it.

aiohttp does not see to that. Of a connection that is closed after the head of an answer, it tells nobody who waits for
the body (aio-libs/aiohttp#5582): that one would wait for ever.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from brrr_aws.failures import closed

__all__ = ["Lifetime"]


class Lifetime:
    """From opening a client to closing it."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    @asynccontextmanager
    async def within(self) -> AsyncGenerator[None]:
        """What is awaited inside is ended when the client is closed.

        Raises:
            BackendClosedError: The client was closed meanwhile, or before.
        """
        if self._over:
            raise closed()
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._waiting.add(scope)
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise closed() from None
        finally:
            self._waiting.discard(scope)

    def end(self) -> None:
        """End all that waits. Each is told in the next turn of the loop."""
        self._over = True
        for scope in self._waiting:
            scope.reschedule(0)
        self._waiting.clear()
