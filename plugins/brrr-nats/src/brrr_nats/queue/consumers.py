"""Consumers: one per topic for the whole fleet, created at the first receive."""

import asyncio
from typing import Any, Final
from weakref import WeakValueDictionary

from brrr_core.errors import BackendError
from brrr_nats.client.errors import CONSUMER_NOT_FOUND, ApiError, DeniedError
from brrr_nats.client.requests import RequestClient
from brrr_nats.queue.layout import Layout, TopicNames

__all__ = ["Consumers"]

MAX_KNOWN_TOPICS: Final = 4096
CONSUMER_EXISTS: Final = 10148
TOO_MANY_CONSUMERS: Final = 10026

UNLIMITED: Final = ("max_deliver", "max_ack_pending")
UNSET: Final = ("backoff", "headers_only", "inactive_threshold", "max_batch", "max_bytes", "max_expires")
"""Settings by which an operator may have made a consumer withhold messages, deliver parts of them, or expire."""


class Consumers:
    """Check and creation of the topics' consumers.

    All receivers share a consumer's lease, so the longest lease that a worker asks for counts. A shorter one would
    deliver messages again while workers hold them.
    """

    def __init__(self, client: RequestClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._known: set[str] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ensure(self, names: TopicNames) -> None:
        """Check a topic's consumer, and create it if it is missing.

        Raises:
            ApiError: JetStream refuses, for example because the stream is missing.
            BackendError: This user may not create it.
            BackendUnavailableError: JetStream does not reply.
        """
        if names.consumer in self._known:
            return
        # Only one receiver of a topic checks, and the others wait: a cluster replies to only one of several clients
        # that create a consumer at the same time.
        lock = self._locks.setdefault(names.consumer, asyncio.Lock())
        async with lock:
            while names.consumer not in self._known:
                await self._check(names)

    def forget(self, names: TopicNames) -> None:
        """Check the consumer again at the next receive: it may be gone."""
        self._known.discard(names.consumer)

    async def _check(self, names: TopicNames) -> None:
        wanted = self._layout.consumer(names)
        try:
            found = await self._client.call_api(f"CONSUMER.INFO.{self._layout.stream}.{names.consumer}")
        except ApiError as error:
            if error.code != CONSUMER_NOT_FOUND:
                raise
            if not await self._apply(names, wanted, "create"):
                return
        else:
            corrected = _corrected(found["config"], wanted)
            if corrected != found["config"]:
                await self._apply(names, corrected, "update")
        if len(self._known) >= MAX_KNOWN_TOPICS:
            self._known.clear()
        self._known.add(names.consumer)

    async def _apply(self, names: TopicNames, config: dict[str, Any], action: str) -> bool:
        """Create or update a consumer. Return False if it exists already with another configuration."""
        body = {"stream_name": self._layout.stream, "config": config, "action": action}
        try:
            await self._client.call_api(f"CONSUMER.CREATE.{self._layout.stream}.{names.consumer}.{names.ready}", body)
        except ApiError as error:
            if error.code == CONSUMER_EXISTS:
                return False
            if error.code == TOO_MANY_CONSUMERS:
                raise BackendError(
                    f"nats at {self._client.servers} accepts no consumer for the topic {names.topic!r} ({error})",
                    remedy=f"Each topic needs one: raise max_consumers of the stream {self._layout.stream}, "
                    "of its account, or of the servers.",
                ) from error
            raise
        except BackendError as error:
            if isinstance(error.__cause__, DeniedError):
                raise BackendError(
                    f"nats at {self._client.servers} has no consumer for the topic {names.topic!r} with this lease, "
                    "and does not permit this user to create one",
                    remedy="Receive from the topic once, with the same lease, as a user with that permission.",
                ) from error
            raise
        return True


def _corrected(config: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return a consumer's configuration with the required settings; equal to `config` if it is right."""
    corrected = {name: value for name, value in config.items() if not (name in UNSET and value)}
    corrected |= {name: wanted[name] for name in UNLIMITED if config.get(name, 0) > 0}
    return {**corrected, "ack_wait": max(config.get("ack_wait", 0), wanted["ack_wait"])}
