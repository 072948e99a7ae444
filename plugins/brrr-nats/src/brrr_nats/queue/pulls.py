"""Pulls: the requests of a receiver for messages, and their results.

The server answers a pull once: with the ready messages up to its limit, or with the first messages that come before it
expires. A pull with `no_wait` gets only the ready messages. With a replicated stream, the end of the answer may arrive
at once, and the messages only when a majority knows of them. So the end says how many messages to expect, and later
messages still count.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, TimerHandle
from typing import Final, Protocol

from brrr_core.backend import Delivery
from brrr_nats.client.protocol import Reply

__all__ = ["Pull"]

STATUS_PREFIX: Final = b"NATS/1.0 "
HEARTBEAT_STATUS: Final = 100
NO_MORE_STATUS: Final = 404
"""End of an answer that was cut short. A pull that may wait and found no message expires instead."""

PENDING_HEADER: Final = "Nats-Pending-Messages"
"""Header of an end: how many of the requested messages were not sent."""

REMAINDER_SECONDS: Final = 0.1
"""Seconds that a receiver waits for the rest of an answer after its first messages."""

OVERDUE_SECONDS: Final = 2.0
"""Seconds after its expiry at which a pull is given up: its leader may have died."""

ABANDON_SECONDS: Final = 60.0
"""Seconds after which an overdue pull is expected to bring nothing more."""


class Sender(Protocol):
    """The owner of pulls."""

    def delivery(self, reply: Reply) -> tuple[Delivery, bool]:
        """Return the delivery in a message, and whether more messages are ready."""
        ...

    def reassign(self, delivery: Delivery) -> None:
        """Pass on a message that the pull's receiver does not take."""
        ...

    def pull_ended(self, pull: "Pull") -> None:
        """Handle the end of a pull."""
        ...


class Pull:
    """One request for messages, and its result.

    Attributes:
        limit: The most messages that it brings.
        expires: The time when the server ends it, by the loop's clock. A pull with `no_wait` is ended at once.
        received: Messages for its receiver, also those of other pulls.
        no_wait: Whether it gets only ready messages.
        waiter: A future that wakes its receiver; None if no receiver waits.
        ended: Whether the server has ended it. Messages may still come.
        late: Whether it is overdue.
        status: The server's status at its end; 0 for a full answer.
        description: The server's text with the status.
        failure: The failure that ended it.
    """

    __slots__ = (
        *("_sender", "_missing", "_loop", "_timer", "received", "description", "ended", "expires", "failure", "late"),
        *("limit", "no_wait", "status", "waiter"),
    )

    def __init__(self, sender: Sender, limit: int, expires: float, *, no_wait: bool = False) -> None:
        self._sender = sender
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._missing = limit
        self._timer: TimerHandle | None = None
        self.limit = limit
        self.expires = expires
        self.no_wait = no_wait
        self.received: list[Delivery] = []
        self.waiter: Future[None] | None = None
        self.ended = False
        self.late = False
        self.status = 0
        self.description = ""
        self.failure: Exception | None = None

    @property
    def reusable(self) -> bool:
        """Whether it has brought nothing yet and is still running."""
        return not self.ended and self._missing == self.limit and self._loop.time() < self.expires

    @property
    def times_out_at(self) -> float:
        """The time when it is given up, by the loop's clock."""
        return self.expires + OVERDUE_SECONDS

    def take(self, index: int, reply: Reply) -> None:
        """Handle a message, or the end of the pull."""
        if reply.raw_headers.startswith(STATUS_PREFIX):
            if reply.status != HEARTBEAT_STATUS and not self.ended:
                self._on_status(reply)
            return
        delivery, more = self._sender.delivery(reply)
        self._missing -= 1
        if not self._missing:
            self._end(wake=False)
        if self.waiter is None or len(self.received) >= self.limit:
            self._sender.reassign(delivery)
            return
        self.received.append(delivery)
        if more and self._missing > 0:
            self._wake_in(REMAINDER_SECONDS)
        else:
            self.wake()

    def fail(self, index: int, error: Exception) -> None:
        """Handle the loss of the connection."""
        self.failure = error
        self._end(wake=True)

    def wake(self) -> None:
        """Wake the receiver."""
        self.stop_timer()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def stop_timer(self) -> None:
        """Cancel the pending wake-up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def time_out(self) -> None:
        """Give the pull up, and wake its receiver. Messages that it still brings go to other receivers."""
        self.late = True
        self.failure = TimeoutError("the server did not end a request for messages")
        self.wake()
        if not self.ended:
            self._loop.call_later(ABANDON_SECONDS, self._end)

    def _on_status(self, reply: Reply) -> None:
        """Handle the server's end of the pull: its reason and, mostly, how many messages were sent."""
        missing = self._missing - int(reply.headers.get(PENDING_HEADER, self._missing))
        if missing <= 0:
            self.status, self.description = reply.status, reply.description
            self._end(wake=self.status != NO_MORE_STATUS or self.no_wait)
            return
        # The messages are on their way, and end the pull when they arrive, unless the leader dies.
        self._missing = missing
        self.expires = self._loop.time()
        if self.waiter is not None and not self.received:
            self.stop_timer()
            self._timer = self._loop.call_later(OVERDUE_SECONDS, self.time_out)

    def _end(self, *, wake: bool = False) -> None:
        if not self.ended:
            self.ended = True
            self._sender.pull_ended(self)
        if wake:
            self.wake()
        elif not self.received and self.waiter is not None:
            self._wake_in(OVERDUE_SECONDS)  # messages will come

    def _wake_in(self, seconds: float) -> None:
        self.stop_timer()
        self._timer = self._loop.call_later(seconds, self.wake)
