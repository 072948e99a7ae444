"""Every operation is one command, for any number of items; a proxy counts them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Delivery, Key, Queue, Swap
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import Cluster, Server

TOPIC = "jobs"
MANY = 500


async def held(queue: Queue) -> list[Delivery]:
    await queue.put(TOPIC, [b"%d" % number for number in range(MANY)])
    return await queue.receive(TOPIC, limit=MANY, wait=0)


async def nothing(queue: Queue) -> None:
    return None


async def dead_letters(queue: Queue) -> None:
    for each in (await held(queue))[:3]:
        await queue.bury(each, "x")


KEYS = [Key("value", f"h{number}") for number in range(MANY)]
OPERATIONS: dict[str, tuple[Callable[[Queue], Awaitable[Any]], Callable[[Backend, Any], Awaitable[Any]]]] = {
    "put": (nothing, lambda b, _: b.queue.put(TOPIC, [b"x"] * MANY)),
    "put delayed": (nothing, lambda b, _: b.queue.put(TOPIC, [b"x"] * MANY, delay=1)),
    "receive": (nothing, lambda b, _: b.queue.receive(TOPIC, limit=MANY, wait=0)),
    "ack": (held, lambda b, found: b.queue.ack(found)),
    "release": (held, lambda b, found: b.queue.release(found)),
    "release delayed": (held, lambda b, found: b.queue.release(found, delay=1)),
    "extend": (held, lambda b, found: b.queue.extend(found)),
    "bury": (held, lambda b, found: b.queue.bury(found[0], "x")),
    "stats": (nothing, lambda b, _: b.queue.stats(TOPIC)),
    "dead": (dead_letters, lambda b, _: b.queue.dead(TOPIC, limit=MANY)),
    "redrive": (dead_letters, lambda b, _: b.queue.redrive(TOPIC, limit=MANY)),
    "drop": (dead_letters, lambda b, _: b.queue.drop(TOPIC, limit=MANY)),
    "read": (nothing, lambda b, _: b.store.read(KEYS)),
    "write": (nothing, lambda b, _: b.store.write([(key, b"v") for key in KEYS])),
    "swap": (nothing, lambda b, _: b.store.swap([Swap(key, None, b"v") for key in KEYS])),
    "increment": (nothing, lambda b, _: b.cache.increment({f"brrr_count/{number}": 1 for number in range(MANY)})),
}


@pytest.mark.parametrize("ttl", ["", "?ttl=1h"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_operation_is_one_command(valkey: Server, name: str, ttl: str) -> None:
    prepare, operate = OPERATIONS[name]
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url + ttl) as backend:
        await operate(backend, await prepare(backend.queue))  # now the server has seen the script
        prepared = await prepare(backend.queue)
        proxy.clear()

        await operate(backend, prepared)

        names = [words[0] for words in proxy.commands]
        assert len(names) == 1, names
        assert proxy.trips == 1


async def test_empty_batches_send_no_command(valkey: Server) -> None:
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        proxy.clear()

        await backend.queue.put(TOPIC, [])
        await backend.queue.ack([])
        await backend.queue.release([])
        await backend.queue.extend([])
        assert await backend.store.read([]) == []
        await backend.store.write([])
        assert await backend.store.swap([]) == []
        assert await backend.cache.increment({}) == {}

        assert proxy.commands == []


async def test_concurrent_operations_share_a_round_trip(valkey: Server) -> None:
    import asyncio

    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.store.read(KEYS[:1])
        proxy.clear()

        await asyncio.gather(*(backend.store.read([key]) for key in KEYS[:50]))

        assert len(proxy.commands) == 50
        assert proxy.trips <= 2


async def test_cluster_gets_one_command_for_each_slot(whole_cluster: Cluster) -> None:
    whole_cluster.flush()
    async with brrr.open_backend(whole_cluster.url) as backend:
        keys = [Key("value", f"{{{number % 5}}}{number}") for number in range(100)]
        await backend.store.write([(key, b"v") for key in keys])
        for server in whole_cluster.servers:
            server.do("CONFIG", "RESETSTAT")

        assert await backend.store.read(keys) == [b"v"] * 100

        stats = [server.do("INFO", "commandstats") for server in whole_cluster.servers]
        assert sum(each.get("cmdstat_mget", {"calls": 0})["calls"] for each in stats) == 5
