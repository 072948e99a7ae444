"""Calls that a spawn limit or a dead letter stopped: no fault keeps a later schedule, or another root, from them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine import scheduling
from brrr_core.errors import BackendUnavailableError
from brrr_core.wire import count_key
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, Fleet, over, serving, working

DEPTH = 4


def fails_at(name: str, items: list[Key] | None = None) -> Instrument:
    """Return an instrument whose first operation of this name, and with these items if any are given, is refused."""
    left = [1]

    async def before(operation: Operation) -> None:
        if left and operation.name == name and items in (None, list(operation.items)):
            left.clear()
            raise BackendUnavailableError("the operation was refused", remedy="It is a fault of the test.")

    return Instrument(before=before)


@pytest.mark.parametrize("level", range(DEPTH))
async def test_failed_operation_does_not_keep_the_mark_of_a_call_that_a_limit_stopped(memory: str, level: int) -> None:
    """A chain is over its limit at its end, and one read fails while the marks above are removed."""

    @brrr.handler
    async def chain(app: brrr.ActiveWorker, n: int) -> int:
        return 1 + await app.call(chain)(n + 1) if n < DEPTH else 0

    async with brrr.open_backend(memory) as backend:
        encoded = brrr.load_codec("json").encode_call("chain", (level,), {})
        instrument = fails_at("store.read", [Key("pending_returns", encoded.call_hash)])
        async with working(over(instrument.wrap(backend), policy=UNPARKED, steps=False), {"chain": chain}) as fleet:
            await fleet.app.schedule(chain, topic=TOPIC, spawn_limit=DEPTH)(0)
            await fleet.dead(1)
            again = await fleet.app.schedule(chain, topic=TOPIC, spawn_limit=100)(0)
            assert again.state == "put"
            assert await fleet.app.result(chain, timeout=BOUND)(0) == DEPTH


@asynccontextmanager
async def marking_late(
    backend: Any, handlers: Mapping[str, Any], task: str, policy: brrr.Policy
) -> AsyncGenerator[Fleet]:
    """Run a worker that puts a call of `task`, and marks it only at the end of the block. In the block runs another."""
    reached, late = asyncio.Event(), asyncio.Event()
    key = Key("pending_returns", brrr.load_codec("json").encode_call(task, (), {}).call_hash)

    async def before(operation: Operation) -> None:
        if operation.name == "store.swap" and key in [swap.key for swap in operation.items]:
            reached.set()
            await late.wait()

    roles = Instrument(before=before).wrap(backend)
    async with working(over(roles, policy=policy, steps=False), handlers, concurrency=1) as fleet:
        await fleet.app.schedule("top", topic=TOPIC, spawn_limit=3)()
        await reached.wait()
        async with working(over(backend, policy=policy, steps=False), handlers) as other:
            yield other
            late.set()
            await other.idle()


@pytest.mark.parametrize("depth", [1, 2])
async def test_call_gets_no_mark_after_a_limit_stopped_it(memory: str, depth: int) -> None:
    """Its message was handled, and itself or a call below it dead-lettered, before the worker that put it marks it."""
    handlers = {"top": calls("mid"), "mid": calls("low"), "low": calls("leaf"), "leaf": calls()}
    async with brrr.open_backend(memory) as backend:
        async with marking_late(backend, handlers, ["low", "mid"][depth - 1], QUICK) as fleet:
            await fleet.dead(1)
        async with working(over(backend), handlers) as fleet:
            assert (await fleet.app.schedule("top", topic=TOPIC)()).state == "put"
            assert await fleet.app.result("top", timeout=BOUND)() == 3


async def test_dead_lettered_call_gets_no_mark(memory: str) -> None:
    """Its message is dead-lettered before the worker that put it marks it."""

    @brrr.handler_no_arg
    async def broken() -> int:
        raise ValueError("it is broken")

    async with brrr.open_backend(memory) as backend:
        policy = replace(QUICK, max_attempts=1)
        async with marking_late(backend, {"top": calls("broken"), "broken": broken}, "broken", policy) as fleet:
            await fleet.dead(1)
        async with working(over(backend), {"top": calls("broken"), "broken": calls()}) as fleet:
            assert (await fleet.app.schedule("top", topic=TOPIC)()).was_dead_lettered
            assert await fleet.app.result("top", timeout=BOUND)() == 1


def calls(*tasks: str) -> Any:
    """Return a handler that calls these tasks, and counts the calls below it."""

    @brrr.handler
    async def handle(app: brrr.ActiveWorker) -> int:
        return sum([1 + await app.call(task)() for task in tasks])

    return handle


async def test_failed_operation_does_not_lose_the_dead_letter_of_a_call_that_failed_for_good(memory: str) -> None:
    @brrr.handler_no_arg
    async def broken() -> None:
        raise ValueError("it is broken")

    policy = replace(QUICK, max_attempts=1, on_exhausted="fail")
    async with brrr.open_backend(memory) as backend:
        roles = fails_at("queue.bury").wrap(backend)
        async with working(over(roles, policy=policy), {"broken": broken}) as fleet:
            await fleet.app.schedule(broken, topic=TOPIC)()
            (reason,) = await fleet.dead(1)
            assert "it is broken" in reason
            assert await fleet.idle() == (0, 0, 0, 1)


async def test_root_that_has_used_up_its_limit_hands_over_a_parent_of_a_call_that_it_gave_up(url: str) -> None:
    """Its last wake-up runs a parent that misses a call whose message was dead-lettered for this root before."""
    limit, runs = 100, 0

    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    @brrr.handler
    async def first(app: brrr.ActiveWorker) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await set_count(limit)
        return await app.call(leaf)()

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(app.call(first)(), app.event("go", returns=int)))

    @brrr.handler
    async def top(app: brrr.ActiveWorker, name: str) -> str:
        return f"{name} {await app.call(parent)()}"

    async def set_count(count: int) -> None:
        key, cache = count_key(hog.root_id or ""), fleet.connection.cache
        await cache.increment({key: count - (await cache.increment({key: 0}))[key]})

    handlers = {"top": top, "parent": parent, "first": first, "leaf": leaf}
    async with serving(url, handlers, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        hog = await fleet.app.schedule(top, topic=TOPIC)("hog")
        await fleet.dead(1)  # `first`; `parent` waits for the event
        await fleet.idle()
        await fleet.app.schedule(top, topic=TOPIC)("other")
        await fleet.idle()
        await set_count(limit - 2)  # enough to complete the event: for a wake-up now, and one that guards it
        await fleet.app.event("go").complete(2)
        assert await fleet.app.result(top, timeout=BOUND)("other") == "other 3"


async def test_parent_without_room_in_the_record_of_a_call_that_a_limit_stopped_does_not_look_forever(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "RETURNS_LIMIT", 1)
    limit = 100

    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    @brrr.handler
    async def child(app: brrr.ActiveWorker) -> int:
        await fleet.connection.cache.increment({count_key(app.root_id): limit})
        return await app.call(leaf)()

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return n + await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(3))))

    handlers = {"top": top, "parent": parent, "child": child, "leaf": leaf}
    async with serving(memory, handlers, policy=replace(QUICK, spawn_limit=limit)) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        assert await fleet.idle() == (0, 0, 0, 3)  # the child, and the parents without room
