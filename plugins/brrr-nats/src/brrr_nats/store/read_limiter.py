"""The read limiter bounds the bytes of replies in flight.

A server closes a connection that is 64 MiB behind, and with it every waiting request. So a read is sent only when there
is room for its replies. Their size is estimated from earlier replies.
"""

import asyncio
from asyncio import Future
from collections import deque
from typing import Final, NamedTuple

__all__ = ["MAX_REPLY_BYTES", "SAFE_REQUESTS", "ReadLimiter", "ReadPermit"]

MAX_REPLY_BYTES: Final = 1024 * 1024
"""Bytes of the largest possible reply; the estimate at the beginning."""

MAX_BYTES_IN_FLIGHT: Final = 24 * MAX_REPLY_BYTES
"""Bytes of replies in flight. Replies of a leader are a third longer, and other messages use the connection too."""

MAX_REQUESTS_IN_FLIGHT: Final = 512
"""Requests that are sent at a time. Servers refuse or drop requests beyond thousands."""

SAFE_REQUESTS: Final = MAX_BYTES_IN_FLIGHT // MAX_REPLY_BYTES
"""Requests whose replies fit, whatever their size."""

DECAY_DIVISOR: Final = 16
"""After smaller replies, the estimated size shrinks by this fraction."""


class ReadPermit(NamedTuple):
    """Permission to send requests.

    Attributes:
        requests: The number of requests.
        size: Expected bytes of their replies.
    """

    requests: int
    size: int


class ReadLimiter:
    """The reads in flight on one connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._free_bytes = MAX_BYTES_IN_FLIGHT
        self._largest = MAX_REPLY_BYTES
        self._waiting: deque[tuple[Future[ReadPermit], int, int, int]] = deque()

    async def acquire(self, wanted: int, *, minimum: int, reply_bytes: int) -> ReadPermit:
        """Wait in line for room. The caller releases the permit.

        Args:
            wanted: The number of requests.
            minimum: The number that must be sent together.
            reply_bytes: Expected bytes of a reply; 0 if unknown.
        """
        if not self._waiting:
            permit = self._try_acquire(wanted, minimum, reply_bytes)
            if permit is not None:
                return permit
        waiter: Future[ReadPermit] = self._loop.create_future()
        self._waiting.append((waiter, wanted, minimum, reply_bytes))
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result())
            raise

    def release(self, permit: ReadPermit) -> None:
        """Return a permit: its replies have come, or will not come."""
        self._free_bytes += permit.size
        while self._waiting:
            waiter, wanted, minimum, reply_bytes = self._waiting[0]
            if not waiter.done():
                next_permit = self._try_acquire(wanted, minimum, reply_bytes)
                if next_permit is None:
                    return
                waiter.set_result(next_permit)
            self._waiting.popleft()

    def note_largest(self, largest: int) -> None:
        """Note the size of the largest reply."""
        self._largest = max(1, largest, self._largest - self._largest // DECAY_DIVISOR)

    def reset(self) -> None:
        """Expect the largest replies again, after a connection was overloaded."""
        self._largest = MAX_REPLY_BYTES

    def _try_acquire(self, wanted: int, minimum: int, reply_bytes: int) -> ReadPermit | None:
        expected = reply_bytes or self._largest
        requests = min(wanted, MAX_REQUESTS_IN_FLIGHT, self._free_bytes // expected)
        if requests < minimum:
            if self._free_bytes < MAX_BYTES_IN_FLIGHT:
                return None
            requests = minimum  # there will never be more room
        self._free_bytes -= requests * expected
        return ReadPermit(requests, requests * expected)
