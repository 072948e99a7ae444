"""One connection to a server, shared by concurrent callers.

If no command waits for its reply, the next one is sent immediately. Otherwise all commands of one turn of the event
loop are sent together, so concurrent callers share a pipeline. Replies come back in order. If a caller is cancelled,
the connection stays usable: it reads the reply and drops it.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, Task
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from brrr_redis.client.commands import Words
from brrr_redis.client.errors import ConnectionClosedError, NoReplyError, redact
from brrr_redis.location import Address

__all__ = ["OnMessage", "PipelinedConnection", "Reply"]

pack = cast("Callable[[Words], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] - its stub takes one word only

Reply: TypeAlias = Any
"""A reply: bytes, integers, lists of these, or None. Also an error: a `RedisError` or a `NoReplyError`."""

OnMessage: TypeAlias = Callable[[bytes], None]

MESSAGES: Final = (b"message", b"smessage")
"""The first words of messages: of channels, and of sharded channels."""

ERROR_REPLIES: Final = (ResponseError, AuthenticationError, BusyLoadingError)
"""Errors that are the reply to one command. The connection can read the next reply."""

READ_BYTES: Final = 1 << 18
"""Size of the buffer for replies. Without a buffer, asyncio allocates as much for each read."""


class PipelinedConnection(asyncio.BufferedProtocol):
    """A connection that callers share. Create it with `PipelinedConnection.open`.

    redis-py connects and logs in. Then this object replaces its streams, and parses replies without a task.

    Attributes:
        address: The server.
    """

    def __init__(
        self, connection: AbstractConnection, address: Address, *, timeout: float, on_message: OnMessage | None = None
    ) -> None:
        self.address = address
        self._on_message = on_message
        self._connection = connection
        self._timeout = timeout
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._unsent: list[tuple[bytes, Future[Reply]]] = []
        self._awaiting_reply: deque[tuple[float, Future[Reply]]] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._serving: Task[None] | None = None
        self._closing: Task[None] | None = None

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        address: Address,
        *,
        timeout: float,
        connect_timeout: float,
        on_message: OnMessage | None = None,
    ) -> "PipelinedConnection":
        """Connect, and log in.

        Args:
            connection: Connection of redis-py, not connected yet.
            address: The server.
            timeout: Seconds to wait for a reply.
            connect_timeout: Seconds to wait for the connection and the login.
            on_message: Called with the channel of each message, if the connection subscribes to channels.

        Raises:
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        ours = cls(connection, address, timeout=timeout, on_message=on_message)
        scope = asyncio.timeout(connect_timeout)
        try:
            async with scope:
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            redact(error)  # a server without AUTH repeats the password in its error
            await connection.disconnect(nowait=True)
            if scope.expired():
                raise TimeoutError(f"no reply within {connect_timeout:g} s") from error
            raise
        ours._take_over(connection)
        ours._serving = asyncio.create_task(ours._serve(), name=f"brrr connection to {address}")
        # The task may be cancelled before it starts.
        ours._serving.add_done_callback(lambda _: ours._fail(ConnectionClosedError()))
        return ours

    @property
    def alive(self) -> bool:
        """Whether the connection takes commands."""
        return self._failure is None

    def send(self, words: Words) -> "Future[Reply]":
        """Send a command and return a future of its reply. An error is a result too: the future never raises one."""
        packed = pack(words)
        future: Future[Reply] = self._loop.create_future()
        if self._failure is not None:
            future.set_result(NoReplyError(self._failure, sent=False))
            return future
        if not self._unsent and not self._paused:
            if not self._awaiting_reply:
                self._note_sent((future,))
                self._transport.write(packed)
                return future
            self._loop.call_soon(self._write)
        self._unsent.append((packed, future))
        return future

    async def lost(self, *, within: float) -> bool:
        """Wait up to `within` seconds for the connection to be lost or closed. Return whether it was."""
        assert self._serving is not None  # noqa: S101 - `open` has set it
        done, _ = await asyncio.wait({self._serving}, timeout=within)
        return bool(done)

    def close(self, reason: Exception) -> "Task[None]":
        """Refuse new commands, and close the connection in a task. The caller waits for the task."""
        self._fail(reason)
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"brrr closes a connection to {self.address}")
        return self._closing

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes of replies."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse replies, and give them to their callers."""
        if self._failure is not None:
            return
        awaiting_reply, parser = self._awaiting_reply, self._parser
        try:
            parser.feed(cast("bytes", self._buffer), 0, nbytes)  # the stub does not know that it takes buffers
            while (reply := parser.gets()) is not False:
                if isinstance(reply, Exception):
                    redact(reply)
                    if not isinstance(reply, ERROR_REPLIES):
                        raise reply
                if self._on_message is not None and isinstance(reply, list) and reply[0] in MESSAGES:
                    self._on_message(reply[1])  # pyright: ignore[reportUnknownArgumentType] - a list of any items
                    continue
                if not awaiting_reply:
                    raise RedisError(f"the server sent a reply without a command: {reply!r:.100}")
                _, future = awaiting_reply.popleft()
                if not future.done():
                    future.set_result(reply)
        except Exception as error:  # noqa: BLE001 - every error goes to the waiting callers
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the commands without a reply."""
        self._fail(exc or RedisConnectionError("Connection closed by server."))
        self._streams.connection_lost(exc)  # redis-py waits for it

    def pause_writing(self) -> None:
        """Keep new commands, because the server reads more slowly than they arrive."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write the commands that arrived in the meantime."""
        self._paused = False
        self._write()

    def _take_over(self, connection: Any) -> None:
        """Replace the streams of redis-py, which has no public name for them."""
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001 - see above
        self._streams: asyncio.BaseProtocol = self._transport.get_protocol()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001 - the classes of errors by their codes
        )
        self._transport.set_protocol(self)

    async def _serve(self) -> None:
        """Wait until the connection fails, and close it."""
        try:
            await self._failed.wait()
        finally:
            self._fail(ConnectionClosedError())
            await self._disconnect()

    async def _close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
        await self._disconnect()  # the task may have been cancelled before it started

    async def _disconnect(self) -> None:
        with suppress(RedisError, OSError):  # the connection is closed either way
            await self._connection.disconnect()

    def _write(self) -> None:
        if self._paused or self._failure is not None:
            return
        # Do not send cancelled commands.
        batch = [each for each in self._unsent if not each[1].done()]
        self._unsent.clear()
        if not batch:
            return
        self._note_sent([future for _, future in batch])
        self._transport.writelines([packed for packed, _ in batch])

    def _note_sent(self, futures: Iterable[Future[Reply]]) -> None:
        now = self._loop.time()
        self._awaiting_reply.extend([(now, future) for future in futures])
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout, self._check_timeout)

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._awaiting_reply:
            return
        due = self._awaiting_reply[0][0] + self._timeout
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check_timeout)
        else:
            self._fail(TimeoutError(f"no reply within {self._timeout:g} s"))

    def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = error
        self._failed.set()
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
