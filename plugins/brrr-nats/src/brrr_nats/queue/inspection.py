"""The topics for operators: the subjects of the streams, and the consumers of topics that were received from."""

import json
from collections.abc import AsyncGenerator
from time import time
from typing import Any, Final

from brrr_core.backend import Activity, Inspector, Peeked, check_limit
from brrr_nats.client.errors import CONSUMER_NOT_FOUND, ApiError, api_error
from brrr_nats.client.messages import Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.names import TOKENS
from brrr_nats.queue.clocks import read_time
from brrr_nats.queue.layout import Layout, TopicNames

__all__ = ["NatsInspector"]

NO_CONSUMER: Final[dict[str, Any]] = {"delivered": {"consumer_seq": 0, "stream_seq": 0}}
"""The part of the information that counts, before a topic has a consumer."""


class NatsInspector(Inspector):
    """Asks the server for subjects, consumers and single messages."""

    def __init__(self, client: RequestClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def topics(self) -> list[str]:
        """Return the topics that have messages, or that were received from. Names that became a digest are missing."""
        self._client.gate.check()
        stream, dead = self._layout.stream, self._layout.dead_stream
        with self._client.translating():
            tokens = {name async for name in self._listed(f"CONSUMER.NAMES.{stream}", {}, "consumers")}
            for source, kind in ((stream, "ready"), (stream, "delayed"), (dead, "dead")):
                begin = f"{stream}.{kind}."
                asked = {"subjects_filter": f"{begin}>"}
                subjects = self._listed(f"STREAM.INFO.{source}", asked, "subjects")
                tokens |= {subject.removeprefix(begin).partition(".")[0] async for subject in subjects}
        found = map(TOKENS.unescape, tokens)
        return sorted(topic for topic in found if topic)

    async def _listed(self, api: str, body: dict[str, Any], key: str) -> AsyncGenerator[str, None]:
        """Yield all names of a list that the server gives in pages."""
        offset = 0
        while True:
            reply = await self._client.call_api(api, {**body, "offset": offset})
            names = (reply.get("state", reply) if key == "subjects" else reply).get(key) or ()
            for name in names:
                yield name
            offset += len(names)
            if not names or offset >= reply.get("total", 0):
                return

    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Return messages. A message that was delivered before may be leased or ready again."""
        names = self._layout.topic(topic)
        check_limit(limit)
        self._client.gate.check()
        found: list[Peeked] = []
        with self._client.translating():
            delivered = (await self._consumer(names))["delivered"]["stream_seq"]
            async for message in self._messages(names.ready, 1, limit):
                fresh = int(message["seq"]) > delivered
                found.append(Peeked(stored_message(message).payload, "ready" if fresh else None))
            if len(found) < limit:
                rest = self._messages(f"{names.delayed}.*", 1, limit - len(found))
                found += [Peeked(stored_message(message).payload, "delayed") async for message in rest]
        return found

    async def purge(self, topic: str) -> int:
        """Delete the messages, leased ones too."""
        names = self._layout.topic(topic)
        self._client.gate.check()
        count = 0
        with self._client.translating():
            for subject in (names.delayed + ".*", names.ready):  # in the order in which messages move
                reply = await self._client.call_api(f"STREAM.PURGE.{self._layout.stream}", {"filter": subject})
                count += int(reply["purged"])
        return count

    async def activity(self, topic: str) -> Activity:
        """Return the age of the oldest message that was never delivered, and the pulls that wait."""
        names = self._layout.topic(topic)
        self._client.gate.check()
        with self._client.translating():
            info = await self._consumer(names)
            delivered = info["delivered"]
            first = [each async for each in self._messages(names.ready, delivered["stream_seq"] + 1, 1)]
        return Activity(
            max(0.0, time() - read_time(first[0]["time"])) if first else None,
            bool(info.get("num_waiting") or info.get("num_ack_pending")),
            delivered["consumer_seq"],
        )

    async def _consumer(self, names: TopicNames) -> dict[str, Any]:
        try:
            info: dict[str, Any] = await self._client.call_api(f"CONSUMER.INFO.{self._layout.stream}.{names.consumer}")
        except ApiError as error:
            if error.code != CONSUMER_NOT_FOUND:
                raise
            return NO_CONSUMER
        return info

    async def _messages(self, subject: str, begin: int, limit: int) -> AsyncGenerator[dict[str, Any], None]:
        """Yield stored messages of a subject from a number on. One request for each: see `dead_letters`."""
        api = self._client.api_subject(f"STREAM.MSG.GET.{self._layout.stream}")
        for _ in range(limit):
            request = Request(api, b'{"seq":%d,"next_by_subj":"%b"}' % (begin, subject.encode()))
            (reply,) = await self._client.request_many([request], idempotent=True)
            error = api_error(reply.payload)
            if error is not None and error.missing:
                return
            if error is not None:
                raise error
            message: dict[str, Any] = json.loads(reply.payload)["message"]
            yield message
            begin = int(message["seq"]) + 1
