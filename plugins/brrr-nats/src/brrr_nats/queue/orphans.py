"""Orphans: messages that the consumer counts as acknowledged, but that the stream still has. They are put again.

A server that shuts down may record an acknowledgement with the consumer without removing the message. After its
restart, the message counts as ready but is never delivered. Whether its work was done is unknown, so it is treated like
a message whose acknowledgement was lost: it is delivered once more.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from brrr_core.errors import BackendClosedError, BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import FAILURES
from brrr_nats.client.messages import Request
from brrr_nats.client.requests import RequestClient
from brrr_nats.options import NatsOptions
from brrr_nats.queue.dead_letters import MESSAGE_ID_HEADER
from brrr_nats.queue.layout import Layout, TopicNames
from brrr_nats.queue.settling import ACK

__all__ = ["Orphans"]

SETTLE_SECONDS: Final = 10.0
"""Seconds after which an acknowledged message must be gone from the stream. Replicas remove it a little later."""

MAX_KNOWN_TOPICS: Final = 4096


@dataclass(slots=True)
class _CheckState:
    """Result of a check of one topic on one connection. A server that restarted has ended the earlier connections.

    The consumer counts all messages up to the number `floor` as acknowledged; 0 means that nothing is left to do.
    """

    connection: Connection
    since: float
    floor: int = 0


class Orphans:
    """Search for orphans when a topic has no messages: twice on each connection, and after each failure.

    With a JetStream domain, there is no search, because only a delivery names the subject for acknowledgements there.
    """

    def __init__(self, client: RequestClient, options: NatsOptions, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._reachable = options.domain is None
        self._loop = asyncio.get_running_loop()
        self._states: dict[str, _CheckState] = {}

    async def check(self, names: TopicNames) -> None:
        """Look for orphans, and put them again. A failure is left to the next receive, which raises it if it persists.

        Raises:
            BackendClosedError: The backend was closed.
        """
        connection, now = self._client.connector.current, self._loop.time()
        if not self._reachable or connection is None:
            return
        state = self._states.get(names.topic)
        try:
            if state is None or state.connection is not connection:
                if len(self._states) >= MAX_KNOWN_TOPICS:
                    self._states.clear()
                state = self._states[names.topic] = _CheckState(connection, now)
                consumer = await self._client.call_api(f"CONSUMER.INFO.{self._layout.stream}.{names.consumer}")
                state.floor, state.since = consumer["ack_floor"]["stream_seq"], self._loop.time()
            elif state.floor and now >= state.since + SETTLE_SECONDS:
                floor, state.floor = state.floor, 0  # only one receiver puts them again
                await self._republish(names, floor)
        except BackendClosedError:
            raise
        except (*FAILURES, BackendError):
            return

    def forget(self, names: TopicNames) -> None:
        """Search again at the next receive: a server may have restarted."""
        self._states.pop(names.topic, None)

    async def _republish(self, names: TopicNames, floor: int) -> None:
        """Put messages up to a sequence number again, and acknowledge the old ones so that they are removed."""
        subject, begin = self._client.api_subject(f"DIRECT.GET.{self._layout.stream}"), 1
        while True:
            request = Request(subject, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, names.ready.encode()))
            (found,) = await self._client.request_many([request], idempotent=True)
            if found.status or int(found.headers["Nats-Sequence"]) > floor:
                return
            sequence = int(found.headers["Nats-Sequence"])
            name = f"orphan.{found.headers['Nats-Time-Stamp']}.{sequence}"
            await self._client.publish([Request(names.ready, found.payload, {MESSAGE_ID_HEADER: name})])
            place = f"{self._layout.stream}.{names.consumer}.1.{sequence}.1.1.0"
            await self._client.request_many([Request(f"$JS.ACK.{place}", ACK)], idempotent=True)
            begin = sequence + 1
