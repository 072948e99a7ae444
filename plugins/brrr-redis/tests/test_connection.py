"""One connection that many use: what is cancelled, what is late, what is closed while it opens."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError
from brrr_redis.client.errors import ConnectionClosedError, NoReplyError
from brrr_redis.client.login import Connector
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.location import Address
from brrr_redis.options import RedisOptions
from tests.support.proxy import proxied


@pytest.fixture
def connector():
    return Connector(RedisOptions(timeout=0.2), username=None, password=None, database=0, tls=False)


async def test_what_is_cancelled_before_it_is_sent_is_not_sent(backend):
    connection = backend._client.router.ready(b"")
    connection.send(("SET", "x", "1")).cancel()

    assert await connection.send(("GET", "x")) is None


async def test_answers_to_what_was_cancelled_go_to_nobody_else(backend):
    connection = backend._client.router.ready(b"")
    asked = [connection.send(("ECHO", str(number))) for number in range(100)]
    await asyncio.sleep(0)  # they are sent now
    for future in asked[::3]:
        future.cancel()

    for number, future in enumerate(asked):
        if not future.cancelled():
            assert await future == str(number).encode()


async def test_each_answer_has_its_own_time(valkey, connector):
    async with proxied(valkey.port) as proxy:
        connection = await connector.connect(Address("127.0.0.1", proxy.port))
        try:
            begun = asyncio.get_running_loop().time()
            assert await connection.send(("PING",)) == b"PONG"
            await asyncio.sleep(0.1)  # half the time of a later one, and of a timer that the first one set
            late = connection.send(("BLPOP", "nothing", 5))
            async with asyncio.timeout(5):
                lost = await late
            assert asyncio.get_running_loop().time() - begun > 0.29
            assert "no reply within 0.2 s" in str(lost)
            assert not connection.alive
        finally:
            await connection.close(lost)


async def test_a_link_that_is_opened_while_all_are_closed_is_closed_too(valkey, connector):
    opened, go_on = asyncio.Event(), asyncio.Event()
    made = []

    class Slow(Connector):
        async def connect(self, address, *, extra_timeout=0):
            made.append(await connector.connect(address, extra_timeout=extra_timeout))
            opened.set()
            await go_on.wait()
            return made[0]

    pool = ConnectionPool(Slow.__new__(Slow))
    opening = asyncio.create_task(pool.open_dedicated(Address("127.0.0.1", valkey.port), extra_timeout=1))
    await opened.wait()
    await pool.close()
    go_on.set()

    with pytest.raises(BackendClosedError):
        await opening
    assert not made[0].alive
    await asyncio.wait(pool._closing)


async def test_many_that_ask_at_once_open_one_connection(valkey):
    async with brrr.open_backend(valkey.url) as backend:
        before = int(valkey.do("INFO", "clients")["connected_clients"])
        backend._client.router.invalidate(backend._client.router.ready(b""))

        await asyncio.gather(*(backend.queue.stats(f"t{number}") for number in range(50)))

        assert int(valkey.do("INFO", "clients")["connected_clients"]) <= before


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["before they begin", "as they begin", "at rest"])
@pytest.mark.parametrize("which", ["reader", "writer"])
async def test_command_whose_link_loses_a_task_to_others_ends_at_once(valkey, connector, turns, which):
    before = asyncio.all_tasks()
    connection = await connector.connect(Address("127.0.0.1", valkey.port), extra_timeout=300)
    for _ in range(turns):
        await asyncio.sleep(0)
    asked = connection.send(("BLPOP", "nothing", 0))
    tasks = asyncio.all_tasks() - before
    for task in tasks & {connection._reader} if which == "reader" else tasks - {connection._reader}:
        task.cancel()
    if which == "writer" and not turns:  # there is none yet
        connection._reader.cancel()

    async with asyncio.timeout(30):
        assert isinstance(await asked, NoReplyError)
    assert not connection.alive
    await connection.close(ConnectionClosedError())
