"""The pulls of one topic: receivers send them to the topic's consumer and wait for the messages.

A pull cannot be withdrawn. If its receiver is gone (cancelled, for example), the next receiver of the topic reuses it.
A message that arrives without a receiver goes to another receiver within a moment, or back to the server.
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final

from brrr_core.backend import Delivery
from brrr_nats.client.connection import Connection
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.queue.leases import StallDetector, parse_delivery
from brrr_nats.queue.pulls import Pull

__all__ = ["TopicPulls"]

BUFFER_SECONDS: Final = 0.25
"""Seconds that a message without a receiver is kept for the next receiver in this process."""

MAX_IDLE_SUBSCRIPTIONS: Final = 64
"""Most unused subscriptions that are kept for a topic."""

MAX_PULL_BYTES: Final = 8 * 1024 * 1024
"""Most bytes that one pull brings; more than any message has. A server drops clients that fall behind."""


class TopicPulls:
    """The pulls of one topic, with their subscriptions.

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
        self._subject = subject
        self._lease = lease
        self._stall_detector = stall_detector
        self._release_unseen = release_unseen
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._idle_subscriptions: list[int] = []
        self._pulls: dict[Pull, tuple[Connection, int]] = {}
        self._waiting: dict[Pull, None] = {}
        self._abandoned: dict[Pull, None] = {}
        self._buffer: list[Delivery] = []
        self._flush_timer: TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether no pull is running and no message is buffered."""
        return not (self._pulls or self._waiting or self._buffer)

    def take_buffered(self, limit: int) -> list[Delivery]:
        """Return buffered messages."""
        taken, self._buffer = self._buffer[:limit], self._buffer[limit:]
        if not self._buffer:
            self._flush_buffer()
        return taken

    def request(self, connection: Connection, limit: int, until: float) -> Pull:
        """Request messages that come until `until`: reuse an abandoned pull, or send a new one."""
        now = self._loop.time()
        for each in [each for each in self._abandoned if each.times_out_at < now]:
            del self._abandoned[each]
            each.time_out()
        pull = next((each for each in self._abandoned if each.reusable and each.limit <= limit), None)
        if pull is None:
            pull = Pull(self, limit, until)
            expires = max(1, int((until - now) * 1e9))
            body = b'{"batch":%d,"max_bytes":%d,"no_wait":true,"expires":%d}' % (limit, MAX_PULL_BYTES, expires)
            self._send(connection, pull, body)
        self._attach(pull)
        return pull

    def request_now(self, connection: Connection, limit: int) -> Pull:
        """Request only messages that are ready, however long the server takes to reply."""
        pull = Pull(self, limit, self._loop.time(), no_wait=True)
        self._send(connection, pull, b'{"batch":%d,"max_bytes":%d,"no_wait":true}' % (limit, MAX_PULL_BYTES))
        self._attach(pull)
        return pull

    async def wait(self, pull: Pull, until: float) -> list[Delivery]:
        """Wait for the messages of a pull. If the receiver is cancelled, its messages go to others.

        Args:
            pull: The result of `request` or `request_now`.
            until: The end of waiting, by the loop's clock, for a pull that expires later.
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

    def pull_ended(self, pull: Pull) -> None:
        """Handle the end of a pull: keep its subscription for the next one."""
        if pull not in self._pulls:
            return
        connection, subscription = self._pulls.pop(pull)
        self._abandoned.pop(pull, None)
        self._stall_detector.stop()
        if pull.late or connection is not self._connection or len(self._idle_subscriptions) >= MAX_IDLE_SUBSCRIPTIONS:
            connection.close_subscription(subscription)
        else:
            self._idle_subscriptions.append(subscription)

    def close(self, error: Exception) -> None:
        """End all waits with an error. Release buffered and later messages."""
        self._closed = True
        self._flush_buffer()
        for pull in self._waiting:
            pull.failure = error
            pull.wake()

    def close_subscriptions(self) -> None:
        """Close the unused subscriptions: no one receives from the topic now."""
        subscriptions, self._idle_subscriptions = self._idle_subscriptions, []
        for subscription in subscriptions:
            if self._connection is not None:
                self._connection.close_subscription(subscription)

    def _take_subscription(self, connection: Connection) -> int:
        if connection is not self._connection:
            self._connection, self._idle_subscriptions = connection, []
        return self._idle_subscriptions.pop() if self._idle_subscriptions else connection.open_subscription()

    def _send(self, connection: Connection, pull: Pull, body: bytes) -> None:
        subscription = self._take_subscription(connection)
        connection.pull(subscription, pull, Request(self._subject, body))
        self._pulls[pull] = (connection, subscription)
        self._stall_detector.start()

    def _attach(self, pull: Pull) -> None:
        pull.waiter = self._loop.create_future()
        self._abandoned.pop(pull, None)
        self._waiting[pull] = None

    def _detach(self, pull: Pull) -> list[Delivery]:
        """Return the messages of a pull that its receiver no longer waits for."""
        self._waiting.pop(pull, None)
        if not (pull.ended or pull.late):
            self._abandoned[pull] = None
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
