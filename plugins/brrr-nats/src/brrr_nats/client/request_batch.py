"""A batch of requests on one connection, and the rules for sending some of them again."""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Sequence
from typing import Final

from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import NoReplyError, NoRespondersError
from brrr_nats.client.messages import Reply, Request

__all__ = ["RequestBatch"]

FIRST_RESEND_SECONDS: Final = 2.0
"""Seconds without a reply after which requests are sent again; doubled each time. Servers silently drop requests while
leaders change."""

MAX_RESEND_SECONDS: Final = 10.0
"""Seconds after which nothing is sent again. The marker of a deleted record stays twice as long: until it expires, a
copy of a create is refused, as the record is known to have existed."""

LATE_REPLY_GRACE_SECONDS: Final = 0.05
"""Seconds in which replies are still read before a batch times out, as this process may have been stalled."""


class RequestBatch:
    """Requests that are in flight together.

    Args:
        requests: The requests.
        timeout: Seconds without any reply after which the requests that have none fail.
        resend: Whether requests without a reply are sent again.

    Attributes:
        done: Completes when each request has a reply or a failure. Waiting for it is optional.
        resent: The indices of the requests that were sent again.
    """

    def __init__(self, requests: Sequence[Request], timeout: float, *, resend: bool = False) -> None:
        self.replies: list[Reply | None] = [None] * len(requests)
        self.failures: dict[int, Exception] = {}
        self.resent: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self.done: Future[None] = self._loop.create_future()
        self._requests = requests
        self._timeout = timeout
        self._missing = self._missing_before = len(requests)
        self._resend_after = FIRST_RESEND_SECONDS if resend else timeout
        self._connection: Connection | None = None
        self._inboxes: list[str] = []
        self._begun = self._last_reply = self._loop.time()
        self._timer: TimerHandle | None = None

    async def send(self, connection: Connection) -> None:
        """Send the requests. Raises `NoReplyError` if the connection is lost, and nothing was sent."""
        self._connection = connection
        self._inboxes = await connection.send(self, self._requests)
        if not self.done.done():
            self._timer = self._loop.call_later(min(self._resend_after, self._timeout), self._check)

    async def wait(self) -> None:
        """Wait until the batch is done. Cancelling the caller does not cancel the batch."""
        await asyncio.shield(self.done)

    def take(self, index: int, reply: Reply) -> None:
        """Handle a reply."""
        self._last_reply = self._loop.time()
        if reply.headers and reply.status == 503 and not reply.payload:
            self.failures[index] = NoRespondersError(self._requests[index].subject)
        else:
            self.replies[index] = reply
        self._missing -= 1
        if not self._missing:
            self.end()

    def fail(self, index: int, error: Exception) -> None:
        """Handle a failure: no reply will come."""
        if index not in self.failures:
            self.failures[index] = error
            self._missing -= 1
            if not self._missing:
                self.end()

    def subject_of(self, index: int) -> str:
        """Return the subject of a request."""
        return self._requests[index].subject

    def end(self) -> None:
        """End the waiting. Later replies are dropped."""
        if self._connection is not None and self._missing + len(self.failures):
            self._connection.forget(self._inboxes)
        if self._timer is not None:
            self._timer.cancel()
        if not self.done.done():
            self.done.set_result(None)

    def _check(self) -> None:
        """Send requests again if no reply came since the last check."""
        now = self._loop.time()
        left = self._last_reply + self._timeout - now
        if left <= 0:
            self._timer = self._loop.call_later(LATE_REPLY_GRACE_SECONDS, self._expire)
            return
        if self._missing == self._missing_before and now < self._begun + MAX_RESEND_SECONDS and self._connection:
            missing = self._without_reply()
            self.resent.update(missing)
            self._connection.send_again([(self._inboxes[index], self._requests[index]) for index in missing])
        self._missing_before = self._missing  # if it fell, replies are coming, slowly
        self._resend_after *= 2
        self._timer = self._loop.call_later(min(self._resend_after, left), self._check)

    def _expire(self) -> None:
        late = TimeoutError(f"no reply within {self._timeout:g} s")
        for index in self._without_reply():
            self.fail(index, NoReplyError(late, sent=True))

    def _without_reply(self) -> list[int]:
        return [each for each, reply in enumerate(self.replies) if reply is None and each not in self.failures]
