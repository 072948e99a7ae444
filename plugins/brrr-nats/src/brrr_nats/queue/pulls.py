"""Pulls: the requests of a topic's receivers for messages, and their results.

The server answers a pull once: with the ready messages up to its limit, or with the first messages that come before it
expires. A pull with `no_wait` gets only the ready messages. With a replicated stream, the end of the answer may arrive
immediately, and the messages only when a majority knows of them. So the end says how many messages to expect, and later
messages still count.

A pull cannot be withdrawn. If its receiver is gone (cancelled, for example), the next receiver of the topic reuses it.
A message that arrives without a receiver goes to another receiver within a moment, or back to the server.
"""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connection import Connection
from brrr_nats.client.messages import Reply, Request
from brrr_nats.queue.clocks import StallDetector
from brrr_nats.queue.settling import parse_delivery

__all__ = ["Pull", "TopicPulls"]

HEARTBEAT_STATUS: Final = 100
NO_MORE_STATUS: Final = 404
"""End of an answer that was cut short. A pull that may wait and found no message expires instead."""

PENDING_HEADER: Final = "Nats-Pending-Messages"
"""Header of an end: how many of the requested messages were not sent."""

REMAINDER_SECONDS: Final = 0.1
"""Seconds that a receiver waits for the rest of an answer after its first messages."""

OVERDUE_SECONDS: Final = 2.0
"""Seconds after its expiry at which a pull times out: its leader may have died."""

BUFFER_SECONDS: Final = 0.25
"""Seconds that a message without a receiver is kept for the next receiver in this process."""

MAX_PULL_BYTES: Final = 8 * 1024 * 1024
"""Most bytes that one pull brings; more than any message has. A server drops clients that fall behind."""


class Pull:
    """One request for messages, and its result.

    Attributes:
        limit: The most messages that it brings.
        expires: The time when the server ends it, by the loop's clock. A pull with `no_wait` is ended immediately.
        received: Messages for its receiver, also those of other pulls.
        waiter: A future that wakes its receiver; None if no receiver waits.
        ended: Whether it is over. Messages may still come.
        status: The server's status at its end; 0 for a full answer. `description` is the text beside it.
        failure: The failure that ended it.
    """

    def __init__(self, topic: "TopicPulls", limit: int, expires: float, *, no_wait: bool = False) -> None:
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._missing = limit
        self._timer: TimerHandle | None = None
        self._no_wait = no_wait
        self.limit = limit
        self.expires = expires
        self.received: list[Delivery] = []
        self.waiter: Future[None] | None = None
        self.ended = False
        self.status = 0
        self.description = ""
        self.failure: Exception | None = None

    @property
    def reusable(self) -> bool:
        """Whether it has brought nothing yet and is still running."""
        return not self.ended and self._missing == self.limit and self._loop.time() < self.expires

    @property
    def times_out_at(self) -> float:
        """The time when it times out, by the loop's clock."""
        return self.expires + OVERDUE_SECONDS

    def take(self, index: int, reply: Reply) -> None:
        """Handle a message, or the end of the pull."""
        if reply.status:
            if reply.status != HEARTBEAT_STATUS and not self.ended:
                self._on_status(reply)
            return
        delivery, more = self._topic.delivery(reply)
        self._missing -= 1
        if not self._missing:
            self._end()
        if self.waiter is None or len(self.received) >= self.limit:
            self._topic.reassign(delivery)
            return
        self.received.append(delivery)
        if more and self._missing > 0:
            self._wake_in(REMAINDER_SECONDS)
        else:
            self.wake()

    def fail(self, index: int, error: Exception) -> None:
        """Handle the loss of the connection."""
        self.failure = error
        self._end()
        self.wake()

    def subject_of(self, index: int) -> str:
        """Return the subject of the request."""
        return self._topic.subject

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
        """End the pull with an error, and wake its receiver. Messages that it still brings go to other receivers."""
        self.fail(0, TimeoutError("the server did not end a request for messages"))

    def _on_status(self, reply: Reply) -> None:
        """Handle the server's end of the pull: its reason and, in most cases, how many messages were not sent."""
        missing = self._missing - int(reply.headers.get(PENDING_HEADER, self._missing))
        if missing > 0:  # they are on their way, and end the pull when they arrive, unless the leader dies
            self._missing = missing
            self.expires = self._loop.time()
            if self.waiter is not None and not self.received:
                self.stop_timer()
                self._timer = self._loop.call_later(OVERDUE_SECONDS, self.time_out)
            return
        self.status, self.description = reply.status, reply.description
        self._end()
        if self.status != NO_MORE_STATUS or self._no_wait:
            self.wake()
        elif not self.received and self.waiter is not None:
            self._wake_in(OVERDUE_SECONDS)  # messages will come

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._topic.on_end(self)

    def _wake_in(self, seconds: float) -> None:
        self.stop_timer()
        self._timer = self._loop.call_later(seconds, self.wake)


class TopicPulls:
    """The pulls of one topic.

    Args:
        topic: The topic.
        subject: The subject for requests to its consumer.
        lease: Seconds.
        stall_detector: Tells the earliest start of a lease.
        release_unseen: Releases a message that no receiver takes.
    """

    def __init__(
        self,
        topic: str,
        subject: str,
        lease: float,
        stall_detector: StallDetector,
        release_unseen: Callable[[Delivery], None],
    ) -> None:
        self._topic = topic
        self.subject = subject
        self._lease = lease
        self._stall_detector = stall_detector
        self._release_unseen = release_unseen
        self._loop = asyncio.get_running_loop()
        self._running: dict[Pull, Callable[[], None]] = {}
        self._waiting: dict[Pull, None] = {}
        self._abandoned: list[Pull] = []
        self._buffer: list[Delivery] = []
        self._flush_timer: TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether no pull is running and no message is buffered."""
        return not (self._running or self._waiting or self._buffer)

    def take_buffered(self, limit: int) -> list[Delivery]:
        """Return buffered messages."""
        taken, self._buffer = self._buffer[:limit], self._buffer[limit:]
        if not self._buffer:
            self._flush_buffer()
        return taken

    async def request(self, connection: Connection, limit: int, until: float) -> Pull:
        """Request messages that come until `until`: reuse an abandoned pull, or send a new one."""
        now = self._loop.time()
        for each in [each for each in self._abandoned if each.times_out_at < now]:
            each.time_out()
        pull = next((each for each in self._abandoned if each.reusable and each.limit <= limit), None)
        if pull is None:
            pull = Pull(self, limit, until)
            expires = b',"expires":%d' % max(1, int((until - now) * 1e9))
            await self._send(connection, pull, expires)
        self._attach(pull)
        return pull

    async def request_now(self, connection: Connection, limit: int) -> Pull:
        """Request only messages that are ready, no matter how long the server takes to reply."""
        pull = Pull(self, limit, self._loop.time(), no_wait=True)
        await self._send(connection, pull)
        self._attach(pull)
        return pull

    async def wait(self, pull: Pull, until: float) -> list[Delivery]:
        """Wait for the messages of a pull, until `until` by the loop's clock if the pull expires later.

        If the receiver is cancelled, its messages go to others.
        """
        waiter = pull.waiter
        assert waiter is not None  # noqa: S101 - `request` has set it for this caller
        if pull.expires <= until:
            timer = self._loop.call_at(pull.times_out_at, pull.time_out)
        else:
            timer = self._loop.call_at(until, pull.wake)
        try:
            await waiter
        except BaseException:
            for delivery in self._detach(pull):
                self.reassign(delivery)
            raise
        finally:
            timer.cancel()
        return self._detach(pull)

    def delivery(self, reply: Reply) -> tuple[Delivery, bool]:
        """Return the delivery in a message, and whether more messages are ready."""
        return parse_delivery(self._topic, reply, self._stall_detector.not_before, self._lease)

    def reassign(self, delivery: Delivery) -> None:
        """Give a message to another waiting receiver, or buffer it for a moment."""
        if self._closed:
            self._release_unseen(delivery)
            return
        for pull in self._waiting:
            if pull.waiter is not None and not pull.waiter.done() and not pull.received:
                pull.received.append(delivery)
                pull.wake()
                return
        self._buffer.append(delivery)
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(BUFFER_SECONDS, self._flush_buffer)

    def on_end(self, pull: Pull) -> None:
        """Handle the end of a pull: the next pull may use its inbox."""
        self._running.pop(pull)()
        if pull in self._abandoned:
            self._abandoned.remove(pull)
        self._stall_detector.stop()

    def close(self, error: Exception) -> None:
        """End all waits with an error. Release buffered and later messages."""
        self._closed = True
        self._flush_buffer()
        for pull in self._waiting:
            pull.failure = error
            pull.wake()

    async def _send(self, connection: Connection, pull: Pull, expires: bytes = b"") -> None:
        body = b'{"batch":%d,"max_bytes":%d,"no_wait":true%b}' % (pull.limit, MAX_PULL_BYTES, expires)
        self._running[pull] = await connection.pull(pull, Request(self.subject, body))
        self._stall_detector.start()

    def _attach(self, pull: Pull) -> None:
        pull.waiter = self._loop.create_future()
        if pull in self._abandoned:
            self._abandoned.remove(pull)
        self._waiting[pull] = None

    def _detach(self, pull: Pull) -> list[Delivery]:
        """Return the messages of a pull that its receiver no longer waits for."""
        self._waiting.pop(pull, None)
        if not pull.ended:
            self._abandoned.append(pull)
        pull.waiter = None
        pull.stop_timer()
        received, pull.received = pull.received, []
        return received

    def _flush_buffer(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        buffered, self._buffer = self._buffer, []
        for delivery in buffered:
            self._release_unseen(delivery)
