"""The queue role: messages of topics in a work-queue stream, with leases, delays and dead letters.

`layout` says where they are. A message is leased by the topic's one consumer, and settled by the subject that it came
with; each settling is confirmed by the server.
"""

import json
from collections.abc import Sequence
from time import time
from typing import Any, Final

from nats.nuid import NUID

from brrr_core.backend import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.checks import LONGEST_DURATION, check_bodies, check_delay, check_limit, check_wait
from brrr_nats.client.errors import CONSUMER_NOT_FOUND, FAILURES, ApiError, api_error
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.requests import Link
from brrr_nats.client.streams import ensure_stream, find_stream
from brrr_nats.options import MAX_BODY, NatsOptions
from brrr_nats.queue.acks import ACK, EXTEND, RELEASE, Settler
from brrr_nats.queue.clock import ServerClock
from brrr_nats.queue.dead_letters import Graveyard, letter_request, shortened
from brrr_nats.queue.layout import Layout
from brrr_nats.queue.receiving import Receivers

__all__ = ["NatsQueue"]

ROOM: Final = 60 * 1024
"""Bytes of a message that are kept free for why it was buried; a quarter of it where messages must be small."""

NAMES: Final = 2048
"""Bytes for the names in a message's headers."""

MANY: Final = 2**31
NONE_THERE: Final = 404


class NatsQueue(Queue):
    """Every operation is a batch of requests, for as many messages as it is asked for.

    Args:
        link: Asks the servers.
        options: The streams' name and replicas, the lease, how long to try.
    """

    def __init__(self, link: Link, options: NatsOptions) -> None:
        self.lease: float = options.lease
        self._link = link
        self._layout = Layout(options)
        self._settler = Settler(link, options)
        self._receivers = Receivers(link, options, self._layout, self._settler.give_back)
        self._graveyard = Graveyard(link, self._layout)
        self._clock = ServerClock(link, self._layout.stream)
        self._ids = NUID()

    async def prepare(self, *, change: bool = False) -> list[str]:
        """See that the streams are there, and are as they have to be. What was done, a line each.

        Raises:
            BackendError: One is made for something else, or cannot be made.
            BackendUnavailableError: JetStream does not answer.
        """
        said: list[str] = []
        for wanted in self._layout.streams():
            found = await find_stream(self._link, wanted.name)
            said += await ensure_stream(self._link, wanted, found, change=change)
        return said

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages. One whose answer was lost is put again: a message more is harmless."""
        names = self._layout.topic(topic)
        check_delay(delay)
        await self._link.ready()  # another server may take less
        check_bodies(topic, bodies, min(MAX_BODY, self._link.max_payload - self._room))
        if not delay:
            await self._link.store([Request(names.ready, body) for body in bodies])
        elif bodies:
            try:
                due = await self._clock.after(min(delay, LONGEST_DURATION))
            except FAILURES as error:
                raise self._link.translated(error) from error
            headers = {"Nats-Schedule": f"@at {due}", "Nats-Schedule-Target": names.ready}
            # A subject holds one message that is to be moved later: one that is put again takes its own place.
            await self._link.store(
                [Request(f"{names.delayed}.{self._ids.next().decode()}", body, headers) for body in bodies]
            )

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take messages, the oldest first. What a cancelled one was given goes to others at once."""
        names = self._layout.topic(topic)
        check_limit(limit)
        check_wait(wait)
        return await self._receivers.receive(names, limit, wait)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        await self._settler.settle(deliveries, ACK)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Give messages back."""
        check_delay(delay)
        rest = b' {"delay":%d}' % int(min(delay, LONGEST_DURATION) * 1e9) if delay else b""
        await self._settler.settle(deliveries, RELEASE + rest)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start leases anew."""
        await self._settler.settle(deliveries, EXTEND)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Keep a message as a dead letter, and then remove it from its topic."""
        names = self._layout.topic(delivery.topic)
        self._link.check_open()
        receipt = await self._settler.holds(delivery)
        if receipt is not None:
            free = max(0, min(ROOM, self._link.max_payload - len(delivery.body)) - NAMES)
            await self._link.store([letter_request(names, delivery, receipt, time(), reason=shortened(reason, free))])
            await self._settler.settle([delivery], ACK)

    async def stats(self, topic: str) -> QueueStats:
        """Counts of about one moment. What was released and not received since counts as leased.

        They are asked for in the order in which messages move, so that one that moves is counted twice, and not missed.
        """
        names, link, layout = self._layout.topic(topic), self._link, self._layout
        link.check_open()
        delayed = Request(
            link.api(f"DIRECT.GET.{layout.stream}"),
            b'{"batch":1,"seq":1,"next_by_subj":"%b.*"}' % names.delayed.encode(),
        )
        consumer = Request(link.api(f"CONSUMER.INFO.{layout.stream}.{names.consumer}"))
        # The stream counts a message from the moment that it is stored, its consumer from a little later.
        ready = Request(link.api(f"STREAM.INFO.{layout.stream}"), _filter(names.ready))
        dead = Request(link.api(f"STREAM.INFO.{layout.dead_stream}"), _filter(names.dead))
        first, leases, stored, letters = [
            (await link.request_many([request], repeat=True))[0] for request in (delayed, consumer, ready, dead)
        ]
        present = self._count(stored, names.ready)
        leased = min(present, self._result(leases).get("num_ack_pending", 0))
        return QueueStats(
            ready=present - leased,
            leased=leased,
            delayed=self._count_from(first),
            dead=self._count(letters, names.dead),
        )

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        names = self._layout.topic(topic)
        check_limit(limit)
        self._link.check_open()
        try:
            return await self._graveyard.look(names, min(limit, MANY))
        except FAILURES as error:
            raise self._link.translated(error) from error

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        return await self._take_dead(topic, limit, again=True)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._take_dead(topic, limit, again=False)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and give back what is on its way here."""
        self._receivers.close()
        if self._receivers.expecting:
            await self._link.hush()

    @property
    def _room(self) -> int:
        return min(ROOM, self._link.max_payload // 4)

    async def _take_dead(self, topic: str, limit: int, *, again: bool) -> int:
        names = self._layout.topic(topic)
        check_limit(limit)
        self._link.check_open()
        try:
            return await self._graveyard.take(names, limit, again=again)
        except FAILURES as error:
            raise self._link.translated(error) from error

    def _result(self, reply: Reply) -> dict[str, Any]:
        """What an answer of the API says; nothing of a consumer that is not there."""
        error = api_error(reply.payload)
        if error is None:
            result: dict[str, Any] = json.loads(reply.payload)
            return result
        if error.code == CONSUMER_NOT_FOUND:
            return {}
        raise self._link.translated(error) from error

    def _count_from(self, first: Reply) -> int:
        """How many messages there are, by what comes with the first."""
        if first.status == NONE_THERE:
            return 0
        if first.status:
            raise self._link.translated(ApiError(0, first.status, first.description))
        return int(first.headers["Nats-Num-Pending"]) + 1

    def _count(self, reply: Reply, subject: str) -> int:
        subjects: dict[str, int] = self._result(reply).get("state", {}).get("subjects") or {}
        return subjects.get(subject, 0)


def _filter(subject: str) -> bytes:
    return b'{"subjects_filter":"%b"}' % subject.encode()
