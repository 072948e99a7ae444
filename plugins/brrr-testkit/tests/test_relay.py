"""Proxies cut, refuse, fall silent and recover, and record what passes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from brrr_testkit.faults.relay import Bytes, NatsProxy, RedisProxy, Relay, relayed

SILENCE = 0.05
"""Seconds without an answer after which a test takes the proxy for silent."""


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that returns what it receives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await asyncio.wait({asyncio.ensure_future(writer.wait_closed())})

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


class Client:
    """A connection through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes) -> bytes:
        """Send a text, and return the answer; empty if the connection is closed."""
        self.writer.write(text)
        return await self.reader.read(1000)


Connect = Callable[[Relay[Any]], Awaitable[Client]]


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Connect]:
    """Connects to a proxy. The connections are closed after the test."""
    opened: list[Client] = []

    async def connect(proxy: Relay[Any]) -> Client:
        opened.append(Client(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return opened[-1]

    yield connect
    for each in opened:
        each.writer.close()
        await asyncio.wait({asyncio.ensure_future(each.writer.wait_closed())})


async def test_bytes_pass_in_both_directions(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        assert await (await client(proxy)).ask(b"hello") == b"hello"
        assert proxy.url == f"echo://127.0.0.1:{proxy.port}"


async def test_cut_closes_connections_and_new_ones_work(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        first = await client(proxy)
        await first.ask(b"hello")
        proxy.cut()
        assert await first.reader.read() == b""
        assert await (await client(proxy)).ask(b"again") == b"again"


async def test_silent_proxy_forwards_nothing_until_it_is_restored(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        one = await client(proxy)
        await one.ask(b"hello")
        proxy.silence()
        answer = asyncio.ensure_future(one.ask(b"again"))
        done, _ = await asyncio.wait({answer}, timeout=SILENCE)
        assert not done
        proxy.restore()
        assert await answer == b"again"


async def test_refusing_proxy_closes_new_connections_until_it_is_restored(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        proxy.refusing = True
        assert await (await client(proxy)).reader.read() == b""
        proxy.restore()
        assert await (await client(proxy)).ask(b"hello") == b"hello"


async def test_lost_answer_closes_the_connection_after_the_request(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        one = await client(proxy)
        await one.ask(b"hello")
        proxy.lose_answer_to(lambda data: data == b"lose")
        assert await one.ask(b"lose") == b""
        assert await (await client(proxy)).ask(b"lose") == b"lose"


async def test_dropped_request_reaches_no_server(echo: int, client: Connect) -> None:
    async with relayed(Bytes(echo, scheme="echo")) as proxy:
        one = await client(proxy)
        proxy.drop(lambda data: data == b"drop")
        one.writer.write(b"drop")
        done, _ = await asyncio.wait({asyncio.ensure_future(one.reader.read(1))}, timeout=SILENCE)
        assert not done


async def test_redis_proxy_records_commands_without_handshakes(echo: int, client: Connect) -> None:
    async with relayed(RedisProxy(echo)) as proxy:
        await (await client(proxy)).ask(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert (proxy.commands, proxy.trips) == ([[b"GET", b"k"]], 1)
        proxy.clear()
        assert (proxy.commands, proxy.trips) == ([], 0)


async def test_nats_proxy_records_subjects_of_messages_in_pieces(echo: int, client: Connect) -> None:
    async with relayed(NatsProxy(echo)) as proxy:
        one = await client(proxy)
        await one.ask(b"PUB a.b 5\r\nhe")
        assert proxy.subjects == []
        await one.ask(b"llo\r\nPUB c inbox 0\r\n\r\n")
        assert proxy.subjects == ["a.b", "c"]
