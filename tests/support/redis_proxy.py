"""A proxy in front of a server: it records the commands that pass, and loses answers on purpose."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis

Match = Callable[[list[bytes]], bool]


class Proxy:
    """Forwards bytes both ways.

    Attributes:
        commands: What clients have sent since the last `clear`, handshakes left out.
        trips: How often a client has sent something, as far as the proxy can tell: pipelined commands come together.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.commands: list[list[bytes]] = []
        self.trips = 0
        self.port = 0
        self._lose: Match | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def clear(self) -> None:
        self.commands.clear()
        self.trips = 0

    def lose_answer_to(self, match: Match) -> None:
        """Let the server do the next command that matches, and cut the connection instead of passing the answer on."""
        self._lose = match

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, back}
        answers = asyncio.create_task(self._forward(there, writer))
        try:
            await self._forward_commands(reader, back, there, writer, answers)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            await asyncio.wait({answers})
            for each in (writer, back):
                each.close()
                self._writers.discard(each)

    async def _forward_commands(self, reader, back, there, writer, answers) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 20):
            parser.feed(data)
            fresh: list[list[bytes]] = []
            while (command := parser.gets()) is not False:
                if command[0] not in (b"CLIENT", b"AUTH", b"SELECT", b"HELLO"):
                    fresh.append(command)
            self.commands += fresh
            self.trips += bool(fresh)
            lost = self._lose is not None and any(map(self._lose, fresh))
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


@asynccontextmanager
async def proxied(target: int, *, context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A proxy before a port of this machine, with TLS in front where a context is given."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
