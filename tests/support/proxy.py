"""A proxy in front of a server, which loses answers, cuts connections and refuses new ones on demand."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import hiredis

Asked = TypeVar("Asked")
"""Requests of a client: raw bytes, or parsed commands."""


class Relay(Generic[Asked]):
    """Forwards bytes in both directions.

    Args:
        target: The port of the server on this machine.
        scheme: The scheme of the proxy's URL.
    """

    def __init__(self, target: int, *, scheme: str) -> None:
        self.target = target
        self.scheme = scheme
        self.port = 0
        self.refusing = False
        self._lose: Callable[[Asked], bool] | None = None
        self._drop: Callable[[Asked], bool] | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}"

    def lose_answer_to(self, match: Callable[[Asked], bool]) -> None:
        """Forward the next matching request, and cut the connection instead of forwarding the answer."""
        self._lose = match

    def drop(self, match: Callable[[Asked], bool]) -> None:
        """Discard the next matching request, with all requests in the same chunk."""
        self._drop = match

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.close()

    def reader(self) -> Callable[[bytes], list[Asked]]:
        """Return a function that parses the bytes of one connection."""
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.close()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        answers = asyncio.create_task(self._forward(there, writer))
        try:
            await self._forward_asked(reader, back, there, writer, answers)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            await asyncio.wait({answers})
            for each in (writer, back):
                each.close()
                self._writers.discard(each)

    async def _forward_asked(self, reader, back, there, writer, answers) -> None:
        read = self.reader()
        while data := await reader.read(1 << 20):
            asked = read(data)
            if self._drop is not None and any(map(self._drop, asked)):
                self._drop = None
                continue
            lost = self._lose is not None and any(map(self._lose, asked))
            if lost:
                self._lose = None
                answers.cancel()
                await asyncio.wait({answers})
            back.write(data)
            await back.drain()
            if lost:
                await there.read(1)  # the answer shows that the server has executed the request
                writer.close()
                return

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 20):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class Bytes(Relay[bytes]):
    """A relay that does not parse the bytes."""

    def reader(self) -> Callable[[bytes], list[bytes]]:
        return lambda data: [data]


class Proxy(Relay[list[bytes]]):
    """A relay in front of Redis, which records commands.

    Attributes:
        commands: The commands since the last `clear`, without handshakes.
        trips: The number of chunks with commands; pipelined commands usually arrive in one chunk.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target, scheme="redis")
        self.commands: list[list[bytes]] = []
        self.trips = 0

    @property
    def url(self) -> str:
        return f"{super().url}/0"

    def clear(self) -> None:
        self.commands.clear()
        self.trips = 0

    def reader(self) -> Callable[[bytes], list[list[bytes]]]:
        parser = hiredis.Reader()

        def read(data: bytes) -> list[list[bytes]]:
            parser.feed(data)
            fresh: list[list[bytes]] = []
            while (command := parser.gets()) is not False:
                if command[0] not in (b"CLIENT", b"AUTH", b"SELECT", b"HELLO"):
                    fresh.append(command)
            self.commands += fresh
            self.trips += bool(fresh)
            return fresh

        return read


RelayT = TypeVar("RelayT", bound=Relay)


@asynccontextmanager
async def relayed(proxy: RelayT, *, context: ssl.SSLContext | None = None) -> AsyncIterator[RelayT]:
    """Run a proxy; clients use TLS if a context is given."""
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)


@asynccontextmanager
async def proxied(target: int, *, context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a Redis server on a port of this machine."""
    async with relayed(Proxy(target), context=context) as proxy:
        yield proxy
