"""Servers that sentinels watch: the client finds the primary, even after a failover."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendRefusedError, BackendUnavailableError
from brrr_testkit.servers.redis import valkey_program, watched_pair
from brrr_testkit.waiting import until

pytestmark = pytest.mark.cluster

TOPIC = "jobs"


@pytest.fixture
def watched(tmp_path):
    servers = watched_pair(valkey_program(), tmp_path)
    yield servers
    for server in servers:
        server.kill()


async def test_failover_loses_no_replicated_data(watched):
    primary, replica, sentinel = watched
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/jobs?lease=1s&retry_for=30s"
    async with brrr.open_backend(url) as backend:
        queue, store = backend.queue, backend.store
        await queue.put(TOPIC, [b"%d" % number for number in range(20)])
        held = await queue.receive(TOPIC, limit=10, wait=0)
        await queue.ack(held[:5])
        await store.swap([Swap(Key("value", "h"), None, b"before")])
        waiting = asyncio.create_task(queue.receive("other", limit=1, wait=60))
        assert primary.do("WAIT", 1, 5000) == 1

        await asyncio.to_thread(primary.kill)
        await queue.put("other", [b"after"])

        assert replica.do("ROLE")[0] == b"master"
        async with asyncio.timeout(30):
            assert [each.body for each in await waiting] == [b"after"]
            assert await store.read([Key("value", "h")]) == [b"before"]
            seen: set[bytes] = set()
            while len(seen) < 15:
                found = await queue.receive(TOPIC, limit=100, wait=1)
                await queue.ack(found)
                seen.update(each.body for each in found)
        assert not seen & {each.body for each in held[:5]}


async def test_waiting_receive_finds_the_new_primary(watched):
    primary, replica, sentinel = watched
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs?sweep=1h"
    async with brrr.open_backend(url) as backend:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        async with asyncio.timeout(30):
            await until(lambda: int(primary.do("INFO", "clients")["blocked_clients"]) == 1, bound=30)
            await asyncio.to_thread(primary.kill)
            await until(lambda: replica.do("ROLE")[0] == b"master", bound=30)
            replica.do("RPUSH", TOPIC, b"after")
            assert [each.body for each in await waiting] == [b"after"]


async def test_primary_of_an_outdated_sentinel_is_refused(watched):
    """The sentinel names the former primary, which is now a replica."""
    primary, replica, sentinel = watched
    async with brrr.open_backend(f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs") as backend:
        address = await backend._client.router.address(b"")  # pyright: ignore[reportAttributeAccessIssue] - looks inside
    assert address.port == primary.port
    sentinel.kill()
    replica.do("REPLICAOF", "NO", "ONE")
    primary.do("REPLICAOF", "127.0.0.1", replica.port)
    sentinel.start()
    with pytest.raises(BackendUnavailableError, match="which is not the primary now"):
        await brrr.open_backend(f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs", retry_for=0.1).open()


async def test_unknown_service_raises(watched):
    _, _, sentinel = watched
    with pytest.raises(BackendRefusedError, match="knows no service 'unknown'"):
        await brrr.open_backend(f"redis+sentinel://127.0.0.1:{sentinel.port}/unknown").open()


async def test_unreachable_sentinels_raise():
    with pytest.raises(BackendUnavailableError, match=r"no sentinel names a primary.*127\.0\.0\.1:1"):
        await brrr.open_backend("redis+sentinel://127.0.0.1:1/jobs", retry_for=0.1).open()


async def test_opening_waits_for_a_sentinel_that_starts_later(watched, caplog):
    _, _, sentinel = watched
    sentinel.kill()
    backend = brrr.open_backend(f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs", retry_for=60)
    opening = asyncio.create_task(backend.open())
    await until(lambda: "Waiting for it" in caplog.text)

    await asyncio.to_thread(sentinel.start)

    await opening
    await backend.queue.stats("jobs")
    await backend.close()
