"""TCP proxies in front of a server. They lose answers, fall silent, cut connections and refuse new ones on demand."""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from brrr_testkit.processes import MissingExtraError

__all__ = ["Bytes", "NatsProxy", "RedisProxy", "Relay", "relayed"]

Asked = TypeVar("Asked")
"""Requests of a client: raw bytes, or parsed commands."""

PUBLISHED: Final = re.compile(rb"(H?PUB) (\S+) (?:\S+ )?(?:\d+ )?(\d+)\r\n")
"""First line of a message that a NATS client publishes: kind, subject, size."""


class Relay(Generic[Asked]):
    """Forwards bytes in both directions.

    Args:
        target: The port of the server on this machine.
        scheme: The scheme of the proxy's URL.

    Attributes:
        port: The port of the proxy.
        refusing: Whether new connections are closed at once.
    """

    def __init__(self, target: int, *, scheme: str) -> None:
        self.target = target
        self.scheme = scheme
        self.port = 0
        self.refusing = False
        self._lose: Callable[[Asked], bool] | None = None
        self._drop: Callable[[Asked], bool] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def place(self) -> str:
        """Host and port of the proxy."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL for a backend."""
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

    def silence(self) -> None:
        """Forward nothing in either direction, and keep the connections open, as a broken network does."""
        self._flowing.clear()

    def restore(self) -> None:
        """End `silence` and `refusing`. Bytes that arrived meanwhile are forwarded."""
        self.refusing = False
        self._flowing.set()

    def reader(self) -> Callable[[bytes], list[Asked]]:
        """Return a function that parses the bytes of one connection."""
        raise NotImplementedError

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until a side closes it."""
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

    async def _forward_asked(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: "asyncio.Task[None]",
    ) -> None:
        read = self.reader()
        while data := await reader.read(1 << 20):
            await self._flowing.wait()
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
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class Bytes(Relay[bytes]):
    """A relay that does not parse the bytes."""

    def reader(self) -> Callable[[bytes], list[bytes]]:
        """Return a function that returns its bytes."""
        return lambda data: [data]


class RedisProxy(Relay[list[bytes]]):
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
        """URL for a backend, with the number of its database."""
        return f"{super().url}/0"

    def clear(self) -> None:
        """Forget the commands and the trips."""
        self.commands.clear()
        self.trips = 0

    def reader(self) -> Callable[[bytes], list[list[bytes]]]:
        """Return a function that parses and records the commands of one connection."""
        try:
            import hiredis
        except ImportError as error:
            raise MissingExtraError("hiredis", extra="redis") from error
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


class NatsProxy(Relay[bytes]):
    """A relay in front of NATS, which records messages.

    Attributes:
        subjects: The subjects to which clients published.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target, scheme="nats")
        self.subjects: list[str] = []

    def reader(self) -> Callable[[bytes], list[bytes]]:
        """Return a function that parses and records the subjects of one connection."""
        buffer = bytearray()

        def read(data: bytes) -> list[bytes]:
            buffer.extend(data)
            fresh: list[bytes] = []
            while (end := buffer.find(b"\r\n")) >= 0:
                found = PUBLISHED.match(buffer)
                length = end + 2
                if found:
                    length = found.end() + int(found[3]) + 2
                    if len(buffer) < length:
                        break
                    fresh.append(bytes(found[2]))
                del buffer[:length]
            self.subjects += [each.decode() for each in fresh]
            return fresh

        return read


RelayT = TypeVar("RelayT", bound=Relay[Any])


@asynccontextmanager
async def relayed(proxy: RelayT, *, context: ssl.SSLContext | None = None) -> AsyncGenerator[RelayT]:
    """Run a proxy; clients use TLS if a context is given."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
