"""A batch of requests on one connection, and the rules for sending some of them again."""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Sequence
from math import inf
from typing import Final

from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import NoReplyError, NoRespondersError
from brrr_nats.client.protocol import Reply, Request

__all__ = [
    "LARGE_PAYLOAD_BYTES",
    "MAX_REQUESTS_IN_FLIGHT",
    "GuardedResends",
    "RequestBatch",
    "largest_first",
    "split_batch",
]

NO_RESPONDERS: Final = b"NATS/1.0 503"

FIRST_RESEND_SECONDS: Final = 2.0
"""Seconds without a reply after which idempotent requests are sent again; doubled each time. Servers silently drop
requests while leaders change."""

MAX_REQUESTS_IN_FLIGHT: Final = 500
"""Most requests in flight at a time. Servers refuse or drop requests beyond thousands."""

MAX_BYTES_IN_FLIGHT: Final = 4 * 1024 * 1024
"""Most bytes of payload in flight at a time."""

LARGE_PAYLOAD_BYTES: Final = 64 * 1024
"""Size from which a payload counts as large. Headers are smaller, and every server accepts more."""

LATE_REPLY_GRACE_SECONDS: Final = 0.05
"""Seconds in which replies are still read before a batch times out, as this process may have been stalled."""


class RequestBatch:
    """Requests that are in flight together.

    The future `done` completes when each request has a reply or a failure, at the latest after `timeout` seconds.
    Waiting for it is optional.

    Args:
        connection: The connection.
        requests: The requests.
        timeout: Seconds.
        resend: Whether requests without a reply are sent again.
        until: The time after which nothing is sent again, by the loop's clock.

    Attributes:
        resent: The indices that were sent again.
    """

    __slots__ = (
        *(
            "_connection",
            "_due",
            "_missing",
            "_missing_before",
            "_requests",
            "_timer",
            "_tokens",
            "_resend_after",
            "_until",
        ),
        *("done", "failures", "resent", "replies", "timeout"),
    )

    def __init__(
        self,
        connection: Connection,
        requests: Sequence[Request],
        timeout: float,
        *,
        resend: bool = False,
        until: float = inf,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.replies: list[Reply | None] = [None] * len(requests)
        self.failures: dict[int, Exception] = {}
        self.done: Future[None] = loop.create_future()
        self.timeout = timeout
        self.resent: set[int] = set()
        self._connection = connection
        self._requests = requests
        self._missing = len(requests)
        self._tokens = connection.send(self, requests)
        self._missing_before = self._missing
        self._due = loop.time() + timeout
        self._until = until
        self._resend_after = FIRST_RESEND_SECONDS if resend else timeout
        self._timer: TimerHandle = loop.call_later(min(self._resend_after, timeout), self._check)

    async def wait(self) -> None:
        """Wait until the batch is done. Cancelling the caller does not cancel the batch."""
        if not self.done.done():
            await self._connection.drain_writes()
            await asyncio.shield(self.done)

    def take(self, index: int, reply: Reply) -> None:
        """Handle a reply."""
        if self.replies[index] is None and index not in self.failures:
            if reply.raw_headers.startswith(NO_RESPONDERS) and not reply.payload:
                self.failures[index] = NoRespondersError(self._requests[index].subject)
            else:
                self.replies[index] = reply
            self._count_down(index)

    def fail(self, index: int, error: Exception) -> None:
        """Handle a failure: no reply will come."""
        if self.replies[index] is None and index not in self.failures:
            self.failures[index] = error
            self._count_down(index)

    def forget(self) -> None:
        """Abandon the batch."""
        self._timer.cancel()
        for token in self._tokens:
            self._connection.forget(token)
        if not self.done.done():
            self.done.set_result(None)

    def _count_down(self, index: int) -> None:
        self._connection.forget(self._tokens[index])
        self._missing -= 1
        if not self._missing:
            self._timer.cancel()
            if not self.done.done():
                self.done.set_result(None)

    def _check(self) -> None:
        """Send requests again if no reply came since the last check."""
        loop = asyncio.get_running_loop()
        left = self._due - loop.time()
        if left <= 0:
            self._timer = loop.call_later(LATE_REPLY_GRACE_SECONDS, self._expire)
            return
        if self._missing == self._missing_before and loop.time() < self._until:  # otherwise replies are coming, slowly
            missing = [
                index for index, reply in enumerate(self.replies) if reply is None and index not in self.failures
            ]
            self.resent.update(missing)
            self._connection.resend([(self._tokens[index], self._requests[index]) for index in missing])
        self._missing_before = self._missing
        self._resend_after *= 2
        self._timer = loop.call_later(min(self._resend_after, left), self._check)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        late = TimeoutError(f"no reply within {self.timeout:g} s")
        if loop.time() - self._connection.last_read >= self._connection.silence_timeout:
            self._connection.end(late)  # the server is silent: another may be up
        for index, reply in enumerate(self.replies):
            if reply is None:
                self.fail(index, NoReplyError(late, sent=True))


def split_batch(messages: Sequence[Request], indices: Sequence[int]) -> list[list[int]]:
    """Split indices into parts that may be in flight together."""
    parts: list[list[int]] = []
    size = 0
    for index in indices:
        length = len(messages[index].payload)
        if not parts or size + length > MAX_BYTES_IN_FLIGHT or len(parts[-1]) >= MAX_REQUESTS_IN_FLIGHT:
            parts.append([])
            size = 0
        parts[-1].append(index)
        size += length
    return parts


def largest_first(messages: Sequence[Request]) -> Sequence[Request]:
    """Move the largest message to the front, if it is large.

    A server does not announce a smaller `max_payload` to connected clients: it refuses a larger message and closes the
    connection. If that message comes first, nothing of the batch is stored.
    """
    if len(messages) < 2:
        return messages
    largest = max(range(len(messages)), key=lambda index: len(messages[index].payload))
    if len(messages[largest].payload) <= LARGE_PAYLOAD_BYTES:
        return messages
    return [messages[largest], *messages[:largest], *messages[largest + 1 :]]


class GuardedResends:
    """State of guarded requests: a guard prevents a second execution, so they may be sent again.

    Args:
        window: Seconds after the first copy of a request in which further copies are sent.
        limit: The time after which no more copies are sent, by the loop's clock; given if some requests are copies
            themselves.

    Attributes:
        since: For each request that may have been done by an unanswered copy, the time of its first copy, by the loop's
            clock.
    """

    __slots__ = ("_limit", "since", "window")

    def __init__(self, window: float, limit: float = inf) -> None:
        self.window = window
        self._limit = limit
        self.since: dict[int, float] = {}

    @property
    def until(self) -> float:
        """The time after which no more copies are sent."""
        return min(self._limit, min(self.since.values(), default=inf) + self.window)

    @property
    def in_doubt(self) -> bool:
        """Whether a request may have been done by a copy that was not answered."""
        return self.until < inf
