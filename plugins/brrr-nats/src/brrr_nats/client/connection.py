"""One connection to one server, from its login to its end.

nats-py connects, logs in, speaks TLS and takes the protocol apart. What it does with messages, and when a connection is
lost, is replaced: each reply goes to who asked, at once and without a task or a queue between; and nothing that was
sent on a connection is ever sent again on another, by which a request that was given up would be done later.
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

from brrr_nats.client.errors import DeniedError, Lost
from brrr_nats.client.protocol import Frames, Message, Request
from brrr_nats.client.replies import REPLIES, Owner, Waiters

__all__ = ["Connection", "Keeper"]

PARTING: Final = 1.0
"""Seconds that closing gives to what is still being sent."""

READ: Final = 256 * 1024
TASKS: Final = ("_reading_task", "_ping_interval_task", "_flusher_task")
"""Where nats-py keeps the tasks of a connection."""

DENIED: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)


class Keeper(Protocol):
    """Who looks after connections."""

    def told(self, connection: "Connection") -> None:
        """The server has said something of itself: how large messages may be now, which others there are."""
        ...

    def ended(self, connection: "Connection") -> None:
        """The connection is lost."""
        ...


class Connection(Client):
    """A client of nats-py that serves requests, and does not connect again.

    Args:
        keeper: Looks after it.
        name: What the server's certificate has to be for.
        patience: Seconds of silence after which a server is not waited for any longer.
        tls: Whether not to go on without TLS.
        tls_first: Whether it begins with TLS.
    """

    def __init__(
        self, keeper: Keeper, name: str, *, patience: float, tls: bool = False, tls_first: bool = False
    ) -> None:
        super().__init__()
        self.name = name
        self.patience = patience
        self._keeper = keeper
        self._needs_tls = tls and not tls_first
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._waiters = Waiters()
        self._prefix = b""
        self._answered: Future[None] | None = None
        self.cause: Exception | None = None
        self.is_orphaned = False
        """Whether others have cancelled a task of it, and so, it may be, every task of a loop that is ending."""
        self.last_read = self._loop.time()
        self.inbox = ""

    # -- asking --------------------------------------------------------------------------------------------------

    @property
    def info(self) -> dict[str, Any]:
        """What the server has said of itself."""
        return self._server_info

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self.cause is None and self._status == Client.CONNECTED

    @property
    def is_broken(self) -> bool:
        """Whether the system has given it up, and whoever reads from it does not know yet."""
        return self._writer is None or self._writer.transport.is_closing()

    def send(self, owner: Owner, requests: Sequence[Request]) -> list[bytes]:
        """Send requests; the owner gets each reply with the place of its request. Their tokens, for `forget`.

        Raises:
            Lost: The connection is lost; nothing was sent.
        """
        if self.cause is not None:
            raise Lost(self.cause, sent=False)
        tokens = self._waiters.add(owner, requests)
        try:
            self._write(zip(tokens, requests, strict=True))
        except ValueError:
            for token in tokens:
                self._waiters.forget(token)
            raise
        return tokens

    def send_again(self, requests: Iterable[tuple[bytes, Request]]) -> None:
        """Send requests again under their tokens: whichever answer comes first counts.

        Nothing is sent while the first ones are still on their way out.
        """
        writer = self._writer
        if self.cause is None and writer is not None and not writer.transport.get_write_buffer_size():
            self._write(requests)

    def open_lane(self) -> int:
        """A subscription for the messages of pulls, which come with subjects of their own: its number tells them.

        Raises:
            Lost: The connection is lost.
        """
        if self.cause is not None:
            raise Lost(self.cause, sent=False)
        lane = self._waiters.new_lane()
        self._transport.write(b"SUB %blane.%d %d\r\n" % (self._prefix, lane, lane))  # type: ignore[union-attr]
        return lane

    def pull(self, lane: int, owner: Owner, request: Request) -> None:
        """Ask for messages on a lane. They go to the owner, until another asks on it."""
        self._waiters.put_on(lane, owner, request.subject)
        self._transport.write(b"".join(request.encode(b"%blane.%d" % (self._prefix, lane))))  # type: ignore[union-attr]

    def close_lane(self, lane: int) -> None:
        """Have nothing more come on a lane."""
        if self._waiters.close(lane) and self.cause is None:
            self._transport.write(b"UNSUB %d\r\n" % lane)  # type: ignore[union-attr]

    def post(self, request: Request) -> None:
        """Send a message that nobody answers."""
        self._transport.write(b"".join(request.encode(b"")))  # type: ignore[union-attr]

    async def hush(self) -> None:
        """Have the server send no messages any more, and take those that it has sent before."""
        if self.cause is not None:
            return
        lanes = b"".join(b"UNSUB %d\r\n" % lane for lane in self._waiters.lanes)
        self._transport.write(lanes)  # type: ignore[union-attr]
        with suppress(TimeoutError, Lost):
            async with asyncio.timeout(PARTING):
                await self._until_answered()

    def forget(self, token: bytes) -> None:
        """Nobody waits for the reply any more."""
        self._waiters.forget(token)

    async def drain_writes(self) -> None:
        """Wait while more is on its way out than the socket takes."""
        with suppress(OSError):  # the reading side tells
            await self._transport.drain()  # type: ignore[union-attr]

    async def listen(self, inbox: str) -> None:
        """Have the server send replies to subjects that begin so, and see that it does.

        What it says of itself after the login, the account's limit of messages for one, has come by then as well.

        Raises:
            Lost: The connection is lost, or the subjects are not permitted.
        """
        self.inbox = f"{inbox}.{self._nuid.next().decode()}"
        self._prefix = f"{self.inbox}.".encode()
        for task in self._tasks:
            task.add_done_callback(self._on_task_end)
        self._transport.write(b"SUB %b* %d\r\n" % (self._prefix, REPLIES))  # type: ignore[union-attr]
        await self._until_answered()

    def end(self, cause: Exception) -> None:
        """The connection is lost: everybody who waits for a reply is told."""
        if self.cause is not None:
            return
        self.cause = cause
        self._waiters.end(cause)
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        self._keeper.ended(self)

    def _write(self, requests: Iterable[tuple[bytes, Request]]) -> None:
        parts = [part for token, request in requests for part in request.encode(self._prefix + token)]
        self._transport.write(b"".join(parts))  # type: ignore[union-attr]

    async def _until_answered(self) -> None:
        """Wait until the server is through with what it was sent before. Raises `Lost`."""
        answered = self._answered = self._loop.create_future()
        with suppress(OSError):  # the reading side tells
            await self._send_ping(answered)  # pyright: ignore[reportUnknownMemberType] - of a bare `Future`
            await answered
        if self.cause is not None:
            raise Lost(self.cause, sent=False)

    async def shut(self) -> None:
        """Close the socket, and leave no task behind. What was sent is still given to the system, if it takes it."""
        self.end(nats_errors.ConnectionClosedError())
        tasks = self._tasks
        closing = asyncio.create_task(self._shut(), name="brrr closes a connection")
        try:
            await asyncio.wait({closing}, timeout=PARTING)
        finally:
            self.abort()
            closing.cancel()
        await asyncio.wait({closing, *tasks})
        if not closing.cancelled():
            closing.exception()  # whatever it was, the socket is gone

    async def _shut(self) -> None:
        if self._flush_queue is None:  # it was not begun to connect
            return
        await self._close(Client.CLOSED, do_cbs=False)

    def abort(self) -> None:
        """Close the socket at once, and cancel every task."""
        if self._writer is not None:
            self._writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    @property
    def _tasks(self) -> list[Task[None]]:
        return [task for name in TASKS if (task := getattr(self, name)) is not None]

    def _on_task_end(self, task: Task[None]) -> None:
        if task.cancelled() and self.cause is None:
            self.is_orphaned = True
            self.end(ConnectionAbortedError("its tasks were cancelled from outside"))

    @property
    def _writer(self) -> StreamWriter | None:
        return getattr(self._transport, "_io_writer", None)

    # -- what nats-py calls --------------------------------------------------------------------------------------

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._needs_tls:
            # nats-py would go on without TLS, and send the login, where the server does not insist on it.
            if not (info.get("tls_required") or info.get("tls_available")):
                raise ssl.SSLError("the server does not speak TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)
        if not initial_connection:
            self._server_info = {**self._server_info, **info}
            self._keeper.told(self)

    async def _process_err(self, err_msg: str) -> None:
        denied = DENIED.search(err_msg)
        if denied is None:
            self.end(nats_errors.Error(err_msg))
            return
        if denied[1].lower() == "subscription":
            self.end(DeniedError(f"{self.inbox}.*"))  # there are no others, and no answer can come
            return
        self._waiters.deny(denied[2])  # the server names no request

    async def _process_op_err(self, e: Exception) -> None:
        self.end(e)

    async def _read_loop(self) -> None:
        frames = Frames()
        try:
            while data := await self._transport.read(READ):  # type: ignore[union-attr]
                self.last_read = self._loop.time()
                for frame in frames.feed(data):
                    if isinstance(frame, Message):
                        self._waiters.take(frame, frame.subject[len(self._prefix) :])
                    else:
                        await self._ps.parse(frame)
            self.end(nats_errors.UnexpectedEOF())
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection is of no more use
            self.end(error)
