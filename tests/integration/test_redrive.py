"""`schedule(..., redrive=True)`: a workflow whose queue lost everything ends correctly, at a linear cost."""

import asyncio
from collections import Counter
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.wire import decode_message
from brrr_testkit.faults.instrument import Instrument, Operation, bodies_put
from brrr_testkit.workloads.fleet import BOUND, TOPIC, UNPARKED, Fleet, over, until_idle, working
from tests.support.losses import Stuck, chain, lose_everything, schedule_and_lose


@pytest.mark.parametrize("place", [0, 4, 9], ids=lambda n: f"stuck at {n}")
async def test_redrive_finishes_workflow_whose_messages_are_lost(url: str, place: int) -> None:
    stuck = Stuck()
    runs: Counter[int] = Counter()

    @brrr.handler
    async def fib(app: brrr.ActiveWorker, n: int) -> int:
        if n == place:
            await stuck.here()
        runs[n] += 1
        return n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))

    async with brrr.open_backend(url) as backend:
        await schedule_and_lose(backend, fib, 12, stuck)
        runs.clear()
        puts: Counter[tuple[str, ...]] = Counter()

        def note(operation: Operation, result: object) -> None:
            puts.update(tuple(decode_message(body)) for body in bodies_put(operation, result))

        instrument = Instrument(effect=note)
        connection = over(instrument.wrap(backend), policy=UNPARKED)
        async with working(connection, {"fib": fib}) as fleet:
            again = await fleet.app.schedule(fib, topic=TOPIC, redrive=True)(12)
            assert await fleet.app.result(fib, timeout=BOUND)(12) == 144
            assert await fleet.idle() == (0, 0, 0, 0)
        await connection.close()

    # Under the new root every call is put once for itself, and woken once; what the lost root registered is woken too.
    mine = {call_hash: number for (root, call_hash), number in puts.items() if root == again.root_id}
    assert len(mine) <= 13
    assert max(mine.values()) <= 2
    assert puts.total() <= 3 * 13
    assert max(runs.values()) <= 3


async def test_redrive_reaches_calls_at_any_depth(url: str) -> None:
    """Every level was put long ago and is lost. Only the mark of the redriven root says so."""
    depth = 8
    stuck = Stuck()
    deep = chain(stuck)
    async with brrr.open_backend(url) as backend:
        await schedule_and_lose(backend, deep, depth, stuck)
        connection = over(backend)
        async with working(connection, {"deep": deep}) as fleet:
            await fleet.app.schedule(deep, topic=TOPIC)(depth)  # without the mark the topmost waits for what is lost
            assert await fleet.idle() == (0, 0, 0, 0)
            with pytest.raises(brrr.NotFoundError):
                await fleet.app.read(deep)(depth)
            await fleet.app.schedule(deep, topic=TOPIC, redrive=True)(depth)
            assert await fleet.app.result(deep, timeout=BOUND)(depth) == depth
            assert await fleet.idle() == (0, 0, 0, 0)
        await connection.close()


async def test_redrive_of_running_workflow_does_no_harm(url: str) -> None:
    finished: Counter[str] = Counter()

    @brrr.handler
    async def tree(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
        value = 1
        if depth:
            value += sum(await app.gather(app.call(tree)(depth - 1, path + "l"), app.call(tree)(depth - 1, path + "r")))
        finished[path] += 1
        return value

    async with brrr.open_backend(url) as backend:
        connection = over(backend)
        async with working(connection, {"tree": tree}, concurrency=4) as fleet:
            await fleet.app.schedule(tree, topic=TOPIC)(5)
            await fleet.app.schedule(tree, topic=TOPIC, redrive=True)(5)
            await fleet.app.schedule(tree, topic=TOPIC, redrive=True)(5)
            assert await fleet.app.result(tree, timeout=BOUND)(5) == 63
            assert await fleet.idle() == (0, 0, 0, 0)
            gone = await fleet.app.schedule(tree, topic=TOPIC, redrive=True)(5)
            assert gone.root_id is None  # a call that has a value is not put
        await connection.close()
    assert len(finished) == 63


async def test_redrives_within_one_second_each_find_what_was_lost(url: str) -> None:
    """Everything is lost after each schedule, twice; the third redrive finds it all, within the second of the first."""
    width = 5

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf, topic="leaves")(n) for n in range(width))))

    handlers = {"top": top, "leaf": leaf}
    async with brrr.open_backend(url) as backend:
        puts: Counter[tuple[str, ...]] = Counter()

        def note(operation: Operation, result: object) -> None:
            puts.update(tuple(decode_message(body)) for body in bodies_put(operation, result))

        async def lose_the_leaves(fleet: Fleet, *, redrive: bool) -> str | None:
            scheduled = await fleet.app.schedule(top, topic=TOPIC, redrive=redrive)()
            assert await fleet.idle() == (0, 0, 0, 0)
            assert await lose_everything(backend.queue, "leaves") == width
            return scheduled.root_id

        connection = over(Instrument(effect=note).wrap(backend))
        async with working(connection, handlers) as fleet:
            await lose_the_leaves(fleet, redrive=False)
            roots = [await lose_the_leaves(fleet, redrive=True) for _ in range(2)]
            last = await fleet.app.schedule(top, topic=TOPIC, redrive=True)()
            async with working(over(backend), handlers, topics=("leaves",)):
                assert await fleet.app.result(top, timeout=BOUND)() == sum(range(width))
        await connection.close()

    for root in (*roots, last.root_id):
        mine = {call_hash: number for (of, call_hash), number in puts.items() if of == root}
        assert len(mine) == 1 + width
        del mine[last.call_hash]  # also woken
        assert set(mine.values()) == {1}


async def test_concurrent_redrives_leave_a_workflow_correct(url: str) -> None:
    @brrr.handler
    async def chain(app: brrr.ActiveWorker, n: int) -> int:
        return 1 + await app.call(chain, topic="lower")(n - 1) if n else 0

    async with brrr.open_backend(url) as backend:
        connection = over(backend, policy=UNPARKED)
        async with working(connection, {"chain": chain}) as fleet:
            await fleet.app.schedule(chain, topic=TOPIC)(4)
            await fleet.idle()
            assert await lose_everything(backend.queue, "lower") == 1
            await asyncio.gather(*(fleet.app.schedule(chain, topic=TOPIC, redrive=True)(4) for _ in range(5)))
            lower = over(backend, policy=UNPARKED)
            async with working(lower, {"chain": chain}, topics=("lower",)):
                assert await fleet.app.result(chain, timeout=BOUND)(4) == 4
                await until_idle(backend.queue, (TOPIC, "lower"))
            await lower.close()
        await connection.close()


async def test_redrive_puts_each_call_on_its_topic(url: str) -> None:
    """The first deployment misspells a child's topic, two levels down; the second has it right."""

    def handlers(topic: str) -> dict[str, Any]:
        @brrr.handler_no_arg
        async def leaf() -> int:
            return 1

        @brrr.handler
        async def middle(app: brrr.ActiveWorker) -> int:
            return 1 + await app.call(leaf, topic=topic)()

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            return 1 + await app.call(middle)()

        return {"leaf": leaf, "middle": middle, "top": top}

    async with brrr.open_backend(url) as backend:
        for topic, redrive in (("misspelt", False), (TOPIC, True)):
            connection = over(backend)
            async with working(connection, handlers(topic)) as fleet:
                await fleet.app.schedule("top", topic=TOPIC, redrive=redrive)()
                if redrive:
                    assert await fleet.app.result("top", timeout=BOUND)() == 3
                assert await fleet.idle() == (0, 0, 0, 0)
            await connection.close()
