"""Scope of an open client: closing the client ends every operation that waits inside it.

aiohttp does not do that itself. If a connection closes after the head of a response, the task that reads the body is
not notified (aio-libs/aiohttp#5582) and would wait forever.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from brrr_core.backend import cancelled_from_outside, closed_error
from brrr_core.errors import BackendClosedError

__all__ = ["ClientScope"]


class ClientScope:
    """Time from opening a client to closing it.

    A task of its own, the canary, only waits. If other code cancels all tasks of the loop, the canary ends too, and
    ends the running requests: aiohttp does not notice if its sending task is cancelled before it begins.
    """

    def __init__(self) -> None:
        self._timeouts: set[asyncio.Timeout] = set()
        self._ended = False
        self._canary: asyncio.Task[bool] | None = None

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[None]:
        """End what is awaited inside the block when the scope ends.

        Raises:
            BackendClosedError: The client is closed, or its tasks were cancelled from outside.
        """
        if self._ended:
            raise closed_error()
        if self._canary is None or self._canary.done() or self._canary.cancelling():
            self._start_canary()
        timeout, timeouts = asyncio.timeout(None), self._timeouts
        try:
            async with timeout:
                timeouts.add(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise self._reason() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # aiohttp passes on the cancellation of its task that looks up an address.
            raise cancelled_from_outside() from None
        finally:
            timeouts.discard(timeout)

    def end(self) -> None:
        """End everything that waits in the scope, in the next turn of the loop."""
        self._ended = True
        _expire(self._timeouts)
        if self._canary is not None:
            self._canary.cancel()

    def _reason(self) -> BackendClosedError:
        return closed_error() if self._ended else cancelled_from_outside()

    def _start_canary(self) -> None:
        """Start a canary for requests that begin from now on. Earlier requests end with their own canary."""
        timeouts = self._timeouts = set()
        self._canary = asyncio.create_task(asyncio.Event().wait(), name="brrr notices cancellations from outside")
        self._canary.add_done_callback(lambda _: _expire(timeouts))


def _expire(timeouts: set[asyncio.Timeout]) -> None:
    for timeout in timeouts:
        timeout.reschedule(0)
    timeouts.clear()
