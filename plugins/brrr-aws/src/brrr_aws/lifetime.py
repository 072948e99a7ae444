"""The time for which a client is open: what waits within it ends with it.

aiohttp does not see to that. Of a connection that is closed after the head of an answer, it tells nobody who waits for
the body (aio-libs/aiohttp#5582): that one would wait for ever.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from brrr_aws.failures import closed
from brrr_core.backend import cancelled_from_outside
from brrr_core.errors import BackendClosedError

__all__ = ["Lifetime"]


class Lifetime:
    """From opening a client to closing it.

    A task of its own, the canary, only waits. If others cancel all tasks of the loop, the canary ends too, and ends the
    requests under way: aiohttp does not notice that the task that sends a request was cancelled before it began.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False
        self._canary: asyncio.Task[bool] | None = None

    @asynccontextmanager
    async def within(self) -> AsyncGenerator[None]:
        """What is awaited inside is ended when the client is closed.

        Raises:
            BackendClosedError: The client was closed meanwhile, or before; or its tasks were cancelled from outside.
        """
        if self._over:
            raise closed()
        if self._canary is None or self._canary.done() or self._canary.cancelling():
            self._start()
        scope, waiting = asyncio.timeout(None), self._waiting
        try:
            async with scope:
                waiting.add(scope)
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._why() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise cancelled_from_outside() from None  # aiohttp passes it on from a task that looked up an address
        finally:
            waiting.discard(scope)

    def end(self) -> None:
        """End all that waits. Each is told in the next turn of the loop."""
        self._over = True
        _end(self._waiting)
        if self._canary is not None:
            self._canary.cancel()

    def _why(self) -> BackendClosedError:
        return closed() if self._over else cancelled_from_outside()

    def _start(self) -> None:
        """Start a canary for what begins from now on. What an earlier one watches over ends with that one."""
        waiting = self._waiting = set()
        self._canary = asyncio.create_task(asyncio.Event().wait(), name="brrr notices cancellations from outside")
        self._canary.add_done_callback(lambda _: _end(waiting))


def _end(waiting: set[asyncio.Timeout]) -> None:
    for scope in waiting:
        scope.reschedule(0)
    waiting.clear()
