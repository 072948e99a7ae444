"""Asks the servers: many requests at a time, on one connection, which is made anew whenever it is lost."""

import asyncio
import json
from asyncio import Future, Task, TimerHandle
from collections.abc import Mapping, Sequence
from random import shuffle, uniform
from typing import Any, Final

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError
from brrr_nats.connection import Connection, dial
from brrr_nats.failures import FAILURES, ApiError, Lost, NoResponders, api_error, closed, is_passing, translated
from brrr_nats.location import Address, Location
from brrr_nats.messages import Reply, Request
from brrr_nats.options import NatsOptions

__all__ = ["Batch", "Link", "Reply", "Request"]

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0

MOST_AT_ONCE: Final = 500
"""Requests of a batch that are under way at a time: servers refuse, or drop, beyond thousands."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of them."""

NO_RESPONDERS: Final = b"NATS/1.0 503"
OLDEST: Final = (2, 12)


class Batch:
    """Requests that are under way together.

    `done` is done when each has a reply or a failure, which is after `timeout` seconds at the latest. Nobody has to
    wait for it.
    """

    __slots__ = ("_connection", "_left", "_timer", "_tokens", "done", "failures", "replies", "timeout")

    def __init__(self, connection: Connection, requests: Sequence[Request], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self.replies: list[Reply | None] = [None] * len(requests)
        self.failures: dict[int, Exception] = {}
        self.done: Future[None] = loop.create_future()
        self.timeout = timeout
        self._connection = connection
        self._left = len(requests)
        self._tokens = connection.send(self, list(enumerate(requests)))
        self._timer: TimerHandle = loop.call_later(timeout, self._expire)

    async def wait(self) -> None:
        """Wait until it is done. Whoever is cancelled meanwhile leaves it as it is."""
        if not self.done.done():
            await self._connection.drain_writes()
            await asyncio.shield(self.done)

    def take(self, index: int, reply: Reply) -> None:
        """A reply came."""
        if self.replies[index] is None and index not in self.failures:
            if reply.lines.startswith(NO_RESPONDERS) and not reply.payload:
                self.failures[index] = NoResponders("")
            else:
                self.replies[index] = reply
            self._count(index)

    def fail(self, index: int, error: Exception) -> None:
        """There will be no reply."""
        if self.replies[index] is None and index not in self.failures:
            self.failures[index] = error
            self._count(index)

    def forget(self) -> None:
        """Nobody is interested any more."""
        self._timer.cancel()
        for token in self._tokens:
            self._connection.forget(token)
        if not self.done.done():
            self.done.set_result(None)

    def _count(self, index: int) -> None:
        self._connection.forget(self._tokens[index])
        self._left -= 1
        if not self._left:
            self._timer.cancel()
            if not self.done.done():
                self.done.set_result(None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        late = TimeoutError(f"no answer within {self.timeout:g} s")
        if loop.time() - self._connection.last_read >= self.timeout:
            self._connection.end(late)  # it is silent altogether: another server may be there
        for index, reply in enumerate(self.replies):
            if reply is None:
                self.fail(index, Lost(late, sent=True))


class Link:
    """What the roles ask.

    Args:
        location: The servers to ask first.
        options: How to log in, and how long to wait.
    """

    def __init__(self, location: Location, options: NatsOptions) -> None:
        self.where = str(location)
        self._location = location
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._known: dict[Address, None] = dict.fromkeys(location.addresses)
        self._connection: Connection | None = None
        self._dialling: Task[None] | None = None
        self._shutting: set[Task[None]] = set()
        self._error: Exception = Lost(TimeoutError("not connected yet"), sent=False)
        self._closing = asyncio.Event()
        self._prefix = f"$JS.{options.domain}.API." if options.domain else "$JS.API."
        self.max_payload = 0

    # -- the connection ------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Make the first connection.

        Raises:
            BackendUnavailableError: No server can be reached, or none takes the login.
            BackendError: The servers are too old, or have no JetStream.
        """
        self._dialling = asyncio.create_task(self._dial_once(), name="brrr connects")
        try:
            await asyncio.shield(self._dialling)
        except Exception as error:
            raise translated(error, self.where) from error

    async def connection(self, deadline: float) -> Connection:
        """The connection; waits for it until `deadline`, by the loop's clock.

        Raises:
            Lost: There is none.
            BackendClosedError: The backend was closed.
        """
        while True:
            if self._closing.is_set():
                raise closed()
            if self._connection is not None:
                return self._connection
            left = deadline - self._loop.time()
            if self._dialling is None or left <= 0:
                raise self._error
            await asyncio.wait({self._dialling}, timeout=left)

    async def close(self) -> None:
        """Close the connection. Whatever waits for an answer raises `BackendClosedError`."""
        self._closing.set()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait({self._dialling})
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(closed())
            await connection.shut()
        while self._shutting:
            await asyncio.wait(self._shutting)

    async def pause(self, seconds: float) -> float:
        """Wait before another try; less if the backend is closed. How long to wait the next time.

        Raises:
            BackendClosedError: The backend was closed.
        """
        try:
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()
        except TimeoutError:
            return min(2 * seconds, LONGEST_PAUSE)
        raise closed()

    # -- asking --------------------------------------------------------------------------------------------------

    async def request_many(self, messages: Sequence[Request], *, repeat: bool = False) -> list[Reply]:
        """Send requests, all together, and give their replies in that order.

        What nobody took (no connection, no leader, too much under way) is sent again, for `retry_for`. A reply can be
        an error of JetStream's all the same: `failures.api_error` reads it.

        Args:
            messages: What to send. Their subjects are made of tokens.
            repeat: Whether requests may be done twice: those whose answers were lost are then sent again too.

        Raises:
            BackendUnavailableError: An answer was lost, or there was no connection for `retry_for`.
            BackendError: A message is larger than the servers take, or a subject is not permitted.
            BackendClosedError: The backend was closed.
        """
        replies: list[Reply | None] = [None] * len(messages)
        left = list(range(len(messages)))
        deadline, pause = self._loop.time() + self._options.retry_for, FIRST_PAUSE
        self._check_sizes(messages)
        while left:
            try:
                left, error = await self._round(messages, left, replies, deadline, repeat=repeat)
            except FAILURES as failed:
                raise translated(failed, self.where) from failed
            if error is not None:
                if self._loop.time() + pause > deadline:
                    if any(replies[index] is None for index in left):
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

    async def send(self, messages: Sequence[Request]) -> Batch:
        """Send requests once, without waiting for the replies. Whoever sends so handles failures of the batch.

        Raises:
            BackendUnavailableError: There is no connection.
            BackendClosedError: The backend was closed.
        """
        try:
            connection = await self.connection(self._loop.time() + self._options.retry_for)
        except Lost as error:
            raise translated(error, self.where) from error
        return Batch(connection, messages, self._options.timeout)

    async def store(self, messages: Sequence[Request]) -> None:
        """Have streams store messages, again where the answer was lost.

        Raises:
            BackendUnavailableError: They were not stored, or not all; nobody answers, or there is no room.
            BackendError: They are refused.
        """
        for reply in await self.request_many(messages, repeat=True):
            error = api_error(reply.payload)
            if error is not None:
                raise self.translated(error) from error

    def post(self, message: Request) -> None:
        """Send a message that has no answer, if there is a connection."""
        if self._connection is not None:
            self._connection.post(message)

    def check_open(self) -> None:
        """Raise `BackendClosedError` once the backend was closed."""
        if self._closing.is_set():
            raise closed()

    async def hush(self) -> None:
        """Have the server send no messages any more, and take those that it has sent."""
        if self._connection is not None:
            await self._connection.hush()

    def translated(self, error: Exception) -> BrrrError:
        """The error for the user."""
        return translated(error, self.where)

    async def _round(
        self,
        messages: Sequence[Request],
        left: list[int],
        replies: list[Reply | None],
        deadline: float,
        *,
        repeat: bool,
    ) -> tuple[list[int], Exception | None]:
        """Send what is left once. What is to be sent again, and why. Raises what sending again does not mend."""
        again: list[int] = []
        why: Exception | None = None
        for part in _parts(messages, left):
            connection = await self.connection(deadline)
            batch = Batch(connection, [messages[index] for index in part], self._options.timeout)
            try:
                await batch.wait()
            except BaseException:
                batch.forget()
                raise
            for place, index in enumerate(part):
                reply = batch.replies[place]
                if reply is not None:
                    replies[index] = reply
                    refused = _refused_for_now(reply)
                    if refused is not None:
                        again.append(index)
                        why = refused
                    continue
                failure = batch.failures[place]
                if isinstance(failure, NoResponders):
                    failure = NoResponders(messages[index].subject)
                if not (is_passing(failure) or (repeat and isinstance(failure, Lost))) or self._closing.is_set():
                    raise failure
                again.append(index)
                why = failure
        return again, why

    def _check_sizes(self, messages: Sequence[Request]) -> None:
        for message in messages:
            if message.size > self.max_payload > 0:
                raise BackendError(
                    f"a message of {message.size} bytes is over the {self.max_payload} that nats at {self.where} takes",
                    remedy="Nothing of the batch was sent; raise the servers' max_payload, or make it smaller.",
                )

    # -- dialling ------------------------------------------------------------------------------------------------

    async def _dial_once(self) -> None:
        """Try each server that is known, those that the URL names among the first. Raises what the last said."""
        addresses = list(self._known)
        shuffle(addresses)
        for address in addresses:
            try:
                connection = await dial(address, self._location, self._options, self._ended)
            except Exception as error:  # noqa: BLE001 - another server may be there
                self._error = error
                continue
            self._learn(connection)
            try:
                self._check(connection)
            except BackendError:
                await connection.shut()
                raise
            if connection.is_open:
                self._connection = connection
                return
            self._error = Lost(connection.cause or TimeoutError("it closed the connection"), sent=False)
        raise self._error

    async def _dial_on(self) -> None:
        """Try until there is a connection."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._dial_once()
            except Exception as error:  # noqa: BLE001 - those who wait for a connection tell it
                self._error = error
                pause = min(2 * pause, LONGEST_PAUSE)
                await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - jitter, not a secret
            else:
                return

    def _ended(self, connection: Connection) -> None:
        """A connection is lost: clear it away, and make another."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._closing.is_set():
            return
        self._error = Lost(connection.cause or TimeoutError("it closed the connection"), sent=False)
        shutting = asyncio.create_task(connection.shut(), name="brrr closes a connection that was lost")
        self._shutting.add(shutting)
        shutting.add_done_callback(self._shutting.discard)
        self._dialling = asyncio.create_task(self._dial_on(), name="brrr connects again")

    def _learn(self, connection: Connection) -> None:
        """Note what the server says of itself, and of the others."""
        self.max_payload = int(connection.info.get("max_payload", 0))
        told = [each.rpartition(":") for each in connection.info.get("connect_urls") or ()]
        others = [Address(host.strip("[]"), int(port)) for host, _, port in told if port.isdecimal()]
        self._known = dict.fromkeys((*self._location.addresses, *others))

    def _check(self, connection: Connection) -> None:
        version = str(connection.info.get("version", ""))
        numbers = tuple(int(each) for each in version.split("-")[0].split(".")[:2] if each.isdecimal())
        if numbers < OLDEST:
            raise BackendError(
                f"nats at {self.where} is version {version or 'unknown'}",
                remedy="brrr needs 2.12 or newer, which delays messages and counts.",
            )
        if not connection.info.get("headers"):
            raise BackendError(f"nats at {self.where} takes no headers", remedy="Do not set no_header_support.")


def _parts(messages: Sequence[Request], indices: Sequence[int]) -> list[list[int]]:
    """Cut a batch, so that a bounded part of it is under way at a time."""
    parts: list[list[int]] = []
    size = 0
    for index in indices:
        length = len(messages[index].payload)
        if not parts or size + length > MOST_BYTES or len(parts[-1]) >= MOST_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(index)
        size += length
    return parts


def _refused_for_now(reply: Reply) -> ApiError | None:
    """The error of a request that was not done, and may be done a little later."""
    if reply.lines or not reply.payload.startswith(b"{"):
        return None
    error = api_error(reply.payload)
    return error if error is not None and is_passing(error) else None
