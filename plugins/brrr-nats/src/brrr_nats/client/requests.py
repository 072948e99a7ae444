"""The request client: sends many requests at a time on one connection, which it replaces when it is lost."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from brrr_core.errors import BackendError, BrrrError
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS, Connector
from brrr_nats.client.errors import (
    FAILURES,
    ApiError,
    NoReplyError,
    api_error,
    closed_error,
    is_transient,
    to_brrr_error,
)
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import LARGE_PAYLOAD_BYTES, GuardedResends, RequestBatch, largest_first, split_batch
from brrr_nats.location import Location
from brrr_nats.options import NatsOptions

__all__ = ["RequestClient"]

MIN_RESEND_TIMEOUT_SECONDS: Final = 0.1
"""Seconds that the last copy of a request waits for a reply, at least."""


class RequestClient:
    """The client that the queue, the store and the cache share.

    Args:
        location: The servers to try first.
        options: Logins and timeouts.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.connector = Connector(location, options)
        self.servers = self.connector.servers
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
        self,
        messages: Sequence[Request],
        *,
        idempotent: bool = False,
        resend: bool | None = None,
        resends: GuardedResends | None = None,
    ) -> list[Reply]:
        """Send requests together, and return their replies in the same order.

        Requests that no server accepted (no connection, no leader, too many in flight) are sent again for `retry_for`.
        A reply can be an error of JetStream: `api_error` reads it.

        Args:
            messages: The requests. Their subjects consist of tokens.
            idempotent: Whether requests may be done twice. If so, they are also sent again after their replies are
                lost.
            resend: Whether unanswered requests are sent again on the same connection; `idempotent` by default.
            resends: Given for requests that a guard keeps from being done twice. They are sent again within its window,
                and it records the ones in doubt.

        Raises:
            BackendUnavailableError: A reply was lost, or there was no connection for `retry_for`.
            BackendError: A message is too large for the servers, or a subject is not permitted.
            BackendClosedError: The backend was closed.
        """
        replies: list[Reply | None] = [None] * len(messages)
        left = list(range(len(messages)))
        deadline, pause = self._loop.time() + self._options.retry_for, FIRST_PAUSE_SECONDS
        resend = (idempotent or resends is not None) if resend is None else resend
        while left:
            if resends is not None:
                deadline = min(deadline, resends.until)
            try:
                self._check_sizes(messages, resends)  # in each round: the next server may accept less
                left, error = await self._send_round(
                    messages, left, replies, deadline, resends, idempotent=idempotent, resend=resend
                )
            except FAILURES as failed:
                failure = _doubt(failed, resends)
                raise to_brrr_error(failure, self.servers) from failure
            if error is not None:
                if self._loop.time() + pause > (deadline if resends is None else min(deadline, resends.until)):
                    if any(replies[index] is None for index in left):
                        error = _doubt(error, resends)
                        raise to_brrr_error(error, self.servers) from error
                    break
                pause = await self.pause(pause)
        return [reply for reply in replies if reply is not None]

    async def call_api(self, subject: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call JetStream's API with a request that may be done twice, and return the JSON of the reply.

        Args:
            subject: The subject without the API's prefix, such as `STREAM.INFO.name`.
            body: The body, as JSON.

        Raises:
            ApiError: The reply is an error.
            BackendUnavailableError: No reply came.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        (reply,) = await self.request_many([Request(self.api_subject(subject), payload)], idempotent=True)
        error = api_error(reply.payload)
        if error is not None:
            raise error
        return json.loads(reply.payload)

    def api_subject(self, subject: str) -> str:
        """Return a subject of JetStream's API, in the configured domain."""
        return self._prefix + subject

    async def wait_connected(self) -> None:
        """Wait for a connection.

        Raises:
            BackendUnavailableError: There was no connection for `retry_for`.
            BackendClosedError: The backend was closed.
        """
        try:
            await self.connector.connection(self._loop.time() + self._options.retry_for)
        except NoReplyError as error:
            raise to_brrr_error(error, self.servers) from error

    async def publish(self, messages: Sequence[Request]) -> None:
        """Publish messages to streams, and wait for the acknowledgements. Messages without a reply are sent again.

        Raises:
            BackendUnavailableError: Not all messages were stored: no server replies, or storage is full.
            BackendError: The servers refuse them.
        """
        for reply in await self.request_many(largest_first(messages), idempotent=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self.to_brrr_error(error) from error

    def send_only(self, message: Request) -> None:
        """Send a message that has no reply, if there is a connection."""
        if self.connector.current is not None:
            self.connector.current.send_only(message)

    def check_open(self) -> None:
        """Raise `BackendClosedError` if the backend was closed."""
        if self.connector.is_closed:
            raise closed_error()

    async def unsubscribe_all(self) -> None:
        """End the subscriptions of pulls, and receive the messages that the server sent before."""
        if self.connector.current is not None:
            await self.connector.current.unsubscribe_all()

    def to_brrr_error(self, error: Exception) -> BrrrError:
        """Return the error for the user."""
        return to_brrr_error(error, self.servers)

    async def _send_round(
        self,
        messages: Sequence[Request],
        left: list[int],
        replies: list[Reply | None],
        deadline: float,
        resends: GuardedResends | None,
        *,
        idempotent: bool,
        resend: bool,
    ) -> tuple[list[int], Exception | None]:
        """Send the remaining requests once. Return those to send again, and why; raise permanent failures."""
        remaining: list[int] = []
        cause: Exception | None = None
        for part in split_batch(messages, left):
            connection = await self.connector.connection(deadline)
            begun = self._loop.time()
            timeout: float = self._options.timeout
            until = inf
            if resends is not None:
                until = min(begun + resends.window, resends.until)
                timeout = (
                    max(MIN_RESEND_TIMEOUT_SECONDS, min(timeout, deadline - begun)) if resends.in_doubt else timeout
                )
            requests = [messages[index] for index in part]
            batch = RequestBatch(connection, requests, timeout, resend=resend, until=until)
            try:
                await batch.wait()
            except BaseException:
                batch.forget()
                raise
            if resends is not None and (batch.resent or batch.failures):
                for place, index in enumerate(part):
                    if place in batch.resent or _may_be_done(batch.failures.get(place)):
                        resends.since.setdefault(index, begun)
            for place, index in enumerate(part):
                reply = batch.replies[place]
                if reply is not None:
                    replies[index] = reply
                    refused = _transient_refusal(reply)
                    if refused is not None:
                        remaining.append(index)
                        cause = refused
                    continue
                failure = batch.failures[place]
                may_resend = idempotent or (resends is not None and self._loop.time() < resends.until)
                if (
                    not (is_transient(failure) or (may_resend and isinstance(failure, NoReplyError)))
                    or self.connector.is_closed
                ):
                    raise failure
                remaining.append(index)
                cause = failure
        return remaining, cause

    def _check_sizes(self, messages: Sequence[Request], resends: GuardedResends | None) -> None:
        most = self.max_payload
        surely = most - LARGE_PAYLOAD_BYTES
        for message in messages:
            if len(message.payload) > surely and message.size > most > 0:
                error = BackendError(
                    f"a message of {message.size} bytes is over the {most} bytes that nats at {self.servers} takes",
                    remedy="It was not sent. Make it smaller, or raise the servers' max_payload.",
                )
                raise NoReplyError(error, sent=True) if resends is not None and resends.in_doubt else error


def _may_be_done(failure: Exception | None) -> bool:
    return isinstance(failure, NoReplyError) and failure.sent


def _doubt(failure: Exception, resends: GuardedResends | None) -> Exception:
    """Return the failure of a copy; as a lost reply if an earlier copy may have been done."""
    if resends is None or not resends.in_doubt or isinstance(failure, BrrrError) or _may_be_done(failure):
        return failure
    return NoReplyError(failure, sent=True)


def _transient_refusal(reply: Reply) -> ApiError | None:
    """Return the error of a request that was not done, but may succeed a little later."""
    if reply.raw_headers or not reply.payload.startswith(b"{"):
        return None
    error = api_error(reply.payload)
    return error if error is not None and is_transient(error) else None
