"""Clusters with moving slots and failing servers."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendRefusedError, BackendUnavailableError
from brrr_redis.client.slots import slot_of
from brrr_testkit.servers.redis import Cluster, valkey_program
from brrr_testkit.waiting import until

pytestmark = pytest.mark.cluster

TOPIC = "jobs"


@pytest.fixture
def replicated(tmp_path):
    cluster = Cluster(valkey_program(), tmp_path, replicas=1)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def of_server(cluster, number):
    """A name with a slot of that server."""
    low, high = 16384 * number // 3, 16384 * (number + 1) // 3
    return next(name for name in map(str, range(10000)) if low <= slot_of(name.encode()) < high)


def value_of(number):
    """A call hash whose value has a slot of that server."""
    low, high = 16384 * number // 3, 16384 * (number + 1) // 3
    return next(str(each) for each in range(10000) if low <= slot_of(b"brrr:value:%d" % each) < high)


async def test_failover_loses_no_replicated_data(replicated):
    first, replica = replicated.servers[0], replicated.servers[3]
    topic = of_server(replicated, 0)
    async with brrr.open_backend(replicated.url, lease=1, retry_for=30) as backend:
        queue = backend.queue
        await queue.put(topic, [b"%d" % number for number in range(20)])
        held = await queue.receive(topic, limit=10, wait=0)
        await queue.ack(held[:5])
        await backend.store.write([(Key("value", str(number)), b"v") for number in range(50)])
        assert first.do("WAIT", 1, 5000) == 1

        await asyncio.to_thread(first.kill)
        await queue.put(topic, [b"after"])

        assert replica.do("ROLE")[0] == b"master"
        assert await backend.store.read([Key("value", str(number)) for number in range(50)]) == [b"v"] * 50
        seen: set[bytes] = set()
        async with asyncio.timeout(30):
            while len(seen) < 16:
                found = await queue.receive(topic, limit=100, wait=1)
                await queue.ack(found)
                seen.update(each.body for each in found)
        assert not seen & {each.body for each in held[:5]}


async def test_waiting_receive_and_watch_continue_after_a_failover(replicated):
    first = replicated.servers[0]
    topic = of_server(replicated, 0)
    call_hash = value_of(0)
    async with brrr.open_backend(replicated.url, retry_for=30) as backend:
        woken = asyncio.Event()
        assert await backend.store.notifier.watch(call_hash, woken.set)
        waiting = asyncio.create_task(backend.queue.receive(topic, limit=1, wait=60))
        await until(lambda: first.do("INFO", "clients")["blocked_clients"] == 1)
        await asyncio.to_thread(first.kill)
        await backend.queue.put(topic, [b"after"])
        async with asyncio.timeout(30):
            assert [each.body for each in await waiting] == [b"after"]
            await woken.wait()  # hints were lost until the replica took over
            woken.clear()
            assert await backend.store.swap([Swap(Key("value", call_hash), None, b"1")]) == [True]
            await woken.wait()


async def test_commands_follow_a_slot_that_moves(whole_cluster):
    """Both redirections: ASK during the move, MOVED after it."""
    whole_cluster.flush()
    here, there, _ = whole_cluster.servers
    call_hash = value_of(0)
    key, name = Key("value", call_hash), f"brrr:value:{call_hash}"
    slot = slot_of(name.encode())
    from_, to = (server.do("CLUSTER", "MYID").decode() for server in (here, there))
    async with brrr.open_backend(whole_cluster.url) as backend:
        store = backend.store
        await store.write([(key, b"1")])
        try:
            there.do("CLUSTER", "SETSLOT", slot, "IMPORTING", from_)
            here.do("CLUSTER", "SETSLOT", slot, "MIGRATING", to)
            here.do("MIGRATE", "127.0.0.1", there.port, name, 0, 5000)

            assert await store.read([key]) == [b"1"]
            assert await store.swap([Swap(key, b"1", b"2")]) == [True]

            for server in (there, here):
                server.do("CLUSTER", "SETSLOT", slot, "NODE", to)
            assert await store.swap([Swap(key, b"2", b"3")]) == [True]
            assert await store.read([key]) == [b"3"]
        finally:
            there.do("DEL", name)
            for server in (here, there):
                server.do("CLUSTER", "SETSLOT", slot, "NODE", from_)


async def test_single_server_used_as_a_cluster_raises(valkey):
    with pytest.raises(BackendRefusedError, match="cluster support disabled"):
        await brrr.open_backend(f"redis+cluster://127.0.0.1:{valkey.port}").open()


async def test_unreachable_cluster_raises():
    with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2 cannot be reached"):
        await brrr.open_backend("redis+cluster://127.0.0.1:1,127.0.0.1:2", retry_for=0.1).open()
