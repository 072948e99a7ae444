"""The request client: sends many requests at a time on one connection, which it replaces when it is lost."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from brrr_core.backend import translating
from brrr_core.errors import BackendError, BrrrError
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS, Connector
from brrr_nats.client.errors import FAILURES, NoReplyError, api_error, checked, is_transient, to_brrr_error
from brrr_nats.client.messages import LARGE_PAYLOAD_BYTES, Reply, Request, largest_first, split_batch
from brrr_nats.client.request_batch import RequestBatch
from brrr_nats.location import Location
from brrr_nats.options import NatsOptions

__all__ = ["RequestClient"]

ERROR: Final = b'"error"'
"""Part of every JSON reply with an error."""


class RequestClient:
    """The client that the queue, the store and the cache share."""

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.connector = Connector(location, options)
        self.servers = self.connector.servers
        self.gate = self.connector.gate
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._prefix = f"$JS.{options.domain}.API." if options.domain else "$JS.API."

    @property
    def max_payload(self) -> int:
        """Largest message that the server accepts, headers included, in bytes."""
        return self.connector.max_payload

    async def connect(self) -> None:
        """Open the first connection. Raises `BackendError`."""
        await self.connector.connect()

    async def close(self) -> None:
        """Close the connection. Waiting requests raise `BackendClosedError`."""
        await self.connector.close()

    async def pause(self, seconds: float) -> float:
        """Wait before another attempt. Return the next pause. Raises `BackendClosedError`."""
        return await self.connector.pause(seconds)

    async def request_many(
        self, messages: Sequence[Request], *, idempotent: bool = False, resent: set[int] | None = None
    ) -> list[Reply]:
        """Send requests together, and return their replies in the same order.

        Requests that no server accepted (no connection, no leader, too many in flight) are sent again for `retry_for`.
        A reply can be an error of JetStream: `api_error` reads it.

        Args:
            messages: The requests.
            idempotent: Whether requests may take effect twice. If so, they are also sent again without a reply.
            resent: Given for requests whose expected revision keeps them from taking effect twice. They are sent again
                on the same connection, and the set gets their indices. A server may refuse the second copy of a request
                because the first one took effect.

        Raises:
            BackendUnavailableError: A reply was lost, or there was no connection for `retry_for`.
            BackendError: A message is too large for the servers, or a subject is not permitted.
            BackendClosedError: The backend was closed.
        """
        replies: list[Reply | None] = [None] * len(messages)
        left = list(range(len(messages)))
        deadline, pause = self._loop.time() + self._options.retry_for, FIRST_PAUSE_SECONDS
        while left:
            with self.translating():
                left, error = await self._send_round(
                    messages, left, replies, deadline, idempotent=idempotent, resent=resent
                )
            if error is None:
                break
            if self._loop.time() + pause > deadline:
                if all(replies[index] is not None for index in left):
                    break  # the caller reads the error in the reply
                if resent:
                    error = NoReplyError(error, sent=True)
                raise self.to_brrr_error(error) from error
            pause = await self.pause(pause)
        return [reply for reply in replies if reply is not None]

    async def call_api(self, subject: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call JetStream's API with a request that may take effect twice, and return the JSON of the reply.

        Args:
            subject: The subject without the API's prefix, such as `STREAM.INFO.name`.
            body: The body, as JSON.

        Raises:
            ApiError: The reply is an error.
            BackendUnavailableError: No reply came.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        (reply,) = await self.request_many([Request(self.api_subject(subject), payload)], idempotent=True)
        return json.loads(checked(reply).payload)

    def api_subject(self, subject: str) -> str:
        """Return a subject of JetStream's API, in the configured domain."""
        return self._prefix + subject

    async def wait_connected(self) -> None:
        """Wait for a connection. Raises `BackendUnavailableError` or `BackendClosedError`."""
        with self.translating():
            await self.connector.connection(self._loop.time() + self._options.retry_for)

    async def publish(self, messages: Sequence[Request]) -> None:
        """Publish messages to streams, and wait for the acknowledgements. Messages without a reply are sent again.

        Raises:
            BackendUnavailableError: Not all messages were stored: no server replies, or storage is full.
            BackendError: The servers refuse them.
        """
        with self.translating():
            for reply in await self.request_many(largest_first(messages), idempotent=True):
                checked(reply)

    def send_only(self, message: Request) -> None:
        """Send a message that has no reply, if there is a connection."""
        if self.connector.current is not None:
            self.connector.current.send_only(message)

    async def end_pulls(self) -> None:
        """End the subscriptions of pulls, and receive the messages that the server sent before."""
        if self.connector.current is not None:
            await self.connector.current.end_pulls()

    def translating(self) -> AbstractContextManager[None]:
        """Raise the error for the user in place of one of `FAILURES` in the block."""
        return translating(FAILURES, self.to_brrr_error)

    def to_brrr_error(self, error: Exception) -> BrrrError:
        """Return the error for the user."""
        return to_brrr_error(error, self.servers)

    async def _send_round(
        self,
        messages: Sequence[Request],
        left: list[int],
        replies: list[Reply | None],
        deadline: float,
        *,
        idempotent: bool,
        resent: set[int] | None,
    ) -> tuple[list[int], Exception | None]:
        """Send the remaining requests once. Return those to send again, and why; raise permanent failures."""
        remaining: list[int] = []
        cause: Exception | None = None
        for part in split_batch(messages, left):
            connection = await self.connector.connection(deadline)
            self._check_sizes(messages)  # a new connection may accept less
            resend = idempotent or resent is not None
            batch = RequestBatch([messages[index] for index in part], self._options.timeout, resend=resend)
            try:
                await batch.send(connection)
                await batch.wait()
            except BaseException:
                batch.end()
                raise
            if resent is not None:
                resent.update(part[place] for place in batch.resent)
            for place, index in enumerate(part):
                reply = replies[index] = batch.replies[place]
                failure: Exception | None
                if reply is None:
                    failure = batch.failures[place]
                elif reply.headers or ERROR not in reply.payload:
                    continue
                else:
                    failure = api_error(reply.payload)
                    if failure is None or not is_transient(failure):
                        continue  # the caller reads it
                if not is_transient(failure) and not (idempotent and isinstance(failure, NoReplyError)):
                    raise failure
                self.gate.check()
                remaining.append(index)
                cause = failure
        return remaining, cause

    def _check_sizes(self, messages: Sequence[Request]) -> None:
        most = self.max_payload
        if max([len(message.payload) for message in messages]) <= most - LARGE_PAYLOAD_BYTES:
            return
        for message in messages:
            if message.size > most:
                raise BackendError(
                    f"a message of {message.size} bytes is over the {most} bytes that nats at {self.servers} takes",
                    remedy="It was not sent. Make it smaller, or raise the servers' max_payload.",
                )
