"""One connection to a server, used by many at once.

Commands that are asked for in one turn of the loop, or while earlier ones are on their way, travel together, and the
answers come back in order: a pipeline without anybody building one. Whoever is cancelled leaves the connection as it
is; the answer is read, and dropped.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, Task
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from brrr_redis.client.commands import Words
from brrr_redis.client.errors import ConnectionClosedError, NoReplyError, redact
from brrr_redis.location import Address

__all__ = ["PipelinedConnection", "Reply"]

pack = cast("Callable[[Words], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] - a stub for one word

Reply: TypeAlias = Any
"""What a server answers: bytes, integers, lists of these, None; or a `RedisError`; or `NoReplyError`."""

ANSWERS: Final = (ResponseError, AuthenticationError, BusyLoadingError)
"""Errors that are a server's answer to one command, after which the next answer can be read."""


class PipelinedConnection:
    """A connection with a writer and a reader of its own. Make it with `PipelinedConnection.open`.

    Attributes:
        address: Whose connection it is.
    """

    def __init__(self, transport: AbstractConnection, address: Address, *, timeout: float) -> None:
        self.address = address
        self._transport = transport
        self._timeout = timeout
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._unsent: list[tuple[Words, Future[Reply]]] = []
        self._unanswered: deque[tuple[float, Future[Reply]]] = deque()
        self._to_send = asyncio.Event()
        self._late: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._reader: Task[None] | None = None
        self._closing: Task[None] | None = None

    @classmethod
    async def open(
        cls, transport: AbstractConnection, address: Address, *, timeout: float, connect_timeout: float
    ) -> "PipelinedConnection":
        """Connect, log in, and begin to read.

        Args:
            transport: Not connected yet.
            address: Where it leads.
            timeout: Seconds that an answer may take.
            connect_timeout: Seconds that connecting may take, the login included.

        Raises:
            RedisError: There is no connection, or the server refuses the login.
            TimeoutError: It takes too long.
        """
        connection = cls(transport, address, timeout=timeout)
        scope = asyncio.timeout(connect_timeout)
        try:
            async with scope:
                await transport.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            redact(error)  # a server that does not know AUTH repeats the password
            await transport.disconnect(nowait=True)
            if scope.expired():
                raise TimeoutError(f"no answer within {connect_timeout:g} s") from error
            raise
        connection._reader = asyncio.create_task(connection._serve(), name=f"brrr connection to {address}")
        connection._reader.add_done_callback(
            lambda _: connection._fail(ConnectionClosedError())
        )  # it may be cancelled before it begins
        return connection

    @property
    def alive(self) -> bool:
        """Whether commands can be asked for."""
        return self._failure is None

    def send(self, words: Words) -> "Future[Reply]":
        """The answer to a command. An error is a result too: nothing is raised."""
        future: Future[Reply] = self._loop.create_future()
        if self._failure is not None:
            future.set_result(NoReplyError(self._failure, sent=False))
        else:
            self._unsent.append((words, future))
            self._to_send.set()
        return future

    def close(self, reason: Exception) -> "Task[None]":
        """Take no more commands, and close the connection. The task that does is the caller's to wait for."""
        self._fail(reason)
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"brrr closes a connection to {self.address}")
        return self._closing

    async def _serve(self) -> None:
        """Read answers until the connection is lost or ended."""
        writer = asyncio.create_task(self._write())
        writer.add_done_callback(
            lambda _: self._stop_reading(ConnectionClosedError())
        )  # it may be cancelled from outside
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            self._fail(error)
        finally:
            self._fail(ConnectionClosedError())
            writer.cancel()
            await asyncio.wait({writer})
            await self._disconnect()

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._disconnect()  # for a reader that was cancelled before it began

    async def _disconnect(self) -> None:
        with suppress(RedisError, OSError):  # it is closed as far as we are concerned
            await self._transport.disconnect()

    async def _write(self) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                # What is cancelled by now is not sent.
                batch = [each for each in self._unsent if not each[1].done()]
                self._unsent.clear()
                now = self._loop.time()
                self._unanswered.extend((now, future) for _, future in batch)
                if batch and self._late is None:
                    self._late = self._loop.call_at(now + self._timeout, self._check_time)
                packed = [pack(words) for words, _ in batch]
                await self._transport.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as error:
            self._stop_reading(error)

    async def _read(self) -> None:
        read = cast("Callable[..., Awaitable[Reply]]", self._transport.read_response)
        while True:
            reply: Reply
            try:
                reply = await read(disable_decoding=True, disconnect_on_error=False)
            except ANSWERS as error:
                redact(error)
                reply = error
            if not self._unanswered:
                raise RedisError(f"the server says what nobody asked for: {reply!r:.100}")
            _, future = self._unanswered.popleft()
            if not future.done():
                future.set_result(reply)

    def _check_time(self) -> None:
        self._late = None
        if not self._unanswered:
            return
        due = self._unanswered[0][0] + self._timeout
        if due > self._loop.time():
            self._late = self._loop.call_at(due, self._check_time)
        else:
            self._stop_reading(TimeoutError(f"no answer within {self._timeout:g} s"))

    def _stop_reading(self, error: Exception) -> None:
        self._fail(error)
        if self._reader is not None:
            self._reader.cancel()

    def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error
        if self._late is not None:
            self._late.cancel()
            self._late = None
        for _, future in self._unanswered:
            if not future.done():
                future.set_result(NoReplyError(error, sent=True))
        for _, future in self._unsent:
            if not future.done():
                future.set_result(NoReplyError(error, sent=False))
        self._unanswered.clear()
        self._unsent.clear()
