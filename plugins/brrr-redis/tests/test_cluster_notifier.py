"""The notifier in a cluster: one connection to each server with watched values, and sharded channels."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Notifier, Swap
from brrr_redis.client.slots import slot_of
from brrr_redis.layout import Layout
from brrr_redis.notifier import RedisNotifier
from brrr_redis.store import RedisStore
from brrr_testkit.servers.redis import Cluster, Server
from brrr_testkit.waiting import BOUND, until


def of_server(number: int, slot: int | None = None) -> str:
    """Return a call hash whose value is on a server of the cluster, or in a slot."""
    low, high = (slot, slot + 1) if slot is not None else (16384 * number // 3, 16384 * (number + 1) // 3)
    return next(str(n) for n in range(10**6) if low <= slot_of(b"brrr:value:%d" % n) < high)


async def woken(event: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND):
        await event.wait()
    event.clear()


def notifier_of(backend: Backend) -> Notifier:
    assert backend.store.notifier is not None
    return backend.store.notifier


async def create(backend: Backend, *names: str) -> None:
    assert all(await backend.store.swap([Swap(Key("value", name), None, b"1") for name in names]))


def subscribed(server: Server) -> int:
    """Return the number of connections of a server that subscribe to channels."""
    return server.do("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n")


@contextmanager
def moved(slot: int, old: Server, new: Server, others: Server) -> Iterator[None]:
    """Move an empty slot to another server, and back."""
    from_, to = (server.do("CLUSTER", "MYID").decode() for server in (old, new))
    try:
        for server in (new, old, others):
            server.do("CLUSTER", "SETSLOT", slot, "NODE", to)
        yield
    finally:
        new.do("FLUSHALL")
        for server in (old, new, others):
            server.do("CLUSTER", "SETSLOT", slot, "NODE", from_)


async def test_each_server_with_watched_values_has_one_connection(whole_cluster: Cluster) -> None:
    whole_cluster.flush()
    first, second, third = whole_cluster.servers
    names = [of_server(0), of_server(1), of_server(0, slot=7)]
    async with brrr.open_backend(whole_cluster.url) as backend, brrr.open_backend(whole_cluster.url) as other:
        notifier, events = notifier_of(backend), [asyncio.Event() for _ in names]
        for name, event in zip(names, events, strict=True):
            assert await notifier.watch(name, event.set)
        assert [subscribed(server) for server in (first, second, third)] == [1, 1, 0]
        await create(other, *names)
        for event in events:
            await woken(event)
        notifier.unwatch(names[0], events[0].set)
        await until(lambda: not first.do("PUBSUB", "SHARDNUMSUB", f"brrr:value:{names[0]}")[1])


async def test_watch_follows_a_slot_that_moves(whole_cluster: Cluster) -> None:
    """The map of the client is old at first. When the slot moves back, the server ends the subscription."""
    whole_cluster.flush()
    slot = 7
    name, beside = of_server(0, slot=slot), of_server(1)
    async with brrr.open_backend(whole_cluster.url) as backend, brrr.open_backend(whole_cluster.url) as other:
        notifier, event, untouched = notifier_of(backend), asyncio.Event(), asyncio.Event()
        assert await notifier.watch(beside, untouched.set)
        with moved(slot, *whole_cluster.servers):
            assert await notifier.watch(name, event.set)
            await create(other, name)
            await woken(event)
        await woken(event)
        await create(other, name)
        await woken(event)
        await create(other, beside)
        await woken(untouched)


async def test_server_without_sharded_channels_lets_clients_poll(old_server: Server) -> None:
    old_server.do("FLUSHALL")
    async with brrr.open_backend(old_server.url) as backend:
        client, layout = backend._client, Layout("")  # type: ignore[attr-defined]
        notifier = RedisNotifier(client, layout, sharded=True)
        store = RedisStore(client, layout, ttl=0, notifier=notifier)
        for name in ("a", "b"):
            assert not await notifier.watch(name, print)
        assert await store.swap([Swap(Key("value", "a"), None, b"1")]) == [True]
        assert not subscribed(old_server)
        await store.close()
