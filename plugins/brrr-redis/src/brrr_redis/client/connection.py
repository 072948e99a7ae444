"""One connection to a server, shared by concurrent callers.

Commands of one turn of the event loop are sent together, and replies come back in order: callers share a pipeline
without building one. If a caller is cancelled, the connection stays usable: it reads the reply and drops it.
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

__all__ = ["OnMessage", "PipelinedConnection", "Reply"]

pack = cast("Callable[[Words], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] - a stub for one word

Reply: TypeAlias = Any
"""A reply: bytes, integers, lists of these, or None. Also an error: a `RedisError` or a `NoReplyError`."""

OnMessage: TypeAlias = Callable[[bytes], None]

ERROR_REPLIES: Final = (ResponseError, AuthenticationError, BusyLoadingError)
"""Errors that are the reply to one command. The connection can read the next reply."""


class PipelinedConnection:
    """A connection with a writer task and a reader task. Create it with `PipelinedConnection.open`.

    Attributes:
        address: The server.
    """

    def __init__(
        self, transport: AbstractConnection, address: Address, *, timeout: float, on_message: OnMessage | None = None
    ) -> None:
        self.address = address
        self._on_message = on_message
        self._transport = transport
        self._timeout = timeout
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._unsent: list[tuple[Words, Future[Reply]]] = []
        self._awaiting_reply: deque[tuple[float, Future[Reply]]] = deque()
        self._to_send = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._reader: Task[None] | None = None
        self._closing: Task[None] | None = None

    @classmethod
    async def open(
        cls,
        transport: AbstractConnection,
        address: Address,
        *,
        timeout: float,
        connect_timeout: float,
        on_message: OnMessage | None = None,
    ) -> "PipelinedConnection":
        """Connect, log in, and start the tasks.

        Args:
            transport: Connection of redis-py, not connected yet.
            address: The server.
            timeout: Seconds to wait for a reply.
            connect_timeout: Seconds to wait for the connection and the login.
            on_message: Called with the channel of each message, if the connection subscribes to channels.

        Raises:
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        connection = cls(transport, address, timeout=timeout, on_message=on_message)
        scope = asyncio.timeout(connect_timeout)
        try:
            async with scope:
                await transport.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            redact(error)  # a server without AUTH repeats the password in its error
            await transport.disconnect(nowait=True)
            if scope.expired():
                raise TimeoutError(f"no reply within {connect_timeout:g} s") from error
            raise
        connection._reader = asyncio.create_task(connection._serve(), name=f"brrr connection to {address}")
        # The reader may be cancelled before it starts.
        connection._reader.add_done_callback(lambda _: connection._fail(ConnectionClosedError()))
        return connection

    @property
    def alive(self) -> bool:
        """Whether the connection takes commands."""
        return self._failure is None

    def send(self, words: Words) -> "Future[Reply]":
        """Send a command and return a future of its reply. An error is a result too: the future never raises one."""
        future: Future[Reply] = self._loop.create_future()
        if self._failure is not None:
            future.set_result(NoReplyError(self._failure, sent=False))
        else:
            self._unsent.append((words, future))
            self._to_send.set()
        return future

    async def lost(self, *, within: float) -> bool:
        """Wait until the connection is lost or closed, at most `within` seconds. Return whether it is."""
        assert self._reader is not None  # noqa: S101 - `open` has set it
        done, _ = await asyncio.wait({self._reader}, timeout=within)
        return bool(done)

    def close(self, reason: Exception) -> "Task[None]":
        """Take no more commands, and close the connection in a task. The caller waits for the task."""
        self._fail(reason)
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"brrr closes a connection to {self.address}")
        return self._closing

    async def _serve(self) -> None:
        """Read replies until the connection is lost or closed."""
        writer = asyncio.create_task(self._write())
        # Other code may cancel the writer.
        writer.add_done_callback(lambda _: self._stop_reading(ConnectionClosedError()))
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - every error goes to the waiting callers
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
        await self._disconnect()  # the reader may have been cancelled before it started

    async def _disconnect(self) -> None:
        with suppress(RedisError, OSError):  # the connection is closed either way
            await self._transport.disconnect()

    async def _write(self) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                # Do not send cancelled commands.
                batch = [each for each in self._unsent if not each[1].done()]
                self._unsent.clear()
                now = self._loop.time()
                self._awaiting_reply.extend((now, future) for _, future in batch)
                if batch and self._timer is None:
                    self._timer = self._loop.call_at(now + self._timeout, self._check_timeout)
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
            except ERROR_REPLIES as error:
                redact(error)
                reply = error
            if self._on_message is not None and isinstance(reply, list) and reply[0] == b"message":
                self._on_message(reply[1])
                continue
            if not self._awaiting_reply:
                raise RedisError(f"the server sent a reply without a command: {reply!r:.100}")
            _, future = self._awaiting_reply.popleft()
            if not future.done():
                future.set_result(reply)

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._awaiting_reply:
            return
        due = self._awaiting_reply[0][0] + self._timeout
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check_timeout)
        else:
            self._stop_reading(TimeoutError(f"no reply within {self._timeout:g} s"))

    def _stop_reading(self, error: Exception) -> None:
        self._fail(error)
        if self._reader is not None:
            self._reader.cancel()

    def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, future in self._awaiting_reply:
            if not future.done():
                future.set_result(NoReplyError(error, sent=True))
        for _, future in self._unsent:
            if not future.done():
                future.set_result(NoReplyError(error, sent=False))
        self._awaiting_reply.clear()
        self._unsent.clear()
