"""Orphans: messages that a topic's consumer takes for done, and that the stream still has. They are put again.

A server that is shut down may have noted an acknowledgement with the consumer, and not yet have removed the message.
When it is back, nobody is given that message, and it counts as ready for ever. Whether it was worked off nobody can
tell, so it is treated like one whose acknowledgement was lost: it comes once more.
"""

import asyncio
from typing import Final

from brrr_core.errors import BackendClosedError, BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import FAILURES
from brrr_nats.client.protocol import Request
from brrr_nats.client.requests import Link
from brrr_nats.options import NatsOptions
from brrr_nats.queue.acks import ACK
from brrr_nats.queue.dead_letters import MESSAGE_ID
from brrr_nats.queue.layout import Layout, TopicNames

__all__ = ["Orphans"]

SETTLED: Final = 10.0
"""Seconds after which what a consumer takes for done must be gone from the stream: replicas remove it a bit later."""

MOST_KNOWN: Final = 4096


class Seen:
    """What was seen of a topic on one connection.

    Attributes:
        connection: Which one: a server that was restarted has ended those before.
        since: When it was seen, by the loop's clock.
        floor: The number of the last message up to which the consumer took all for done; 0 where nothing is to be done.
    """

    __slots__ = ("connection", "floor", "since")

    def __init__(self, connection: Connection, since: float) -> None:
        self.connection = connection
        self.since = since
        self.floor = 0


class Orphans:
    """Looks for orphans when a topic gives nothing: twice on each connection, and after each failure.

    Args:
        link: Asks the servers.
        options: The JetStream domain. Of another than the servers' own it does nothing: only a delivery tells how a
            message there is acknowledged.
        layout: Names streams and subjects.
    """

    def __init__(self, link: Link, options: NatsOptions, layout: Layout) -> None:
        self._link = link
        self._layout = layout
        self._reachable = options.domain is None
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, Seen] = {}

    async def look(self, names: TopicNames) -> None:
        """Look whether there are any, and put them again. What fails is told to whoever receives next, if it lasts.

        Raises:
            BackendClosedError: The backend was closed.
        """
        connection, now = self._link.line.current, self._loop.time()
        seen = self._seen.get(names.topic)
        if not self._reachable or connection is None:
            return
        if seen is not None and seen.connection is connection and not seen.floor:
            return
        try:
            if seen is None or seen.connection is not connection:
                if len(self._seen) >= MOST_KNOWN:
                    self._seen.clear()
                seen = self._seen[names.topic] = Seen(connection, now)
                told = await self._link.ask(f"CONSUMER.INFO.{self._layout.stream}.{names.consumer}")
                seen.floor, seen.since = told["ack_floor"]["stream_seq"], self._loop.time()
            elif now >= seen.since + SETTLED:
                floor, seen.floor = seen.floor, 0  # one receiver sees to it
                await self._put_again(names, floor)
        except BackendClosedError:
            raise
        except (*FAILURES, BackendError):
            return

    def forget(self, names: TopicNames) -> None:
        """Look again: a server may have been restarted."""
        self._seen.pop(names.topic, None)

    async def _put_again(self, names: TopicNames, floor: int) -> None:
        """Put what is there up to a number again, and have it removed as if it were acknowledged once more."""
        subject, begin = self._link.api(f"DIRECT.GET.{self._layout.stream}"), 1
        while True:
            request = Request(subject, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, names.ready.encode()))
            (found,) = await self._link.request_many([request], repeat=True)
            if found.status or int(found.headers["Nats-Sequence"]) > floor:
                return
            sequence = int(found.headers["Nats-Sequence"])
            name = f"orphan.{found.headers['Nats-Time-Stamp']}.{sequence}"
            await self._link.store([Request(names.ready, found.payload, {MESSAGE_ID: name})])
            place = f"{self._layout.stream}.{names.consumer}.1.{sequence}.1.1.0"
            await self._link.request_many([Request(f"$JS.ACK.{place}", ACK)], repeat=True)
            begin = sequence + 1
