"""Shapes, limits and recovery with a queue of one kind and a store of another."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import brrr_core as brrr
from brrr_core.backend import Roles
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, over, serving, working
from tests.integration.test_shapes import compute_each_number_once, fan_out, square
from tests.integration.test_spawn_limit import bury_infinite_recursion
from tests.support.losses import Stuck, schedule_and_lose


async def test_fib_computes_each_number_once(places: Sequence[str]) -> None:
    await compute_each_number_once(places, 30, 832040)


async def test_fan_out(places: Sequence[str]) -> None:
    async with serving(places, {"fan_out": fan_out, "square": square}) as fleet:
        assert await fleet.run(fan_out, 100) == sum(n * n for n in range(100))
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_child_of_many_parents_runs_once(places: Sequence[str]) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def child() -> int:
        runs["child"] += 1
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return n * await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(30))))

    async with serving(places, {"top": top, "parent": parent, "child": child}) as fleet:
        assert await fleet.run(top) == 7 * sum(range(30))
        assert await fleet.idle() == (0, 0, 0, 0)
    assert runs["child"] == 1


async def test_infinite_recursion_is_dead_lettered(places: Sequence[str]) -> None:
    await bury_infinite_recursion(places, 30)


async def test_redriven_dead_letter_resumes_its_parents(places: Sequence[str]) -> None:
    mended = asyncio.Event()
    attempts: list[int] = []

    @brrr.handler
    async def broken(app: brrr.ActiveWorker) -> int:
        attempts.append(app.attempt)
        if not mended.is_set():
            raise ValueError("broken")
        return 3

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return 1 + await app.call(broken)()

    async with serving(places, {"top": top, "broken": broken}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        assert reason.startswith("ValueError: broken")
        assert await fleet.idle() == (0, 0, 0, 1)
        mended.set()
        assert await fleet.connection.queue.redrive(TOPIC, limit=10) == 1
        assert await fleet.app.result(top, timeout=BOUND)() == 4
        assert await fleet.idle() == (0, 0, 0, 0)
    assert attempts == [1, 2, 1]


async def test_redrive_schedules_workflow_whose_messages_are_lost(places: Sequence[str]) -> None:
    stuck = Stuck()

    @brrr.handler
    async def fib(app: brrr.ActiveWorker, n: int) -> int:
        if n == 4:
            await stuck.here()
        return n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))

    queue, store = places
    async with brrr.connect(queue, store) as connection:
        roles = Roles(connection.queue, connection.store, connection.cache)
        await schedule_and_lose(roles, fib, 12, stuck)
        again = over(roles)
        async with working(again, {"fib": fib}) as fleet:
            await fleet.app.schedule(fib, topic=TOPIC, redrive=True)(12)
            assert await fleet.app.result(fib, timeout=BOUND)(12) == 144
            assert await fleet.idle() == (0, 0, 0, 0)
        await again.close()
