"""Requests that are under way together."""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Sequence
from math import inf
from typing import Final

from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import Lost, NoResponders
from brrr_nats.client.protocol import Reply, Request

__all__ = ["LARGE", "MOST_AT_ONCE", "Batch", "Copies", "largest_first", "portions"]

NO_RESPONDERS: Final = b"NATS/1.0 503"

FIRST_TRY: Final = 2.0
"""Seconds after which requests are sent again that may be done twice; each next try waits for twice as long. Servers
drop requests without a word while leaders change."""

MOST_AT_ONCE: Final = 500
"""Requests that are under way at a time: servers refuse, or drop, beyond thousands."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of them."""

LARGE: Final = 64 * 1024
"""Bytes of a payload that is large. No message has as many of headers, and no server takes as little."""

LAST_LOOK: Final = 0.05
"""Seconds in which what has come is read, before a batch is said to be late: this process may have stood still."""


class Batch:
    """Requests that are under way together.

    `done` is done when each has a reply or a failure, which is after `timeout` seconds at the latest. Nobody has to
    wait for it.

    Args:
        connection: Carries them.
        requests: What is asked.
        timeout: Seconds.
        again: Whether they may be done twice, and are sent again where no answer comes.
        until: When not to send them again any more, by the loop's clock.

    Attributes:
        repeated: Which were sent again.
    """

    __slots__ = (
        *("_connection", "_due", "_left", "_left_before", "_requests", "_timer", "_tokens", "_try", "_until"),
        *("done", "failures", "repeated", "replies", "timeout"),
    )

    def __init__(
        self,
        connection: Connection,
        requests: Sequence[Request],
        timeout: float,
        *,
        again: bool = False,
        until: float = inf,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.replies: list[Reply | None] = [None] * len(requests)
        self.failures: dict[int, Exception] = {}
        self.done: Future[None] = loop.create_future()
        self.timeout = timeout
        self.repeated: set[int] = set()
        self._connection = connection
        self._requests = requests
        self._left = len(requests)
        self._tokens = connection.send(self, requests)
        self._left_before = self._left
        self._due = loop.time() + timeout
        self._until = until
        self._try = FIRST_TRY if again else timeout
        self._timer: TimerHandle = loop.call_later(min(self._try, timeout), self._look)

    async def wait(self) -> None:
        """Wait until it is done. Whoever is cancelled meanwhile leaves it as it is."""
        if not self.done.done():
            await self._connection.drain_writes()
            await asyncio.shield(self.done)

    def take(self, index: int, reply: Reply) -> None:
        """A reply came."""
        if self.replies[index] is None and index not in self.failures:
            if reply.lines.startswith(NO_RESPONDERS) and not reply.payload:
                self.failures[index] = NoResponders(self._requests[index].subject)
            else:
                self.replies[index] = reply
            self._count(index)

    def fail(self, index: int, error: Exception) -> None:
        """There will be no reply."""
        if self.replies[index] is None and index not in self.failures:
            self.failures[index] = error
            self._count(index)

    def forget(self) -> None:
        """Nobody is interested any more."""
        self._timer.cancel()
        for token in self._tokens:
            self._connection.forget(token)
        if not self.done.done():
            self.done.set_result(None)

    def _count(self, index: int) -> None:
        self._connection.forget(self._tokens[index])
        self._left -= 1
        if not self._left:
            self._timer.cancel()
            if not self.done.done():
                self.done.set_result(None)

    def _look(self) -> None:
        """See what has not come."""
        loop = asyncio.get_running_loop()
        left = self._due - loop.time()
        if left <= 0:
            self._timer = loop.call_later(LAST_LOOK, self._expire)
            return
        if self._left == self._left_before and loop.time() < self._until:  # or they come, slowly
            missing = [
                index for index, reply in enumerate(self.replies) if reply is None and index not in self.failures
            ]
            self.repeated.update(missing)
            self._connection.send_again([(self._tokens[index], self._requests[index]) for index in missing])
        self._left_before = self._left
        self._try *= 2
        self._timer = loop.call_later(min(self._try, left), self._look)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        late = TimeoutError(f"no answer within {self.timeout:g} s")
        if loop.time() - self._connection.last_read >= self._connection.patience:
            self._connection.end(late)  # it is silent altogether: another server may be there
        for index, reply in enumerate(self.replies):
            if reply is None:
                self.fail(index, Lost(late, sent=True))


def portions(messages: Sequence[Request], indices: Sequence[int]) -> list[list[int]]:
    """Cut a batch, so that a bounded part of it is under way at a time."""
    parts: list[list[int]] = []
    size = 0
    for index in indices:
        length = len(messages[index].payload)
        if not parts or size + length > MOST_BYTES or len(parts[-1]) >= MOST_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(index)
        size += length
    return parts


def largest_first(messages: Sequence[Request]) -> Sequence[Request]:
    """Put the largest message before the others, where it is large at all.

    A server does not tell clients that are connected of a smaller `max_payload`: it refuses what is larger, and closes
    the connection. Of a batch that has such a message nothing is stored then.
    """
    if len(messages) < 2:
        return messages
    largest = max(range(len(messages)), key=lambda index: len(messages[index].payload))
    if len(messages[largest].payload) <= LARGE:
        return messages
    return [messages[largest], *messages[:largest], *messages[largest + 1 :]]


class Copies:
    """What became of guarded requests that were sent together.

    Args:
        patience: Seconds after the first of a request in which copies of it are sent.
        limit: When to send no more of them, by the loop's clock; given where some are copies themselves.

    Attributes:
        since: When the first one of a request was sent, by the loop's clock, for each that may have been done by a
            copy that is not the one that was answered.
    """

    __slots__ = ("_limit", "patience", "since")

    def __init__(self, patience: float, limit: float = inf) -> None:
        self.patience = patience
        self._limit = limit
        self.since: dict[int, float] = {}

    @property
    def until(self) -> float:
        """When to send no more copies."""
        return min(self._limit, min(self.since.values(), default=inf) + self.patience)

    @property
    def doubtful(self) -> bool:
        """Whether some may have been done by a copy that was not answered."""
        return self.until < inf
