"""One connection that many use: what is cancelled, what is late, what is closed while it opens."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError
from brrr_redis.dialling import Dialler
from brrr_redis.failures import LinkClosedError, Lost
from brrr_redis.links import Links
from brrr_redis.location import Address
from brrr_redis.options import RedisOptions
from tests.support.proxy import proxied


@pytest.fixture
def dialler():
    return Dialler(RedisOptions(timeout=0.2), username=None, password=None, database=0, tls=False)


async def test_what_is_cancelled_before_it_is_sent_is_not_sent(backend):
    link = backend._client.routes.ready(b"")
    link.ask(("SET", "x", "1")).cancel()

    assert await link.ask(("GET", "x")) is None


async def test_answers_to_what_was_cancelled_go_to_nobody_else(backend):
    link = backend._client.routes.ready(b"")
    asked = [link.ask(("ECHO", str(number))) for number in range(100)]
    await asyncio.sleep(0)  # they are sent now
    for future in asked[::3]:
        future.cancel()

    for number, future in enumerate(asked):
        if not future.cancelled():
            assert await future == str(number).encode()


async def test_each_answer_has_its_own_time(valkey, dialler):
    async with proxied(valkey.port) as proxy:
        link = await dialler.dial(Address("127.0.0.1", proxy.port))
        try:
            begun = asyncio.get_running_loop().time()
            assert await link.ask(("PING",)) == b"PONG"
            await asyncio.sleep(0.1)  # half the time of a later one, and of a timer that the first one set
            late = link.ask(("BLPOP", "nothing", 5))
            async with asyncio.timeout(5):
                lost = await late
            assert asyncio.get_running_loop().time() - begun > 0.29
            assert "no answer within 0.2 s" in str(lost)
            assert not link.alive
        finally:
            await link.end(lost)


async def test_a_link_that_is_opened_while_all_are_closed_is_closed_too(valkey, dialler):
    opened, go_on = asyncio.Event(), asyncio.Event()
    made = []

    class Slow(Dialler):
        async def dial(self, address, *, patience=0):
            made.append(await dialler.dial(address, patience=patience))
            opened.set()
            await go_on.wait()
            return made[0]

    links = Links(Slow.__new__(Slow))
    opening = asyncio.create_task(links.new(Address("127.0.0.1", valkey.port), patience=1))
    await opened.wait()
    await links.close()
    go_on.set()

    with pytest.raises(BackendClosedError):
        await opening
    assert not made[0].alive
    await asyncio.wait(links._ending)


async def test_many_that_ask_at_once_open_one_connection(valkey):
    async with brrr.open_backend(valkey.url) as backend:
        before = int(valkey.do("INFO", "clients")["connected_clients"])
        backend._client.routes.doubt(backend._client.routes.ready(b""))

        await asyncio.gather(*(backend.queue.stats(f"t{number}") for number in range(50)))

        assert int(valkey.do("INFO", "clients")["connected_clients"]) <= before


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["before they begin", "as they begin", "at rest"])
@pytest.mark.parametrize("which", ["reader", "writer"])
async def test_command_whose_link_loses_a_task_to_others_ends_at_once(valkey, dialler, turns, which):
    before = asyncio.all_tasks()
    link = await dialler.dial(Address("127.0.0.1", valkey.port), patience=300)
    for _ in range(turns):
        await asyncio.sleep(0)
    asked = link.ask(("BLPOP", "nothing", 0))
    tasks = asyncio.all_tasks() - before
    for task in tasks & {link._reader} if which == "reader" else tasks - {link._reader}:
        task.cancel()
    if which == "writer" and not turns:  # there is none yet
        link._reader.cancel()

    async with asyncio.timeout(30):
        assert isinstance(await asked, Lost)
    assert not link.alive
    await link.end(LinkClosedError())
