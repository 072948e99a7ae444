"""A connection that concurrent callers share: cancelled commands, late replies, closing while it opens."""

import asyncio
from types import SimpleNamespace

import pytest
from redis.asyncio.connection import Connection

from brrr_core.errors import BackendClosedError
from brrr_redis.client.errors import ConnectionClosedError, NoReplyError
from brrr_redis.client.login import ConnectionSettings, Connector
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.location import Address
from brrr_testkit.faults.relay import RedisProxy, relayed


@pytest.fixture
def connector():
    return Connector(ConnectionSettings(Connection, {}, timeout=0.2, connect_timeout=5))


async def test_command_is_sent_immediately_if_no_other_waits_for_its_reply(backend, monkeypatch):
    connection = backend._client.router.ready(b"")
    written: list[bytes] = []
    monkeypatch.setattr(connection, "_transport", SimpleNamespace(write=written.append, writelines=written.extend))

    connection.send(("GET", "x"))
    connection.send(("GET", "y"))
    connection.send(("GET", "z"))
    assert len(written) == 1

    await asyncio.sleep(0)
    assert len(written) == 3, "the others are sent together"


async def test_cancelled_command_is_not_sent(backend):
    connection = backend._client.router.ready(b"")
    before = connection.send(("GET", "x"))
    connection.send(("SET", "x", "1")).cancel()  # it waits for the end of the turn

    assert await connection.send(("GET", "x")) is None
    assert await before is None


async def test_replies_to_cancelled_commands_are_dropped(backend):
    connection = backend._client.router.ready(b"")
    replies = [connection.send(("ECHO", str(number))) for number in range(100)]
    await asyncio.sleep(0)  # the commands are sent now
    for future in replies[::3]:
        future.cancel()

    for number, future in enumerate(replies):
        if not future.cancelled():
            assert await future == str(number).encode()


async def test_commands_wait_while_the_server_does_not_read(backend):
    connection = backend._client.router.ready(b"")
    connection.pause_writing()
    replies = [connection.send(("ECHO", str(number))) for number in range(3)]
    for _ in range(3):
        await asyncio.sleep(0)
    replies[1].cancel()
    assert not connection._awaiting_reply, "no command was sent"

    connection.resume_writing()

    assert [await replies[0], await replies[2]] == [b"0", b"2"]


async def test_reply_that_arrives_in_parts_is_whole(valkey, connector):
    connection = await connector.connect(Address("127.0.0.1", valkey.port))
    try:
        text = bytes(3_000_000)
        assert await asyncio.gather(*(connection.send(("ECHO", text + b"%d" % n)) for n in range(3))) == [
            text + b"%d" % n for n in range(3)
        ]
    finally:
        await connection.close(ConnectionClosedError())


async def test_each_reply_has_its_own_timeout(valkey, connector):
    async with relayed(RedisProxy(valkey.port)) as proxy:
        connection = await connector.connect(Address("127.0.0.1", proxy.port))
        try:
            begun = asyncio.get_running_loop().time()
            assert await connection.send(("PING",)) == b"PONG"
            await asyncio.sleep(0.1)  # half the timeout of the next command, and of the timer that this one started
            late = connection.send(("BLPOP", "nothing", 5))
            async with asyncio.timeout(5):
                lost = await late
            assert asyncio.get_running_loop().time() - begun > 0.29
            assert "no reply within 0.2 s" in str(lost)
            assert not connection.alive
        finally:
            await connection.close(ConnectionClosedError())


async def test_connection_that_opens_while_the_pool_closes_is_closed(valkey, connector):
    connected, proceed = asyncio.Event(), asyncio.Event()
    opened = []

    class Slow(Connector):
        async def connect(self, address, **options):
            opened.append(await connector.connect(address, **options))
            connected.set()
            await proceed.wait()
            return opened[0]

    pool = ConnectionPool(Slow.__new__(Slow))
    opening = asyncio.create_task(pool.open_dedicated(Address("127.0.0.1", valkey.port), extra_timeout=1))
    await connected.wait()
    await pool.close()
    proceed.set()

    with pytest.raises(BackendClosedError):
        await opening
    assert not opened[0].alive
    await asyncio.wait(pool._closing)


async def test_concurrent_operations_open_one_connection(valkey, backend):
    before = int(valkey.do("INFO", "clients")["connected_clients"])
    backend._client.router.invalidate(backend._client.router.ready(b""))

    await asyncio.gather(*(backend.queue.stats(f"t{number}") for number in range(50)))

    assert int(valkey.do("INFO", "clients")["connected_clients"]) <= before


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["before they start", "as they start", "at rest"])
async def test_command_ends_if_other_code_cancels_the_task_of_its_connection(valkey, connector, turns):
    connection = await connector.connect(Address("127.0.0.1", valkey.port), extra_timeout=300)
    for _ in range(turns):
        await asyncio.sleep(0)
    reply = connection.send(("BLPOP", "nothing", 0))
    connection._serving.cancel()

    async with asyncio.timeout(30):
        assert isinstance(await reply, NoReplyError)
    assert not connection.alive
    await connection.close(ConnectionClosedError())
