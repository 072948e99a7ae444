"""Clients that are gone leave nothing at the server; thousands of leases at a time."""

import asyncio
import random

import pytest

import brrr_core as brrr
from brrr_testkit import waiting
from brrr_testkit.servers.nats import nats_program, until
from brrr_testkit.workloads.soak import TOPIC, workers

nats_program()

MANY = 5000
CLIENTS = 4


def consumers(server):
    return server.streams()["brrr"].get("consumer_detail") or []


def left(server):
    """Return the server's counts of connections, subscriptions, consumers and waiting pulls."""
    connections = server.connections()
    return (
        len(connections),
        sum(each["subscriptions"] for each in connections),
        len(consumers(server)),
        sum(each["num_waiting"] for each in consumers(server)),
    )


async def test_killed_workers_leave_only_one_consumer_per_topic(own_server):
    async with brrr.open_backend(own_server.url) as backend:
        await backend.queue.put("once", [b"x"])
        (found,) = await backend.queue.receive("once", limit=1, wait=5)
        await backend.queue.ack([found])
        connections, subscriptions, _, _ = left(own_server)
        assert connections == 1
        async with workers([own_server.url], 3, random.Random(1)) as crew:
            await asyncio.to_thread(
                until, lambda: left(own_server)[2:] == (2, 3) and len(own_server.connections()) == 4, "all workers wait"
            )
            crew.stop()
        await asyncio.to_thread(until, lambda: left(own_server)[0] == 1, "the connections are gone")
        await asyncio.to_thread(
            until, lambda: left(own_server) == (1, subscriptions, 2, 0), "one consumer for each topic is left alone"
        )
        assert all(each["config"].get("durable_name") for each in consumers(own_server))


async def test_closed_clients_leave_only_one_consumer(own_server):
    for _ in range(5):
        async with brrr.open_backend(own_server.url) as backend:
            assert await backend.queue.receive(TOPIC, limit=10, wait=0) == []
            waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=10, wait=60))
            await asyncio.to_thread(until, lambda: left(own_server)[3] == 1, "a pull waits")
            waiting.cancel()
            await asyncio.wait({waiting})
    await asyncio.to_thread(until, lambda: left(own_server) == (0, 0, 1, 0), "one consumer is left alone")


@pytest.fixture
def cluster_url(shared_cluster, names):
    yield f"{shared_cluster.url}?replicas=3&stream={names}-q&bucket={names}-s"
    shared_cluster.servers[0].forget(f"{names}-")


@pytest.mark.parametrize("kind", ["url", pytest.param("cluster_url", marks=pytest.mark.cluster)])
async def test_thousands_of_leases_are_held_at_a_time(request, kind):
    url = f"{request.getfixturevalue(kind)}&lease=60s"
    opened = [brrr.open_backend(url) for _ in range(CLIENTS)]
    try:
        for each in opened:
            await each.open()
        bodies = [b"%d" % number for number in range(MANY)]
        await opened[0].queue.put(TOPIC, bodies)

        async def lease(queue):
            held = []
            while len(held) < MANY // CLIENTS:
                held += await queue.receive(TOPIC, limit=min(500, MANY // CLIENTS - len(held)), wait=10)
            return held

        async with asyncio.timeout(60):
            held = await asyncio.gather(*(lease(each.queue) for each in opened))
        assert sorted(each.body for mine in held for each in mine) == sorted(bodies)
        assert {each.attempt for mine in held for each in mine} == {1}
        stats = await opened[0].queue.stats(TOPIC)
        assert (stats.ready, stats.leased) == (0, MANY)
        for each, mine in zip(opened, held, strict=True):
            await each.queue.extend(mine)
        assert await opened[0].queue.receive(TOPIC, limit=1, wait=0) == []
        for each, mine in zip(opened, held, strict=True):
            await each.queue.ack(mine)

        async def empty():
            return await opened[0].queue.stats(TOPIC) == (0, 0, 0, 0)

        # Replicas remove acknowledged messages a little later.
        await waiting.until(empty, "the queue is empty", bound=60)
    finally:
        for each in opened:
            await each.close()
