"""A proxy in front of a server: it loses answers on purpose, cuts connections, and refuses new ones."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import hiredis

Asked = TypeVar("Asked")
"""What a client has sent: bytes as they come, or the commands that they are."""


class Relay(Generic[Asked]):
    """Forwards bytes both ways.

    Args:
        target: The server's port on this machine.
        scheme: What the URL of the proxy begins with.
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
        """Let the server do the next thing that matches, and cut the connection instead of passing the answer on."""
        self._lose = match

    def drop(self, match: Callable[[Asked], bool]) -> None:
        """Keep the next thing that matches from the server, with what came together with it, and say nothing."""
        self._drop = match

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.close()

    def reader(self) -> Callable[[bytes], list[Asked]]:
        """What reads the bytes of one connection."""
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
                await there.read(1)  # the server has done it
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
    """One that does not know what it forwards."""

    def reader(self) -> Callable[[bytes], list[bytes]]:
        return lambda data: [data]


class Proxy(Relay[list[bytes]]):
    """One in front of Redis, that records the commands that pass.

    Attributes:
        commands: What clients have sent since the last `clear`, handshakes left out.
        trips: How often a client has sent something, as far as the proxy can tell: pipelined commands come together.
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
    """Run a proxy, with TLS in front where a context is given."""
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
    """A proxy before a Redis server on a port of this machine."""
    async with relayed(Proxy(target), context=context) as proxy:
        yield proxy
