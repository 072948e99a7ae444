"""The notifier: one connection to each server, which subscribes to the values that are waited for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Notifier, Step, Swap
from brrr_redis import notifier as module
from brrr_redis.client.slots import slot_of
from brrr_redis.layout import Layout
from brrr_redis.notifier import RedisNotifier
from brrr_redis.store import RedisStore
from brrr_testkit.servers.redis import Cluster, Server, valkey_program
from brrr_testkit.waiting import BOUND, until


async def woken(event: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND):
        await event.wait()
    event.clear()


def notifier_of(backend: Backend) -> Notifier:
    assert backend.store.notifier is not None
    return backend.store.notifier


async def create(backend: Backend, *names: str) -> None:
    assert all(await backend.store.swap([Swap(Key("value", name), None, b"1") for name in names]))


def subscribers(server: Server, name: str) -> int:
    return int(server.do("PUBSUB", "NUMSUB", f"brrr:value:{name}")[1])


async def test_watches_share_one_connection_that_subscribes_only_to_them(backend: Backend, valkey: Server) -> None:
    notifier, events = notifier_of(backend), [asyncio.Event() for _ in range(100)]
    before = int(valkey.do("INFO", "stats")["total_connections_received"])
    assert all(await asyncio.gather(*(notifier.watch(f"a{n}", event.set) for n, event in enumerate(events))))
    assert int(valkey.do("INFO", "stats")["total_connections_received"]) - before == 2  # one is this command's
    assert [subscribers(valkey, name) for name in ("a0", "a99", "b")] == [1, 1, 0]
    await create(backend, "a0", "b")
    await woken(events[0])
    notifier.unwatch("a0", events[0].set)
    await until(lambda: not subscribers(valkey, "a0"))
    assert not any(event.is_set() for event in events)


@pytest.mark.parametrize("key", [Key("call", "a"), Key("pending_returns", "a"), Key("value", "brrr.state/a")])
async def test_records_that_no_client_waits_for_are_not_published(backend: Backend, valkey: Server, key: Key) -> None:
    await backend.store.swap([Swap(key, None, b"1")])
    await backend.store.write([(key, b"2")])
    assert "cmdstat_publish" not in valkey.do("INFO", "commandstats")


async def test_replaced_or_deleted_value_is_not_published(backend: Backend, valkey: Server) -> None:
    await create(backend, "a")
    await backend.store.swap([Swap(Key("value", "a"), b"1", b"2"), Swap(Key("value", "a"), None, b"3")])
    await backend.store.swap([Swap(Key("value", "a"), b"2", None)])
    assert valkey.do("INFO", "commandstats")["cmdstat_publish"]["calls"] == 1


async def test_lost_connection_is_replaced_and_all_watches_wake(backend: Backend, url: str, valkey: Server) -> None:
    notifier, one, two = notifier_of(backend), asyncio.Event(), asyncio.Event()
    async with brrr.open_backend(url) as other:
        assert await notifier.watch("one", one.set)
        assert await notifier.watch("two", two.set)
        valkey.do("CLIENT", "KILL", "TYPE", "pubsub")
        await woken(one)
        await woken(two)
        await create(other, "one")
        await woken(one)
        assert not two.is_set()


async def test_watch_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    server = Server(valkey_program(), tmp_path).start()
    try:
        async with brrr.open_backend(server.url) as backend:
            notifier, event = notifier_of(backend), asyncio.Event()
            assert await notifier.watch("one", event.set)
            server.kill()
            assert not await notifier.watch("two", event.set)  # so this wait polls
            server.start()
            await woken(event)
            await create(backend, "two")
            await woken(event)
    finally:
        server.stop()


async def test_login_that_may_not_use_channels_polls(valkey: Server) -> None:
    valkey.do("ACL", "SETUSER", "deaf", "reset", "on", ">pw", "~*", "+@all")
    async with brrr.open_backend(f"redis://deaf:pw@127.0.0.1:{valkey.port}/0") as backend:
        notifier = notifier_of(backend)
        assert not await notifier.watch("a", print)
        assert not await notifier.watch("b", print)
        await create(backend, "a")
        assert await backend.store.read([Key("value", "a")]) == [b"1"]


async def test_connection_is_closed_when_nothing_is_watched_for_long(
    backend: Backend, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    notifier, event = notifier_of(backend), asyncio.Event()
    assert await notifier.watch("a", event.set)
    assert valkey.do("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n") == 1
    notifier.unwatch("a", event.set)
    await until(lambda: not valkey.do("CLIENT", "LIST", "TYPE", "pubsub"))
    assert await notifier.watch("b", event.set)
    await create(backend, "b")
    await woken(event)


async def test_watch_that_comes_as_the_connection_closes_is_renewed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    notifier, event = notifier_of(backend), asyncio.Event()
    assert await notifier.watch("a", event.set)
    late: list[asyncio.Task[bool]] = []

    async def is_needed(_: object) -> bool:
        late.append(asyncio.create_task(notifier.watch("b", event.set)))
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(notifier, "_is_needed", is_needed)
    notifier.unwatch("a", event.set)
    await woken(event)
    assert not await late[0]
    await create(backend, "b")
    await woken(event)


async def test_step_that_returns_a_value_wakes(backend: Backend, valkey: Server) -> None:
    assert backend.roles.steps is not None
    notifier, event = notifier_of(backend), asyncio.Event()
    assert await notifier.watch("a", event.set)
    await backend.roles.steps.commit(
        [Step(expected=((Key("value", "a"), None),), writes=((Key("value", "a"), b"1"), (Key("call", "a"), b"1")))]
    )
    await woken(event)
    assert valkey.do("INFO", "commandstats")["cmdstat_publish"]["calls"] == 1


# In a cluster: one connection to each server with watched values, and sharded channels.


def of_server(number: int, slot: int | None = None) -> str:
    """Return a call hash whose value is on a server of the cluster, or in a slot."""
    low, high = (slot, slot + 1) if slot is not None else (16384 * number // 3, 16384 * (number + 1) // 3)
    return next(str(n) for n in range(10**6) if low <= slot_of(b"brrr:value:%d" % n) < high)


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
