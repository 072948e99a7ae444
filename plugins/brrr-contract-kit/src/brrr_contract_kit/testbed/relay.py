"""A TCP relay in front of a server. It loses answers, falls silent, cuts connections and refuses new ones on demand."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Self, TypeVar

__all__ = ["Bytes", "Relay", "relayed"]

Request = TypeVar("Request")
"""Requests of a client: raw bytes, or parsed commands."""

CHUNK = 1 << 20


class Relay(Generic[Request]):
    """Forwards bytes in both directions, from `listen` until the end of `async with`.

    Args:
        target: The port of the server.
        scheme: The scheme of the relay's URL.
        host: The host of the server.

    Attributes:
        port: The port of the relay on this machine. It is closed until `listen`.
        refusing: Whether new connections are closed immediately.
        loses_answer: Called with each chunk of bytes from the server; if true, the chunk is discarded, and its
            connection is cut or falls silent.
        loses_silently: Whether that connection falls silent.
        rewrite: Called with each chunk of bytes from the server; its result is forwarded.
        delay: Seconds to wait before each chunk of bytes is forwarded.
    """

    def __init__(self, target: int, *, scheme: str, host: str = "127.0.0.1") -> None:
        self.target = target
        self.scheme = scheme
        self.host = host
        self.port = 0
        self.refusing = False
        self.loses_answer: Callable[[bytes], bool] | None = None
        self.loses_silently = False
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.delay = 0.0
        self._lose: Callable[[Request], bool] | None = None
        self._drop: Callable[[Request], bool] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def place(self) -> str:
        """Host and port of the relay."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL for a backend."""
        return f"{self.scheme}://{self.place}"

    async def __aenter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        return self

    async def listen(self, context: ssl.SSLContext | None = None) -> None:
        """Accept connections from now on; clients use TLS if a context is given."""
        self._server = await asyncio.start_server(self.serve, sock=self._socket, ssl=context)

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await asyncio.sleep(0)  # transports close in the next turn

    def lose_answer_to(self, match: Callable[[Request], bool]) -> None:
        """Forward the next matching request, and cut the connection instead of forwarding the answer."""
        self._lose = match

    def drop(self, match: Callable[[Request], bool]) -> None:
        """Discard the next matching request, with all requests in the same chunk."""
        self._drop = match

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.close()

    def silence(self) -> None:
        """Forward nothing in either direction, but keep the connections open, like a broken network."""
        self._flowing.clear()

    def restore(self) -> None:
        """End `silence` and `refusing`. Bytes that arrived meanwhile are forwarded."""
        self.refusing = False
        self._flowing.set()

    def reader(self) -> Callable[[bytes], list[Request]]:
        """Return a function that parses the bytes of one connection."""
        raise NotImplementedError

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until a side closes it."""
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            if not self.refusing:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client sees that its connection is closed
        finally:
            self._close(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self.host, self.target)
        self._writers.add(server_writer)
        answers = asyncio.create_task(self._forward(server_reader, writer))
        try:
            await self._forward_requests(reader, server_writer, server_reader, answers)
        finally:
            answers.cancel()
            self._close(server_writer)
            await asyncio.wait({answers})

    def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._writers.discard(writer)

    async def _forward_requests(
        self,
        reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        answers: "asyncio.Task[None]",
    ) -> None:
        read = self.reader()
        while data := await reader.read(CHUNK):
            await self._wait_to_forward()
            requests = read(data)
            if self._drop is not None and any(map(self._drop, requests)):
                self._drop = None
                continue
            lost = self._lose is not None and any(map(self._lose, requests))
            if lost:
                self._lose = None
                answers.cancel()
                await asyncio.wait({answers})
            server_writer.write(data)
            await server_writer.drain()
            if lost:
                await server_reader.read(1)  # the answer shows that the server has executed the request
                return

    async def _wait_to_forward(self) -> None:
        """Wait until a chunk may be forwarded."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flowing.wait()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        try:
            while data := await reader.read(CHUNK):
                await self._wait_to_forward()
                if self.loses_answer is not None and self.loses_answer(data):
                    silent = self.loses_silently
                    if not silent:
                        break
                if silent:
                    continue
                writer.write(data if self.rewrite is None else self.rewrite(data))
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Bytes(Relay[bytes]):
    """A relay that does not parse the bytes."""

    def reader(self) -> Callable[[bytes], list[bytes]]:
        """Return a function that returns its bytes."""
        return lambda data: [data]


RelayT = TypeVar("RelayT", bound=Relay[Any])


@asynccontextmanager
async def relayed(relay: RelayT, *, context: ssl.SSLContext | None = None) -> AsyncGenerator[RelayT]:
    """Run a relay; clients use TLS if a context is given."""
    async with relay:
        await relay.listen(context)
        yield relay
