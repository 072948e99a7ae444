"""The cache role: counters, which the servers themselves add up (ADR-49; NATS 2.12)."""

import json
from collections.abc import Mapping
from typing import Final

from brrr_core.backend import Cache
from brrr_core.errors import ArgumentError
from brrr_nats.failures import api_error
from brrr_nats.link import Link
from brrr_nats.messages import Request
from brrr_nats.options import NatsOptions
from brrr_nats.streams import DUPLICATES, SECOND, Wanted, ensure_stream, find_stream
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

        An increment whose answer was lost raises, and is not sent again. Whoever repeats it may count twice.
        """
        for name, amount in amounts.items():
            if amount.bit_length() > MOST_BITS:
                raise ArgumentError(
                    f"an amount for counter {name!r} has over {MOST_BITS} bits", remedy="Count by less."
                )
        messages = [
            Request(f"{self._stream}.{token_of(name, 'the counter')}", b"", {"Nats-Incr": f"{amount:+d}"})
            for name, amount in amounts.items()
        ]
        counts: dict[str, int] = {}
        for name, reply in zip(amounts, await self._link.request_many(messages), strict=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self._link.translated(error) from error
            counts[name] = int(json.loads(reply.payload)["val"])
        return counts
