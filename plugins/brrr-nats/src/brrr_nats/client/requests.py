"""Asks the servers: many requests at a time, on one connection, which is made anew whenever it is lost."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from brrr_core.errors import BackendError, BrrrError
from brrr_nats.client.connector import FIRST_PAUSE, Line
from brrr_nats.client.errors import FAILURES, ApiError, Lost, api_error, closed, is_passing, translated
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.request_batch import LARGE, Batch, Copies, largest_first, portions
from brrr_nats.location import Location
from brrr_nats.options import NatsOptions

__all__ = ["Link"]

SHORTEST: Final = 0.1
"""Seconds that the last copy of a request is waited for at least."""


class Link:
    """What the roles ask.

    Args:
        location: The servers to ask first.
        options: How to log in, and how long to wait.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.line = Line(location, options)
        self.where = self.line.where
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._prefix = f"$JS.{options.domain}.API." if options.domain else "$JS.API."

    @property
    def max_payload(self) -> int:
        """The largest message that the server takes, headers included, in bytes."""
        return self.line.max_payload

    async def connect(self) -> None:
        """Make the first connection. Raises `BackendError`."""
        await self.line.connect()

    async def close(self) -> None:
        """Close the connection. Whatever waits for an answer raises `BackendClosedError`."""
        await self.line.close()

    async def pause(self, seconds: float) -> float:
        """Wait before another try. How long to wait the next time. Raises `BackendClosedError`."""
        return await self.line.pause(seconds)

    async def request_many(
        self,
        messages: Sequence[Request],
        *,
        repeat: bool = False,
        again: bool | None = None,
        copies: Copies | None = None,
    ) -> list[Reply]:
        """Send requests, all together, and give their replies in that order.

        What nobody took (no connection, no leader, too much under way) is sent again, for `retry_for`. A reply can be
        an error of JetStream's all the same: `failures.api_error` reads it.

        Args:
            messages: What to send. Their subjects are made of tokens.
            repeat: Whether requests may be done twice: those whose answers were lost are then sent again too.
            again: Whether those that are not answered soon are sent again on the same connection; as `repeat` says
                unless given.
            copies: Given for requests that a guard keeps from being done twice: those that are not answered soon are
                sent again, as those whose answers were lost are, while it says so; it is told of which.

        Raises:
            BackendUnavailableError: An answer was lost, or there was no connection for `retry_for`.
            BackendError: A message is larger than the servers take, or a subject is not permitted.
            BackendClosedError: The backend was closed.
        """
        replies: list[Reply | None] = [None] * len(messages)
        left = list(range(len(messages)))
        deadline, pause = self._loop.time() + self._options.retry_for, FIRST_PAUSE
        again = (repeat or copies is not None) if again is None else again
        while left:
            if copies is not None:
                deadline = min(deadline, copies.until)
            try:
                self._check_sizes(messages, copies)  # each time: another server may take less
                left, error = await self._round(messages, left, replies, deadline, copies, repeat=repeat, again=again)
            except FAILURES as failed:
                told = _of_copies(failed, copies)
                raise translated(told, self.where) from told
            if error is not None:
                if self._loop.time() + pause > (deadline if copies is None else min(deadline, copies.until)):
                    if any(replies[index] is None for index in left):
                        error = _of_copies(error, copies)
                        raise translated(error, self.where) from error
                    break
                pause = await self.pause(pause)
        return [reply for reply in replies if reply is not None]

    async def ask(self, subject: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask JetStream's API something that may be done twice, and give the JSON of its answer.

        Args:
            subject: Without the API's prefix, as `STREAM.INFO.name`.
            body: What goes with it.

        Raises:
            ApiError: It answers with an error.
            BackendUnavailableError: It does not answer.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        (reply,) = await self.request_many([Request(self.api(subject), payload)], repeat=True)
        error = api_error(reply.payload)
        if error is not None:
            raise error
        return json.loads(reply.payload)

    def api(self, subject: str) -> str:
        """A subject of JetStream's API, in the domain that the options name."""
        return self._prefix + subject

    async def ready(self) -> None:
        """Wait for a connection.

        Raises:
            BackendUnavailableError: There is none for `retry_for`.
            BackendClosedError: The backend was closed.
        """
        try:
            await self.line.connection(self._loop.time() + self._options.retry_for)
        except Lost as error:
            raise translated(error, self.where) from error

    async def store(self, messages: Sequence[Request]) -> None:
        """Have streams store messages, again where the answer was lost.

        Raises:
            BackendUnavailableError: They were not stored, or not all; nobody answers, or there is no room.
            BackendError: They are refused.
        """
        for reply in await self.request_many(largest_first(messages), repeat=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self.translated(error) from error

    def post(self, message: Request) -> None:
        """Send a message that has no answer, if there is a connection."""
        if self.line.current is not None:
            self.line.current.post(message)

    def check_open(self) -> None:
        """Raise `BackendClosedError` once the backend was closed."""
        if self.line.is_closed:
            raise closed()

    async def hush(self) -> None:
        """Have the server send no messages any more, and take those that it has sent."""
        if self.line.current is not None:
            await self.line.current.hush()

    def translated(self, error: Exception) -> BrrrError:
        """The error for the user."""
        return translated(error, self.where)

    async def _round(
        self,
        messages: Sequence[Request],
        left: list[int],
        replies: list[Reply | None],
        deadline: float,
        copies: Copies | None,
        *,
        repeat: bool,
        again: bool,
    ) -> tuple[list[int], Exception | None]:
        """Send what is left once. What is to be sent again, and why. Raises what sending again does not mend."""
        left_over: list[int] = []
        why: Exception | None = None
        for part in portions(messages, left):
            connection = await self.line.connection(deadline)
            begun = self._loop.time()
            timeout: float = self._options.timeout
            until = inf
            if copies is not None:
                until = min(begun + copies.patience, copies.until)
                timeout = max(SHORTEST, min(timeout, deadline - begun)) if copies.doubtful else timeout
            requests = [messages[index] for index in part]
            batch = Batch(connection, requests, timeout, again=again, until=until)
            try:
                await batch.wait()
            except BaseException:
                batch.forget()
                raise
            if copies is not None and (batch.repeated or batch.failures):
                for place, index in enumerate(part):
                    if place in batch.repeated or _may_be_done(batch.failures.get(place)):
                        copies.since.setdefault(index, begun)
            for place, index in enumerate(part):
                reply = batch.replies[place]
                if reply is not None:
                    replies[index] = reply
                    refused = _refused_for_now(reply)
                    if refused is not None:
                        left_over.append(index)
                        why = refused
                    continue
                failure = batch.failures[place]
                again_now = repeat or (copies is not None and self._loop.time() < copies.until)
                if not (is_passing(failure) or (again_now and isinstance(failure, Lost))) or self.line.is_closed:
                    raise failure
                left_over.append(index)
                why = failure
        return left_over, why

    def _check_sizes(self, messages: Sequence[Request], copies: Copies | None) -> None:
        most = self.max_payload
        surely = most - LARGE
        for message in messages:
            if len(message.payload) > surely and message.size > most > 0:
                error = BackendError(
                    f"a message of {message.size} bytes is over the {most} that nats at {self.where} takes",
                    remedy="Raise the servers' max_payload, or make it smaller; it was not sent.",
                )
                raise Lost(error, sent=True) if copies is not None and copies.doubtful else error


def _may_be_done(failure: Exception | None) -> bool:
    return isinstance(failure, Lost) and failure.sent


def _of_copies(failure: Exception, copies: Copies | None) -> Exception:
    """A failure that the last copy of a request had, where an earlier one may have been done."""
    if copies is None or not copies.doubtful or isinstance(failure, BrrrError) or _may_be_done(failure):
        return failure
    return Lost(failure, sent=True)


def _refused_for_now(reply: Reply) -> ApiError | None:
    """The error of a request that was not done, and may be done a little later."""
    if reply.lines or not reply.payload.startswith(b"{"):
        return None
    error = api_error(reply.payload)
    return error if error is not None and is_passing(error) else None
