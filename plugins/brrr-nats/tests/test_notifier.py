"""The notifier: a subscription to each watched value, on the connection that sends the requests."""

import asyncio
import time

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Notifier, Swap
from brrr_testkit.servers.nats import Server
from brrr_testkit.waiting import BOUND, until

MAY_NOT_WATCH = 'authorization { users: [{ user: u, password: p, permissions: { subscribe: "_INBOX.>" } }] }'


def notifier_of(backend: Backend) -> Notifier:
    assert backend.store.notifier is not None
    return backend.store.notifier


async def create(backend: Backend, name: str) -> None:
    assert await backend.store.swap([Swap(Key("value", name), None, b"1")]) == [True]


async def woken(event: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND):
        await event.wait()
    event.clear()


def subscriptions(server: Server) -> int:
    """Return how many values the connections of a server have subscribed to."""
    subjects = [subject for each in server.connections() for subject in each.get("subscriptions_list", ())]
    return sum(subject.startswith("$KV.") for subject in subjects)


async def test_server_sends_only_the_watched_values(own_server: Server) -> None:
    async with brrr.open_backend(own_server.url) as backend:
        notifier, events = notifier_of(backend), [asyncio.Event() for _ in range(50)]
        assert all(await asyncio.gather(*(notifier.watch(f"a{n}", event.set) for n, event in enumerate(events))))
        assert subscriptions(own_server) == len(events)
        await create(backend, "b")
        await create(backend, "a0")
        await woken(events[0])
        assert not any(event.is_set() for event in events)
        for n, event in enumerate(events):
            notifier.unwatch(f"a{n}", event.set)
        await until(lambda: subscriptions(own_server) == 0)


async def test_value_that_is_stored_after_its_hint_wakes_again(server: Server, bucket: str) -> None:
    async with brrr.open_backend(f"{server.url}?bucket={bucket}") as backend:
        wakes = list[float]()
        assert await notifier_of(backend).watch("a", lambda: wakes.append(time.monotonic()))
        await create(backend, "a")
        await until(lambda: len(wakes) == 3)


async def test_watch_outlives_a_restart_of_the_server(own_server: Server) -> None:
    async with brrr.open_backend(own_server.url) as backend:
        notifier, event = notifier_of(backend), asyncio.Event()
        assert await notifier.watch("one", event.set)
        own_server.kill()
        own_server.start()
        await woken(event)
        assert await notifier.watch("two", asyncio.Event().set)
        await create(backend, "one")
        await woken(event)


async def test_user_who_may_not_subscribe_to_values_polls(own_server: Server) -> None:
    own_server.reload(MAY_NOT_WATCH)
    async with brrr.open_backend(f"nats://u:p@{own_server.place}") as backend:
        notifier = notifier_of(backend)
        for name in ("one", "two"):
            assert not await notifier.watch(name, asyncio.Event().set)
        await create(backend, "one")
        assert own_server.ask("varz")["total_connections"] == 1  # the refusal did not end the connection
