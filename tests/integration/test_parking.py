"""Parked runs: a handler continues at its `await` if its wake-up arrives in time, and runs again otherwise."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.engine.calls import Defer
from brrr_core.engine.parking import ParkedRun, Parking
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, serving

LONG = replace(QUICK, park=60)
"""No run is aborted because its time is over."""


class World:
    """Counts the runs of a handler that makes two calls, and what it holds meanwhile."""

    def __init__(self, **settings: Any) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []

        @brrr.handler_no_arg
        async def slow(name: str) -> str:
            await self.gate.wait()
            return name

        @brrr.handler_no_arg
        async def quick(name: str) -> str:
            return name

        async def body(app: brrr.ActiveWorker) -> str:
            self.runs += 1
            first = await app.call(quick)("a")
            self.begun.append(first)
            try:
                return first + await app.call(slow)("b")
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise

        self.slow, self.quick, self.parent = (
            slow,
            quick,
            brrr.handler(**settings)(body) if settings else brrr.handler(body),
        )
        self.handlers: Mapping[str, Any] = {"slow": slow, "quick": quick, "parent": self.parent}

    async def reaches(self, notes: list[str]) -> None:
        """Wait until the handler has noted something."""

        async def noted() -> bool:
            return bool(notes)

        await until(noted, "the handler gets there")


async def test_parked_handler_continues_at_its_await(url: str) -> None:
    world = World()
    world.gate.set()
    async with serving(url, world.handlers, policy=LONG) as fleet:
        assert await fleet.run(world.parent) == "ab"
        assert await fleet.idle() == (0, 0, 0, 0)
    assert (world.runs, world.begun, world.ended) == (1, ["a"], [])


async def test_parked_handler_is_aborted_after_its_time_and_runs_again(url: str) -> None:
    world = World()
    async with serving(url, world.handlers, policy=replace(QUICK, park=0.05)) as fleet:
        await fleet.app.schedule(world.parent, topic=TOPIC)()
        await world.reaches(world.ended)
        world.gate.set()
        assert await fleet.app.result(world.parent, timeout=BOUND)() == "ab"
        await fleet.idle()
    assert world.runs > 1
    assert world.ended == ["Defer"]


@pytest.mark.parametrize("off", [{"park": False}, {"timeout": 60}])
async def test_handler_that_forbids_it_or_has_a_timeout_is_not_parked(memory: str, off: dict[str, Any]) -> None:
    world = World(**off)
    world.gate.set()
    async with serving(memory, world.handlers, policy=LONG) as fleet:
        assert await fleet.run(world.parent) == "ab"
    assert world.runs == 3


async def test_policy_turns_parking_off(memory: str) -> None:
    world = World()
    world.gate.set()
    async with serving(memory, world.handlers, policy=UNPARKED) as fleet:
        assert await fleet.run(world.parent) == "ab"
    assert world.runs == 3


async def test_block_without_parking_aborts_the_handler_at_its_calls(memory: str) -> None:
    runs: list[str] = []

    @brrr.handler_no_arg
    async def quick(name: str) -> str:
        return name

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> str:
        runs.append("run")
        first = await app.call(quick)("a")
        with app.no_parking():
            second = await app.call(quick)("b")
        return first + second + await app.call(quick)("c")

    async with serving(memory, {"quick": quick, "parent": parent}, policy=LONG) as fleet:
        assert await fleet.run(parent) == "abc"
    assert len(runs) == 2


async def test_timeout_in_a_parked_handler_aborts_it(memory: str) -> None:
    world = World()
    late: list[str] = []

    @brrr.handler
    async def impatient(app: brrr.ActiveWorker) -> str:
        try:
            async with asyncio.timeout(0.05):
                return await app.call(world.slow)("b")
        except Defer:
            world.ended.append("aborted")
            raise
        except TimeoutError:
            late.append("late")  # without a delivery: the handler must not get here
            return "late"

    handlers = {**world.handlers, "impatient": impatient}
    async with serving(memory, handlers, policy=LONG) as fleet:
        await fleet.app.schedule(impatient, topic=TOPIC)()
        await world.reaches(world.ended)
        world.gate.set()
        assert await fleet.app.result(impatient, timeout=BOUND)() == "b"
    assert late == []


async def test_calls_beside_a_handler_are_not_parked(memory: str) -> None:
    runs: list[str] = []

    @brrr.handler_no_arg
    async def quick(name: str) -> str:
        return name

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> str:
        runs.append("run")

        async def helper() -> str:
            return await app.call(quick)("a") + await app.call(quick)("b")

        first, second = await app.gather(helper(), app.call(quick)("c"))
        return first + second

    async with serving(memory, {"quick": quick, "parent": parent}, policy=LONG) as fleet:
        assert await fleet.run(parent) == "abc"
    assert len(runs) > 1


async def test_failure_reaches_a_parked_handler_and_is_the_same_in_its_next_run(memory: str) -> None:
    seen: list[str] = []

    @brrr.handler_no_arg
    async def broken() -> None:
        raise brrr.TerminalError("broken")

    world = World()

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> str:
        try:
            await app.call(broken)()
        except brrr.CallFailedError as error:
            seen.append(error.message)
        return await app.call(world.slow)("b")

    handlers = {**world.handlers, "parent": parent, "broken": broken}
    async with serving(memory, handlers, policy=LONG) as fleet:
        world.gate.set()
        assert await fleet.run(parent) == "b"
    assert seen == ["broken"]


async def test_parked_runs_are_bounded_by_the_concurrency(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    original = Parking.wait

    async def watched(self: Parking, *args: Any) -> bool:
        nonlocal most
        most = max(most, len(self._runs))
        return await original(self, *args)

    monkeypatch.setattr(Parking, "wait", watched)

    @brrr.handler
    async def chain(app: brrr.ActiveWorker, length: int) -> int:
        return 0 if length == 0 else 1 + await app.call(chain)(length - 1)

    async with serving(memory, {"chain": chain}, policy=LONG, concurrency=4) as fleet:
        assert await fleet.run(chain, 40) == 40
    assert 1 <= most <= 4


async def test_aborted_handlers_that_clean_up_are_bounded_too(memory: str) -> None:
    """A worker with three slots parks six handlers that do not end. The seventh keeps its slot, and its message."""
    cleaning, clean, leased = 0, asyncio.Event(), list[int]()

    @brrr.handler
    async def slow(app: brrr.ActiveWorker, n: int) -> None:
        nonlocal cleaning
        try:
            await app.call("served by none", topic="elsewhere")(n)
        finally:
            cleaning += 1
            await clean.wait()

    async with serving(memory, {"slow": slow}, policy=replace(QUICK, park=0.01), concurrency=3) as fleet:
        for n in range(7):

            async def cleans_up(count: int = n + 1) -> bool:
                return cleaning == count

            await fleet.app.schedule(slow, topic=TOPIC)(n)
            await until(cleans_up, f"{n + 1} handlers clean up")
            leased.append((await fleet.stats()).leased)
        clean.set()
    assert leased == [0, 0, 0, 0, 0, 0, 1]


async def test_stopping_worker_aborts_its_parked_runs(url: str) -> None:
    world = World()
    async with serving(url, world.handlers, policy=LONG, topics=[TOPIC]) as fleet:
        await fleet.app.schedule(world.parent, topic=TOPIC)()
        await world.reaches(world.begun)
        await fleet.settled(1)
    assert world.ended == ["Defer"]
    world.gate.set()
    async with serving(url, world.handlers, policy=LONG) as fleet:
        assert await fleet.app.result(world.parent, timeout=BOUND)() == "ab"
        await fleet.idle()


@pytest.mark.parametrize("seed", range(8))
async def test_runs_that_are_aborted_at_random_end_alike(url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    original = Parking.find

    def find(self: Parking, root_id: str, call_hash: str) -> ParkedRun | None:
        parked = original(self, root_id, call_hash)
        if parked is not None and chance.random() < 0.4:
            self.abort(parked)
            return None
        return parked

    monkeypatch.setattr(Parking, "find", find)
    values = Counter[int]()

    @brrr.handler_no_arg
    async def leaf(number: int) -> int:
        values[number] += 1
        return number

    @brrr.handler
    async def node(app: brrr.ActiveWorker, depth: int, number: int) -> int:
        if depth == 0:
            return await app.call(leaf)(number)
        total = await app.call(node)(depth - 1, 2 * number)
        total += sum(await app.gather(app.call(node)(depth - 1, 2 * number + 1), app.call(leaf)(-number)))
        return total + await app.call(leaf)(1000 + number)

    async with serving(url, {"leaf": leaf, "node": node}, policy=LONG) as fleet:
        assert await fleet.run(node, 3, 1) == _total(3, 1)
        assert await fleet.idle() == (0, 0, 0, 0)


def _total(depth: int, number: int) -> int:
    if depth == 0:
        return number
    return _total(depth - 1, 2 * number) + _total(depth - 1, 2 * number + 1) - number + 1000 + number
