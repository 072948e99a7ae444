"""One connection to one server, from its login to its end.

nats-py connects, logs in and speaks TLS. This class replaces its handling of messages and of lost connections: each
reply goes to its handler at once, without a task or a queue in between; and a request that was sent on a connection is
never sent again on another by nats-py, since its caller may have given up by then.
"""

import asyncio
import re
import ssl
from asyncio import AbstractEventLoop, Future, StreamWriter, Task
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from nats import errors as nats_errors
from nats.aio.client import Client

from brrr_nats.client.errors import DeniedError, NoReplyError
from brrr_nats.client.protocol import FrameParser, Message, Request
from brrr_nats.client.replies import REPLIES, ReplyHandler, ReplyRouter

__all__ = ["Connection", "ConnectionObserver"]

CLOSE_TIMEOUT_SECONDS: Final = 1.0
"""Seconds that closing waits for bytes that are still being sent."""

READ_BYTES: Final = 256 * 1024
TASK_ATTRIBUTES: Final = ("_reading_task", "_ping_interval_task", "_flusher_task")
"""Attributes in which nats-py keeps the tasks of a connection."""

PERMISSION_ERROR: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)


class ConnectionObserver(Protocol):
    """The owner of connections."""

    def info_changed(self, connection: "Connection") -> None:
        """Handle a new INFO of the server, such as another `max_payload` or other servers of the cluster."""
        ...

    def connection_lost(self, connection: "Connection") -> None:
        """Handle the loss of the connection."""
        ...


class Connection(Client):
    """A client of nats-py that sends requests, and never reconnects.

    Args:
        observer: The owner of the connection.
        name: The host name that the server's certificate must have.
        silence_timeout: Seconds without a byte from the server after which a late reply ends the connection.
        tls: Whether TLS is required.
        tls_first: Whether the connection begins with the TLS handshake.
    """

    def __init__(
        self,
        observer: ConnectionObserver,
        name: str,
        *,
        silence_timeout: float,
        tls: bool = False,
        tls_first: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.silence_timeout = silence_timeout
        self._observer = observer
        self._needs_tls = tls and not tls_first
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._router = ReplyRouter()
        self._prefix = b""
        self._pong: Future[None] | None = None
        self.cause: Exception | None = None
        self.is_orphaned = False
        """Whether other code cancelled one of its tasks, for example when the event loop shuts down."""
        self.last_read = self._loop.time()
        self.inbox = ""

    # -- requests --------------------------------------------------------------------------------------------------

    @property
    def info(self) -> dict[str, Any]:
        """The server's INFO."""
        return self._server_info

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self.cause is None and self._status == Client.CONNECTED

    @property
    def is_broken(self) -> bool:
        """Whether the socket is closed, though the reading task has not noticed yet."""
        return self._writer is None or self._writer.transport.is_closing()

    def send(self, handler: ReplyHandler, requests: Sequence[Request]) -> list[bytes]:
        """Send requests. The handler gets each reply with the index of its request. Return the tokens, for `forget`.

        Raises:
            NoReplyError: The connection is lost; nothing was sent.
        """
        if self.cause is not None:
            raise NoReplyError(self.cause, sent=False)
        tokens = self._router.add(handler, requests)
        try:
            self._write(zip(tokens, requests, strict=True))
        except ValueError:
            for token in tokens:
                self._router.forget(token)
            raise
        return tokens

    def resend(self, requests: Iterable[tuple[bytes, Request]]) -> None:
        """Send requests again under their tokens; the first reply counts.

        Does nothing while earlier bytes are still waiting for the socket.
        """
        writer = self._writer
        if self.cause is None and writer is not None and not writer.transport.get_write_buffer_size():
            self._write(requests)

    def open_subscription(self) -> int:
        """Subscribe to a new subject for the messages of pulls. Return the subscription's number.

        The server sends such messages with their own subjects, so only the number identifies the pull.

        Raises:
            NoReplyError: The connection is lost.
        """
        if self.cause is not None:
            raise NoReplyError(self.cause, sent=False)
        subscription = self._router.new_subscription()
        self._transport.write(b"SUB %bpull.%d %d\r\n" % (self._prefix, subscription, subscription))  # type: ignore[union-attr]
        return subscription

    def pull(self, subscription: int, handler: ReplyHandler, request: Request) -> None:
        """Request messages on a subscription. They go to this handler until another pull uses the subscription."""
        self._router.attach(subscription, handler, request.subject)
        self._transport.write(b"".join(request.encode(b"%bpull.%d" % (self._prefix, subscription))))  # type: ignore[union-attr]

    def close_subscription(self, subscription: int) -> None:
        """End a subscription."""
        if self._router.remove(subscription) and self.cause is None:
            self._transport.write(b"UNSUB %d\r\n" % subscription)  # type: ignore[union-attr]

    def send_only(self, request: Request) -> None:
        """Send a message that has no reply."""
        self._transport.write(b"".join(request.encode(b"")))  # type: ignore[union-attr]

    async def unsubscribe_all(self) -> None:
        """End the subscriptions of pulls, and receive the messages that the server sent before."""
        if self.cause is not None:
            return
        subscriptions = b"".join(b"UNSUB %d\r\n" % subscription for subscription in self._router.subscriptions)
        self._transport.write(subscriptions)  # type: ignore[union-attr]
        with suppress(TimeoutError, NoReplyError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._wait_for_pong()

    def forget(self, token: bytes) -> None:
        """Stop waiting for the reply with this token."""
        self._router.forget(token)

    async def drain_writes(self) -> None:
        """Wait while more bytes are waiting than the socket takes."""
        with suppress(OSError):  # the reading task reports it
            await self._transport.drain()  # type: ignore[union-attr]

    async def open_inbox(self, inbox: str) -> None:
        """Subscribe to the replies, and wait until the server confirms it.

        By then, the server has also sent its INFO after the login, with the account's limit for messages.

        Raises:
            NoReplyError: The connection is lost, or the inbox is not permitted.
        """
        self.inbox = f"{inbox}.{self._nuid.next().decode()}"
        self._prefix = f"{self.inbox}.".encode()
        for task in self._tasks:
            task.add_done_callback(self._on_task_end)
        self._transport.write(b"SUB %b* %d\r\n" % (self._prefix, REPLIES))  # type: ignore[union-attr]
        await self._wait_for_pong()

    def end(self, cause: Exception) -> None:
        """Mark the connection as lost, and fail everything that waits on it."""
        if self.cause is not None:
            return
        self.cause = cause
        self._router.fail_all(cause)
        if self._pong is not None and not self._pong.done():
            self._pong.set_result(None)
        self._observer.connection_lost(self)

    def _write(self, requests: Iterable[tuple[bytes, Request]]) -> None:
        parts = [part for token, request in requests for part in request.encode(self._prefix + token)]
        self._transport.write(b"".join(parts))  # type: ignore[union-attr]

    async def _wait_for_pong(self) -> None:
        """Wait until the server has processed everything that was sent before. Raises `NoReplyError`."""
        pong = self._pong = self._loop.create_future()
        with suppress(OSError):  # the reading task reports it
            await self._send_ping(pong)  # pyright: ignore[reportUnknownMemberType] - of a bare `Future`
            await pong
        if self.cause is not None:
            raise NoReplyError(self.cause, sent=False)

    async def shut_down(self) -> None:
        """Close the socket and end all tasks. Bytes that were sent already still go out, if the system takes them."""
        self.end(nats_errors.ConnectionClosedError())
        tasks = self._tasks
        closing = asyncio.create_task(self._shut_down(), name="brrr closes a connection")
        try:
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self.abort()
            closing.cancel()
        await asyncio.wait({closing, *tasks})
        if not closing.cancelled():
            closing.exception()  # retrieve the error; the socket is closed anyway

    async def _shut_down(self) -> None:
        if self._flush_queue is None:  # connecting has not begun
            return
        await self._close(Client.CLOSED, do_cbs=False)

    def abort(self) -> None:
        """Close the socket at once, and cancel all tasks."""
        if self._writer is not None:
            self._writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    @property
    def _tasks(self) -> list[Task[None]]:
        return [task for name in TASK_ATTRIBUTES if (task := getattr(self, name)) is not None]

    def _on_task_end(self, task: Task[None]) -> None:
        if task.cancelled() and self.cause is None:
            self.is_orphaned = True
            self.end(ConnectionAbortedError("its tasks were cancelled from outside"))

    @property
    def _writer(self) -> StreamWriter | None:
        return getattr(self._transport, "_io_writer", None)

    # -- callbacks of nats-py --------------------------------------------------------------------------------------

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._needs_tls:
            # Without this, nats-py would send the login in clear text if the server does not require TLS.
            if not (info.get("tls_required") or info.get("tls_available")):
                raise ssl.SSLError("the server does not speak TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)
        if not initial_connection:
            self._server_info = {**self._server_info, **info}
            self._observer.info_changed(self)

    async def _process_err(self, err_msg: str) -> None:
        denied = PERMISSION_ERROR.search(err_msg)
        if denied is None:
            self.end(nats_errors.Error(err_msg))
            return
        if denied[1].lower() == "subscription":
            self.end(DeniedError(f"{self.inbox}.*"))  # the inbox is denied, so no reply can come
            return
        self._router.deny(denied[2])  # the server names the subject, not the request

    async def _process_op_err(self, e: Exception) -> None:
        self.end(e)

    async def _read_loop(self) -> None:
        frames = FrameParser()
        try:
            while data := await self._transport.read(READ_BYTES):  # type: ignore[union-attr]
                self.last_read = self._loop.time()
                for frame in frames.feed(data):
                    if isinstance(frame, Message):
                        self._router.take(frame, frame.subject[len(self._prefix) :])
                    else:
                        await self._ps.parse(frame)
            self.end(nats_errors.UnexpectedEOF())
        except Exception as error:  # noqa: BLE001 - after any error the connection is unusable
            self.end(error)
