"""The queue role: a work-queue stream with leases, delays and dead letters.

`layout` describes the subjects. The topic's one consumer leases messages. A delivery is settled by the subject that it
came with, and the server confirms it.
"""

from collections.abc import Sequence
from time import time
from typing import Final

from nats.nuid import NUID

from brrr_core.backend import (
    LONGEST_DURATION,
    DeadLetter,
    Delivery,
    Queue,
    QueueStats,
    check_bodies,
    check_delay,
    check_limit,
    check_wait,
)
from brrr_nats.client.errors import CONSUMER_NOT_FOUND, ApiError
from brrr_nats.client.messages import Reply, Request
from brrr_nats.client.requests import RequestClient
from brrr_nats.client.streams import ensure_stream, find_stream
from brrr_nats.options import MAX_BODY, NatsOptions
from brrr_nats.queue.clocks import ServerClock
from brrr_nats.queue.dead_letters import DeadLetters, NatsLetters, dead_letter_request
from brrr_nats.queue.inspection import NatsInspector
from brrr_nats.queue.layout import Layout
from brrr_nats.queue.receiving import MessageReceiver
from brrr_nats.queue.settling import ACK, EXTEND, RELEASE, Settler

__all__ = ["NatsQueue"]

DEAD_LETTER_RESERVE_BYTES: Final = 60 * 1024
"""Bytes of a message that are reserved for the headers of a dead letter; at most a quarter of `max_payload`."""

HEADER_NAMES_BYTES: Final = 2048
"""Bytes for the names in a message's headers."""

MAX_LISTED: Final = 2**31
NOT_FOUND_STATUS: Final = 404


class NatsQueue(Queue):
    """The queue. Each operation sends its messages in batches of requests."""

    def __init__(self, client: RequestClient, options: NatsOptions) -> None:
        self.lease: float = options.lease
        self._client = client
        self._layout = Layout(options)
        self._settler = Settler(client, options)
        self._receiver = MessageReceiver(client, options, self._layout, self._settler.release_unseen)
        self._dead_letters = DeadLetters(client, self._layout)
        self.letters = NatsLetters(client, self._layout, self._dead_letters)
        self.inspector = NatsInspector(client, self._layout)
        self._clock = ServerClock(client, self._layout.stream)
        self._ids = NUID()

    async def prepare(self, *, change: bool = False) -> list[str]:
        """Check the streams; create missing ones. Return the changes, one line each.

        Raises:
            BackendError: A stream has another purpose, or cannot be created.
            BackendUnavailableError: JetStream does not reply.
        """
        report: list[str] = []
        for wanted in self._layout.streams():
            found = await find_stream(self._client, wanted.name)
            report += await ensure_stream(self._client, wanted, found, change=change)
        return report

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages. If the reply for a message is lost, it is put again: a duplicate message is harmless."""
        names = self._layout.topic(topic)
        check_delay(delay)
        await self._client.wait_connected()  # its `max_payload` counts
        check_bodies(topic, bodies, min(MAX_BODY, self._client.max_payload - self._dead_letter_reserve))
        if not delay:
            await self._client.publish([Request(names.ready, body) for body in bodies])
        elif bodies:
            with self._client.translating():
                due = await self._clock.after(min(delay, LONGEST_DURATION))
            headers = {"Nats-Schedule": f"@at {due}", "Nats-Schedule-Target": names.ready}
            # Each subject holds one delayed message, so a repeated put replaces the message.
            await self._client.publish(
                [Request(f"{names.delayed}.{self._ids.next().decode()}", body, headers) for body in bodies]
            )

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Receive messages, the oldest first. If a receive is cancelled, its messages go to others immediately."""
        names = self._layout.topic(topic)
        check_limit(limit)
        check_wait(wait)
        return await self._receiver.receive(names, limit, wait)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        await self._settler.settle(deliveries, ACK)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Make messages ready again."""
        check_delay(delay)
        rest = b' {"delay":%d}' % int(min(delay, LONGEST_DURATION) * 1e9) if delay else b""
        await self._settler.settle(deliveries, RELEASE + rest)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart leases."""
        await self._settler.settle(deliveries, EXTEND)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Store the message as a dead letter, then remove it from its topic."""
        names = self._layout.topic(delivery.topic)
        self._client.gate.check()
        receipt = await self._settler.valid_receipt(delivery)
        if receipt is not None:
            room = min(DEAD_LETTER_RESERVE_BYTES, self._client.max_payload - len(delivery.body)) - HEADER_NAMES_BYTES
            letter = dead_letter_request(names, delivery, receipt, time(), reason=reason, max_reason_bytes=max(0, room))
            await self._client.publish([letter])
            await self._settler.settle([delivery], ACK)

    async def stats(self, topic: str) -> QueueStats:
        """Count messages at about one moment. A released message counts as leased until it is delivered again.

        The counts are read in the order in which messages move: a moving message is counted twice rather than missed.
        """
        names, client, stream = self._layout.topic(topic), self._client, self._layout.stream
        client.gate.check()
        first = b'{"batch":1,"seq":1,"next_by_subj":"%b.*"}' % names.delayed.encode()
        with client.translating():
            request = Request(client.api_subject(f"DIRECT.GET.{stream}"), first)
            (first_delayed,) = await client.request_many([request], idempotent=True)
            delayed = _count_from(first_delayed)
            try:
                leased = (await client.call_api(f"CONSUMER.INFO.{stream}.{names.consumer}"))["num_ack_pending"]
            except ApiError as error:
                if error.code != CONSUMER_NOT_FOUND:
                    raise
                leased = 0
            # The stream counts a stored message immediately, its consumer a little later.
            present = await self._count(stream, names.ready)
            dead = await self._count(self._layout.dead_stream, names.dead)
        leased = min(present, leased)
        return QueueStats(ready=present - leased, leased=leased, delayed=delayed, dead=dead)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        names = self._layout.topic(topic)
        check_limit(limit)
        self._client.gate.check()
        with self._client.translating():
            return await self._dead_letters.read(names, min(limit, MAX_LISTED))

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        return await self._remove_dead(topic, limit, put_back=True)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._remove_dead(topic, limit, put_back=False)

    async def close(self) -> None:
        """End all waits with `BackendClosedError`, and release messages that are on their way."""
        self._receiver.close()
        if self._receiver.expects_messages:
            await self._client.end_pulls()

    @property
    def _dead_letter_reserve(self) -> int:
        return min(DEAD_LETTER_RESERVE_BYTES, self._client.max_payload // 4)

    async def _remove_dead(self, topic: str, limit: int, *, put_back: bool) -> int:
        names = self._layout.topic(topic)
        check_limit(limit)
        self._client.gate.check()
        with self._client.translating():
            return await self._dead_letters.remove(names, limit, put_back=put_back)

    async def _count(self, stream: str, subject: str) -> int:
        info = await self._client.call_api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
        counts: dict[str, int] = info["state"].get("subjects") or {}
        return counts.get(subject, 0)


def _count_from(first: Reply) -> int:
    """Return the number of messages, from a reply with the first one."""
    if first.status and first.status != NOT_FOUND_STATUS:
        raise ApiError(0, first.status, first.description)
    return 0 if first.status else int(first.headers["Nats-Num-Pending"]) + 1
