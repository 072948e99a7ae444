"""The spawn limit: infinite recursion is dead-lettered, and affects no other schedule."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import ArgumentError, SpawnLimitError
from brrr_core.wire import count_key
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, over, serving, working


async def bury_infinite_recursion(place: str | Sequence[str], limit: int) -> None:
    """Run an endless recursion until its root is over the limit."""
    runs: Counter[str] = Counter()

    @brrr.handler
    async def forever(app: brrr.ActiveWorker, n: int) -> int:
        runs["forever"] += 1
        return await app.call(forever)(n + 1)

    async with serving(place, {"forever": forever}, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        await fleet.app.schedule(forever, topic=TOPIC)(0)
        (reason,) = await fleet.dead(1)
        assert await fleet.idle() == (0, 0, 0, 1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
        assert letter.attempt == 1  # at once, without another try
    assert "BRRR-ENGINE-01" in reason
    assert str(limit) in reason
    assert runs["forever"] == limit


async def test_infinite_recursion_is_dead_lettered(url: str) -> None:
    await bury_infinite_recursion(url, 50)


async def test_infinite_recursion_that_grows_in_width_is_dead_lettered(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler
    async def forever(app: brrr.ActiveWorker, path: str) -> None:
        runs["forever"] += 1
        await app.gather(*(app.call(forever)(path + letter) for letter in "abc"))

    async with serving(url, {"forever": forever}, policy=replace(QUICK, spawn_limit=100)) as fleet:
        await fleet.app.schedule(forever, topic=TOPIC)("")
        await fleet.dead(1)
        stats = await fleet.idle()
        assert stats.dead >= 1
    assert runs["forever"] <= 100


async def test_handler_that_never_makes_the_same_call_twice_is_dead_lettered(url: str) -> None:
    numbers = iter(range(10_000))

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return await app.call(leaf)(next(numbers))

    async with serving(url, {"fickle": fickle, "leaf": leaf}, policy=replace(UNPARKED, spawn_limit=60)) as fleet:
        await fleet.app.schedule(fickle, topic=TOPIC)()
        await fleet.dead(1)
        reasons = await fleet.dead((await fleet.idle()).dead)
    assert all("BRRR-ENGINE-01" in reason for reason in reasons)
    assert next(numbers) <= 60


async def test_spawn_limit_counts_every_message_of_the_schedule(url: str) -> None:
    """Ten children cost the root 1 + 10 messages and one or two wake-ups: 13 are enough, 10 are not."""

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf)(n) for n in range(10))))

    handlers = {"top": top, "leaf": leaf}
    async with serving(url, handlers, policy=replace(QUICK, spawn_limit=10)) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.dead(1)
        await fleet.idle()
        await fleet.connection.queue.drop(TOPIC, limit=10)
    async with serving(url, handlers, policy=replace(QUICK, spawn_limit=13)) as fleet:
        assert await fleet.run(top) == 45  # a fresh root
        assert await fleet.idle() == (0, 0, 0, 0)


async def shared(url: str, *, late: bool) -> None:
    """A child that runs for one root cannot continue within that root's limit; another root waits for it too."""
    limit = 100
    started, gate = asyncio.Event(), asyncio.Event()

    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    @brrr.handler
    async def child(app: brrr.ActiveWorker) -> int:
        started.set()
        await gate.wait()
        return 1 + await app.call(leaf)()

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, name: str) -> str:
        return f"{name} {await app.call(child)()}"

    handlers = {"parent": parent, "child": child, "leaf": leaf}
    async with serving(url, handlers, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        hog = await fleet.app.schedule(parent, topic=TOPIC)("hog")
        assert hog.root_id is not None
        async with asyncio.timeout(BOUND):
            await started.wait()
        if not late:
            await fleet.app.schedule(parent, topic=TOPIC)("other")
            await fleet.settled(1)  # the other waits for the child, that runs for the hog
        await fleet.connection.cache.increment({count_key(hog.root_id): limit})
        gate.set()
        if late:
            await fleet.dead(1)
            await fleet.app.schedule(parent, topic=TOPIC)("other")
        assert await fleet.app.result(parent, timeout=5)("other") == "other 2"
        assert (await fleet.idle()).dead >= 1  # the hog's own


async def test_root_over_its_limit_hands_shared_child_to_waiting_root(url: str) -> None:
    await shared(url, late=False)


async def test_root_over_its_limit_leaves_shared_child_to_later_root(url: str) -> None:
    await shared(url, late=True)


@pytest.mark.parametrize("late", [False, True])
async def test_root_over_its_limit_hands_call_that_waits_for_an_event_to_another_root(url: str, late: bool) -> None:
    limit = 100

    @brrr.handler
    async def child(app: brrr.ActiveWorker) -> object:
        return await app.event("go")

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, name: str) -> str:
        return f"{name} {await app.call(child)()}"

    async with serving(url, {"parent": parent, "child": child}, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        hog = await fleet.app.schedule(parent, topic=TOPIC)("hog")
        assert hog.root_id is not None
        await fleet.idle()  # the child waits for the event on behalf of the hog
        if not late:
            await fleet.app.schedule(parent, topic=TOPIC)("other")
            await fleet.idle()
        await fleet.connection.cache.increment({count_key(hog.root_id): limit})
        with pytest.raises(SpawnLimitError, match=hog.root_id):
            await fleet.app.event("go").complete("went")
        if late:
            await fleet.app.schedule(parent, topic=TOPIC)("other")
        assert await fleet.app.result(parent, timeout=BOUND)("other") == "other went"


async def test_woken_root_over_its_limit_does_not_delay_others(url: str) -> None:
    limit = 100
    started, gate = asyncio.Event(), asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        started.set()
        await gate.wait()
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, name: str) -> str:
        return f"{name} {await app.call(child)()}"

    async with serving(url, {"parent": parent, "child": child}, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        hog = await fleet.app.schedule(parent, topic=TOPIC)("hog")
        assert hog.root_id is not None
        for n in range(5):
            await fleet.app.schedule(parent, topic=TOPIC)(f"other {n}")
        async with asyncio.timeout(BOUND):
            await started.wait()
        await fleet.settled(1)
        await fleet.connection.cache.increment({count_key(hog.root_id): limit})
        gate.set()
        for n in range(5):
            assert await fleet.app.result(parent, timeout=BOUND)(f"other {n}") == f"other {n} 1"
        (reason,) = await fleet.dead(1)
        assert hog.root_id in reason
        assert await fleet.idle() == (0, 0, 0, 1)


def batch(documents: int, steps: int) -> dict[str, Any]:
    """A batch of documents, each a chain of steps."""

    @brrr.handler_no_arg
    async def step(document: int, number: int) -> int:
        return document * number

    @brrr.handler
    async def handle(app: brrr.ActiveWorker, document: int) -> int:
        return sum([await app.call(step)(document, number) for number in range(steps)])

    @brrr.handler
    async def group(app: brrr.ActiveWorker, first: int) -> int:
        return sum(await app.gather(*(app.call(handle)(first + n) for n in range(5))))

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(group)(first) for first in range(0, documents, 5))))

    return {"step": step, "handle": handle, "group": group, "top": top}


def expected(documents: int, steps: int) -> int:
    return sum(range(documents)) * sum(range(steps))


@pytest.mark.parametrize("limit", [3, 12, 40, 80, 120])
async def test_scheduling_again_under_a_higher_limit_recovers(url: str, limit: int) -> None:
    """The limit may refuse a put, or a wake-up at any depth."""
    async with serving(url, batch(20, 3), policy=replace(QUICK, spawn_limit=limit)) as fleet:
        await fleet.app.schedule("top", topic=TOPIC)()
        (reason, *_) = await fleet.dead(1)
        await fleet.idle()
        assert "spawn_limit=N" in reason
        await fleet.app.schedule("top", topic=TOPIC, spawn_limit=1_000)()
        assert await fleet.app.result("top", timeout=BOUND)() == expected(20, 3)


@pytest.mark.parametrize("limit", [40, 120])
async def test_dead_letters_of_a_limit_recover_under_a_higher_one(url: str, limit: int) -> None:
    async with brrr.open_backend(url) as backend:
        for spawn_limit in (limit, 1_000):
            connection = over(backend, policy=replace(QUICK, spawn_limit=spawn_limit))
            async with working(connection, batch(20, 3)) as fleet:
                if spawn_limit == limit:
                    await fleet.app.schedule("top", topic=TOPIC)()
                    await fleet.dead(1)
                    await fleet.idle()
                else:
                    await backend.queue.redrive(TOPIC, limit=1_000)
                    assert await fleet.app.result("top", timeout=BOUND)() == expected(20, 3)
                    assert await fleet.idle() == (0, 0, 0, 0)
            await connection.close()


async def test_each_schedule_has_its_own_limit(url: str) -> None:
    async with serving(url, batch(20, 3), policy=replace(QUICK, spawn_limit=10)) as fleet:
        low = await fleet.app.schedule("top", topic=TOPIC, spawn_limit=7)()
        (reason, *_) = await fleet.dead(1)
        assert f"the schedule {low.root_id} caused more than 7 messages" in reason
        await fleet.idle()  # until then the call is on its way, and is not put again
        await fleet.app.schedule("top", topic=TOPIC, spawn_limit=1_000)()
        assert await fleet.app.result("top", timeout=BOUND)() == expected(20, 3)


@pytest.mark.parametrize("limit", [0, -5, 10**15 + 1])
async def test_spawn_limit_out_of_range_is_refused(memory: str, limit: int) -> None:
    async with brrr.connect(memory) as connection:
        app = brrr.AppConsumer(codec="json", connection=connection)
        with pytest.raises(ArgumentError, match="spawn_limit"):
            await app.schedule("top", topic=TOPIC, spawn_limit=limit)()
