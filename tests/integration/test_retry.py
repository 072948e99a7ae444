"""A retry deletes a failure. A parent that has seen the failure keeps it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_testkit.workloads.fleet import QUICK, TOPIC, Fleet, serving


@dataclass
class World:
    """A service that is broken until it is repaired."""

    broken: bool = True
    runs: Counter[str] = field(default_factory=Counter[str])
    gate: asyncio.Event = field(default_factory=asyncio.Event)


def handlers(world: World) -> Mapping[str, Any]:
    """Return a leaf that fails while the world is broken, with two levels above it."""

    @brrr.handler_no_arg
    async def leaf() -> int:
        world.runs["leaf"] += 1
        if world.broken:
            raise brrr.TerminalError("broken")
        return 1

    @brrr.handler_no_arg
    async def done() -> int:
        world.runs["done"] += 1
        return 2

    @brrr.handler
    async def middle(app: brrr.ActiveWorker) -> int:
        return await app.call(done)() + await app.call(leaf)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return 10 * await app.call(middle)()

    @brrr.handler_no_arg
    async def gated() -> str:
        await world.gate.wait()
        return "gated"

    @brrr.handler
    async def witness(app: brrr.ActiveWorker) -> str:
        try:
            seen = str(await app.call(leaf)())
        except brrr.CallFailedError as error:
            seen = error.message
        return f"{seen} {await app.call(gated)()}"

    return {"leaf": leaf, "done": done, "middle": middle, "top": top, "gated": gated, "witness": witness}


async def known(fleet: Fleet) -> None:
    """Write the marker as an old one, so that the retry does not wait for the workers."""
    await fleet.connection.store.write([(Key("value", "brrr.control"), b"0")])


async def test_retry_runs_a_call_and_the_failed_calls_below_it_again(url: str) -> None:
    world = World()
    async with serving(url, handlers(world)) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run("top")
        world.broken = False
        assert await fleet.app.retry("top", topic=TOPIC)()
        assert await fleet.app.result("top")() == 30
        assert await fleet.idle() == (0, 0, 0, 0)
    assert world.runs == {"leaf": 2, "done": 1}


async def test_retry_finds_causes_that_a_long_chain_leaves_out(memory: str) -> None:
    world = World()

    @brrr.handler
    async def link(app: brrr.ActiveWorker, number: int) -> int:
        return await (app.call(link)(number - 1) if number else app.call("leaf", returns=int)())

    async with serving(memory, {**handlers(world), "link": link}) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run(link, 30)
        world.broken = False
        assert await fleet.app.retry(link, topic=TOPIC)(30)
        assert await fleet.app.result(link)(30) == 1


@pytest.mark.parametrize("task", ["leaf", "never scheduled"])
async def test_nothing_is_retried_without_a_failure(memory: str, task: str) -> None:
    world = World(broken=False)
    async with serving(memory, handlers(world)) as fleet:
        if task == "leaf":
            await fleet.run(task)
        assert not await fleet.app.retry(task, topic=TOPIC)()
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_second_retry_does_not_put_the_call_again(memory: str) -> None:
    world = World()
    async with serving(memory, handlers(world)) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run("leaf")
    async with brrr.connect(memory) as connection:
        app = brrr.AppConsumer(codec="json", connection=connection)
        assert [await app.retry("leaf", topic=TOPIC)() for _ in range(3)] == [True, False, False]
        assert (await connection.queue.stats(TOPIC)).ready == 1


async def test_parent_keeps_the_failure_that_it_has_seen(url: str) -> None:
    world = World()
    async with serving(url, handlers(world)) as fleet:
        await known(fleet)
        await fleet.app.schedule("witness", topic=TOPIC)()
        with pytest.raises(brrr.CallFailedError):
            await fleet.app.result("leaf")()
        await fleet.settled(leased=1)  # the witness has seen it, and waits for the gate
        world.broken = False
        assert await fleet.app.retry("leaf", topic=TOPIC)()
        assert await fleet.app.result("leaf")() == 1
        world.gate.set()
        assert await fleet.app.result("witness")() == "broken gated"
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_retried_parent_forgets_the_failures_that_it_has_seen(memory: str) -> None:
    world = World()

    @brrr.handler
    async def careful(app: brrr.ActiveWorker) -> str:
        (seen,) = await app.gather(app.call("leaf")(), return_exceptions=True)
        await app.call("done")()
        if isinstance(seen, brrr.CallFailedError):
            raise seen
        return f"leaf is {seen}"

    async with serving(memory, {**handlers(world), "careful": careful}) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run(careful)
        world.broken = False
        assert await fleet.app.retry(careful, topic=TOPIC)()
        assert await fleet.app.result(careful)() == "leaf is 1"


async def test_cancelled_call_runs_again_after_a_retry(memory: str) -> None:
    world = World(broken=False)
    async with serving(memory, handlers(world)) as fleet:
        assert await fleet.app.cancel("top", topic=TOPIC)()
        await fleet.app.schedule("done", topic=TOPIC, delay=0.5)()
        await known(fleet)
        assert await fleet.app.cancel("done", topic=TOPIC)()
        with pytest.raises(brrr.CallFailedError):
            await fleet.app.result("done")()
        assert world.runs == {}
        assert await fleet.app.retry("done", topic=TOPIC)()
        assert await fleet.app.result("done")() == 2


async def test_retried_call_starts_new_waits(memory: str) -> None:
    runs: list[str] = []

    @brrr.handler
    async def impatient(app: brrr.ActiveWorker) -> str:
        await app.sleep(0.01)
        return await app.event("approval", deadline=0.2 if not runs else 60.0, returns=str)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        return await app.call(impatient)()

    async with serving(memory, {"impatient": impatient, "top": top}) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError) as caught:
            await fleet.run(top)
        assert "DeadlineExceeded" in str(caught.value.causes)
        runs.append("failed")
        assert await fleet.app.retry(top, topic=TOPIC)()
        await fleet.app.event("approval").complete("granted")
        assert await fleet.app.result(top)() == "granted"


async def test_exhausted_call_is_retried_beside_its_dead_letter(memory: str) -> None:
    world = World()

    @brrr.handler_no_arg(max_attempts=1, on_exhausted="fail")
    async def flaky() -> str:
        if world.broken:
            raise OSError("down")
        return "up"

    async with serving(memory, {"flaky": flaky}, policy=QUICK) as fleet:
        await known(fleet)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run(flaky)
        world.broken = False
        assert await fleet.app.retry(flaky, topic=TOPIC)()
        assert await fleet.app.result(flaky)() == "up"
        assert (await fleet.idle()).dead == 1


async def test_redriven_dead_letter_takes_the_failure_of_its_call_back(url: str) -> None:
    world = World()

    @brrr.handler_no_arg(max_attempts=1, on_exhausted="fail")
    async def flaky(number: int) -> str:
        if world.broken:
            raise OSError("down")
        return "up"

    async with serving(url, {"flaky": flaky}, policy=QUICK) as fleet:
        await known(fleet)
        for number in range(3):
            with pytest.raises(brrr.CallFailedError):
                await fleet.run(flaky, number)
        await fleet.dead(3)
        world.broken = False
        assert await fleet.connection.redrive(TOPIC, limit=10) == 3
        assert [await fleet.app.result(flaky)(number) for number in range(3)] == ["up"] * 3
        assert await fleet.idle() == (0, 0, 0, 0)
