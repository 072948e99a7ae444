"""The cache role: counters that the servers add up (ADR-49; NATS 2.12)."""

import json
from collections.abc import Mapping
from typing import Final

from brrr_core.backend import Cache, check_amounts
from brrr_nats.client.errors import checked
from brrr_nats.client.messages import Request
from brrr_nats.client.requests import RequestClient
from brrr_nats.client.streams import DUPLICATE_WINDOW_NS, NS_PER_SECOND, StreamSpec, ensure_stream, find_stream
from brrr_nats.names import token_of
from brrr_nats.options import NatsOptions

__all__ = ["NatsCache"]

MIN_AGE_SECONDS: Final = 0.1
"""Shortest age limit of a stream in seconds."""


class NatsCache(Cache):
    """Counters that expire a while after the last increment."""

    def __init__(self, client: RequestClient, options: NatsOptions) -> None:
        self._client = client
        self._options = options
        self._stream = f"{options.bucket}-counters"

    async def prepare(self, *, change: bool = False) -> list[str]:
        """Check the counters' stream; create it if it is missing. Return the changes, one line each.

        Raises:
            BackendError: The stream has another purpose, or cannot be created.
            BackendUnavailableError: JetStream does not reply.
        """
        age = int(max(MIN_AGE_SECONDS, self._options.counter_ttl) * NS_PER_SECOND)
        config = {
            "name": self._stream,
            "subjects": [f"{self._stream}.*"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": self._options.replicas,
            "allow_msg_counter": True,
            "max_msgs_per_subject": 1,
            "max_age": age,
            "duplicate_window": min(age, DUPLICATE_WINDOW_NS),
            # A limit would discard counters in use, and a count that is too low lets a recursion run on.
            "max_msgs": -1,
            "max_bytes": -1,
        }
        found = await find_stream(self._client, self._stream)
        return await ensure_stream(self._client, StreamSpec(config, unbounded=False), found, change=change)

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters: one message per counter, all together. Each acknowledgement has the sum.

        An increment whose reply was lost is not sent again, as it could count twice: it raises. A caller that repeats
        it risks counting twice.
        """
        check_amounts(amounts.items())
        messages = [
            Request(f"{self._stream}.{token_of(name, 'the counter')}", b"", {"Nats-Incr": f"{amount:+d}"})
            for name, amount in amounts.items()
        ]
        replies = await self._client.request_many(messages)
        with self._client.translating():
            return {
                name: int(json.loads(checked(reply).payload)["val"])
                for name, reply in zip(amounts, replies, strict=True)
            }
