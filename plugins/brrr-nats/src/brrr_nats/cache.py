"""The cache role: counters that the servers add up (ADR-49; NATS 2.12)."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Final

from brrr_core.backend import Cache
from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError
from brrr_nats.client.errors import NoReplyError, api_error
from brrr_nats.client.protocol import Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.client.streams import DUPLICATE_WINDOW_NS, NS_PER_SECOND, StreamSpec, ensure_stream, find_stream
from brrr_nats.options import NatsOptions
from brrr_nats.store.idempotency import MARK_HEADER, Marks
from brrr_nats.tokens import token_of

__all__ = ["NatsCache"]

MIN_AGE_SECONDS: Final = 0.1
"""Shortest age limit of a stream in seconds."""

MAX_AMOUNT_BITS: Final = 8192
"""Most bits of an amount. Counters have no limit, but headers do."""


class NatsCache(Cache):
    """Counters of any size, which expire a while after the last increment.

    Args:
        client: The client.
        options: Name and replicas of the stream, life of counters.
    """

    def __init__(self, client: RequestClient, options: NatsOptions) -> None:
        self._client = client
        self._options = options
        self._stream = f"{options.bucket}-counters"
        self._marks = Marks.new(options.counter_ttl, options.timeout)

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

        An increment whose reply was lost is not sent again, as it could count twice. It is looked up instead, and
        raises if the counter's last message is another one. A caller that repeats it then risks counting twice.
        """
        for name, amount in amounts.items():
            if amount.bit_length() > MAX_AMOUNT_BITS:
                raise ArgumentError(
                    f"an amount for counter {name!r} has over {MAX_AMOUNT_BITS} bits", remedy="Count by less."
                )
        mark = self._marks.next()
        messages = [
            Request(
                f"{self._stream}.{token_of(name, 'the counter')}", b"", {"Nats-Incr": f"{amount:+d}", MARK_HEADER: mark}
            )
            for name, amount in amounts.items()
        ]
        try:
            replies = await self._client.request_many(messages)
        except BackendUnavailableError as lost:
            if not isinstance(lost.__cause__, NoReplyError) or not lost.__cause__.sent:
                raise
            found = await self._find_counts([message.subject for message in messages], mark)
            if found is None:
                raise
            return dict(zip(amounts, found, strict=True))
        counts: dict[str, int] = {}
        for name, reply in zip(amounts, replies, strict=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self._client.to_brrr_error(error) from error
            counts[name] = int(json.loads(reply.payload)["val"])
        return counts

    async def _find_counts(self, subjects: Sequence[str], mark: str) -> list[int] | None:
        """Return the sums of the increment with this mark, as the leader has them; None unless all are found."""
        subject_of_get = self._client.api_subject(f"STREAM.MSG.GET.{self._stream}")
        requests = [Request(subject_of_get, b'{"last_by_subj":"%b"}' % subject.encode()) for subject in subjects]
        try:
            async with asyncio.timeout(self._options.timeout):
                replies = await self._client.request_many(requests, idempotent=True)
        except (BackendError, TimeoutError):
            return None  # the caller raises the first error
        counts: list[int] = []
        for reply in replies:
            message = json.loads(reply.payload).get("message")
            if message is None or (stored := stored_message(message)).headers.get(MARK_HEADER) != mark:
                return None
            counts.append(int(json.loads(stored.payload)["val"]))
        return counts
