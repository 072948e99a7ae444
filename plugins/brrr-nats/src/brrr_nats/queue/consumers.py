"""The consumers: one for each topic, for the whole fleet, made when a topic is first received from."""

import asyncio
from typing import Any, Final

from brrr_core.errors import BackendError
from brrr_nats.client.errors import CONSUMER_NOT_FOUND, ApiError, DeniedError
from brrr_nats.client.requests import Link
from brrr_nats.queue.layout import Layout, TopicNames

__all__ = ["Consumers"]

MOST_KNOWN: Final = 4096
ALREADY_THERE: Final = 10148
TOO_MANY: Final = 10026

UNLIMITED: Final = ("max_deliver", "max_ack_pending")
UNSET: Final = ("backoff", "headers_only", "inactive_threshold", "max_batch", "max_bytes", "max_expires")
"""What an operator may have set on a consumer, by which it would hold messages back, give half of them, or end."""


class Consumers:
    """Sees that topics have their consumers.

    A consumer has one lease for all. The longest that a worker asks for counts: with a shorter one, messages would come
    again while workers hold them.
    """

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._layout = layout
        self._known: set[str] = set()
        self._looking: dict[str, asyncio.Lock] = {}

    async def ensure(self, names: TopicNames) -> None:
        """Look for a topic's consumer, and make it where there is none.

        Raises:
            ApiError: JetStream refuses; the stream is not there, say.
            BackendError: This user may not make it.
            BackendUnavailableError: JetStream does not answer.
        """
        if names.consumer in self._known:
            return
        # One of a topic's receivers looks, and the others wait for it: a cluster answers only one of several that make
        # a consumer at the same time.
        lock = self._looking.setdefault(names.consumer, asyncio.Lock())
        try:
            async with lock:
                while names.consumer not in self._known:
                    await self._look(names)
        finally:
            if not lock.locked():
                self._looking.pop(names.consumer, None)

    def forget(self, names: TopicNames) -> None:
        """Look again: it may be gone."""
        self._known.discard(names.consumer)

    async def _look(self, names: TopicNames) -> None:
        wanted = self._layout.consumer(names)
        try:
            found = await self._link.ask(f"CONSUMER.INFO.{self._layout.stream}.{names.consumer}")
        except ApiError as error:
            if error.code != CONSUMER_NOT_FOUND:
                raise
            if not await self._make(names, wanted, "create"):
                return
        else:
            config: dict[str, Any] = found["config"]
            mended = _mended(config, wanted)
            if mended != config:
                await self._make(names, mended, "update")
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(names.consumer)

    async def _make(self, names: TopicNames, config: dict[str, Any], action: str) -> bool:
        """Make or change a consumer; whether it was not there with another configuration, where it is to be made."""
        body = {"stream_name": self._layout.stream, "config": config, "action": action}
        try:
            await self._link.ask(f"CONSUMER.CREATE.{self._layout.stream}.{names.consumer}.{names.ready}", body)
        except ApiError as error:
            if error.code == ALREADY_THERE:
                return False
            if error.code == TOO_MANY:
                raise BackendError(
                    f"nats at {self._link.where} takes no consumer for the topic {names.topic!r} ({error})",
                    remedy=f"Each topic has one: raise max_consumers of the stream {self._layout.stream}, "
                    "of its account, or of the servers.",
                ) from error
            raise
        except BackendError as error:
            if isinstance(error.__cause__, DeniedError):
                raise BackendError(
                    f"nats at {self._link.where} has no consumer for the topic {names.topic!r} with this lease, "
                    "and does not permit that this user makes one",
                    remedy="Have a user who may receive from the topic once, with the same lease.",
                ) from error
            raise
        return True


def _mended(config: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A consumer's configuration, with what it needs; the same where it is well."""
    mended = {name: value for name, value in config.items() if not (name in UNSET and value)}
    for name in UNLIMITED:
        if config.get(name, 0) > 0:
            mended[name] = wanted[name]
    mended["ack_wait"] = max(config.get("ack_wait", 0), wanted["ack_wait"])
    return mended
