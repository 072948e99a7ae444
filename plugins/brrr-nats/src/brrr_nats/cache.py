"""The cache role: counters, which the servers themselves add up (ADR-49; NATS 2.12)."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Final

from brrr_core.backend import Cache
from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError
from brrr_nats.client.errors import Lost, api_error
from brrr_nats.client.protocol import Request, told_message
from brrr_nats.client.requests import Link
from brrr_nats.client.streams import DUPLICATES, SECOND, Wanted, ensure_stream, find_stream
from brrr_nats.options import NatsOptions
from brrr_nats.store.idempotency import MARK, Marks
from brrr_nats.tokens import token_of

__all__ = ["NatsCache"]

SHORTEST: Final = 0.1
"""Seconds: the least age that a stream can have."""

MOST_BITS: Final = 8192
"""Of an amount. Counters have no bound of their own; headers have one."""


class NatsCache(Cache):
    """Counters of any size, forgotten when nobody has counted for long.

    Args:
        link: Asks the servers.
        options: The name that the stream begins with, its replicas, how long counters stay.
    """

    def __init__(self, link: Link, options: NatsOptions) -> None:
        self._link = link
        self._options = options
        self._stream = f"{options.bucket}-counters"
        self._marks = Marks.new(options.counter_ttl, options.timeout)

    async def prepare(self, *, change: bool = False) -> list[str]:
        """See that the counters' stream is there, and is as it has to be. What was done, a line each.

        Raises:
            BackendError: It is made for something else, or cannot be made.
            BackendUnavailableError: JetStream does not answer.
        """
        age = int(max(SHORTEST, self._options.counter_ttl) * SECOND)
        config = {
            "name": self._stream,
            "subjects": [f"{self._stream}.*"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": self._options.replicas,
            "allow_msg_counter": True,
            "max_msgs_per_subject": 1,
            "max_age": age,
            "duplicate_window": min(age, DUPLICATES),
            # A limit would throw counters away that are in use, and a count that is too low lets a recursion run on.
            "max_msgs": -1,
            "max_bytes": -1,
        }
        found = await find_stream(self._link, self._stream)
        return await ensure_stream(self._link, Wanted(config, unbounded=False), found, change=change)

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters: one message each, all together; the acknowledgement has the sum.

        An increment whose answer was lost is looked for, and is not sent again: it could count twice. It raises if the
        counter's last message is not its own, as does whoever repeats it at the risk of that.
        """
        for name, amount in amounts.items():
            if amount.bit_length() > MOST_BITS:
                raise ArgumentError(
                    f"an amount for counter {name!r} has over {MOST_BITS} bits", remedy="Count by less."
                )
        mark = self._marks.next()
        messages = [
            Request(f"{self._stream}.{token_of(name, 'the counter')}", b"", {"Nats-Incr": f"{amount:+d}", MARK: mark})
            for name, amount in amounts.items()
        ]
        try:
            replies = await self._link.request_many(messages)
        except BackendUnavailableError as lost:
            if not isinstance(lost.__cause__, Lost) or not lost.__cause__.sent:
                raise
            found = await self._look([message.subject for message in messages], mark)
            if found is None:
                raise
            return dict(zip(amounts, found, strict=True))
        counts: dict[str, int] = {}
        for name, reply in zip(amounts, replies, strict=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self._link.translated(error) from error
            counts[name] = int(json.loads(reply.payload)["val"])
        return counts

    async def _look(self, subjects: Sequence[str], mark: str) -> list[int] | None:
        """What counters were counted up to by the increment of that mark, by its leader; None unless each tells."""
        where = self._link.api(f"STREAM.MSG.GET.{self._stream}")
        requests = [Request(where, b'{"last_by_subj":"%b"}' % subject.encode()) for subject in subjects]
        try:
            async with asyncio.timeout(self._options.timeout):
                replies = await self._link.request_many(requests, repeat=True)
        except (BackendError, TimeoutError):
            return None  # what was lost is told
        counts: list[int] = []
        for reply in replies:
            message = json.loads(reply.payload).get("message")
            if message is None or (told := told_message(message)).headers.get(MARK) != mark:
                return None
            counts.append(int(json.loads(told.payload)["val"]))
        return counts
