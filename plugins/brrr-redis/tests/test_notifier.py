"""The notifier: one connection that subscribes to the values that are waited for."""

import asyncio
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Notifier, Step, Swap
from brrr_redis import notifier as module
from brrr_testkit.servers.redis import Server, valkey_program
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
