"""Workers under `asyncio.eager_task_factory`, where a task may have run to its end when `create_task` returns."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

import brrr_core as brrr
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, serving

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from Python 3.12 on")


@pytest_asyncio.fixture(autouse=True)
async def _eager() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    yield
    loop.set_task_factory(None)


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    if n < 2:
        return n
    return sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))


@brrr.handler
async def helped(app: brrr.ActiveWorker, n: int) -> int:
    async def helper(m: int) -> int:
        return await app.call(fib)(m)

    return sum(await app.gather(*(helper(m) for m in range(n))))


@brrr.handler_no_arg
async def broken() -> None:
    raise ValueError("broken")


@brrr.handler
def in_a_thread(app: brrr.ActiveWorker, n: int) -> int:
    return app.wait(app.call(fib)(n))


HANDLERS = {"fib": fib, "helped": helped, "broken": broken, "in_a_thread": in_a_thread}


async def test_workflows_end(url: str) -> None:
    async with asyncio.timeout(BOUND), serving(url, HANDLERS) as fleet:
        assert await fleet.run(fib, 11) == 89
        assert await fleet.run(helped, 5) == 7
        assert await fleet.run(in_a_thread, 12) == 144
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_slots_become_free_again(url: str) -> None:
    async with asyncio.timeout(BOUND), serving(url, HANDLERS, concurrency=1) as fleet:
        assert await fleet.run(fib, 9) == 34


async def test_failure_is_dead_lettered(url: str) -> None:
    async with asyncio.timeout(BOUND), serving(url, HANDLERS, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.app.schedule(broken, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert reason.startswith("ValueError: broken")


async def test_local_workflow_ends() -> None:
    async with asyncio.timeout(BOUND):
        assert await brrr.LocalBrrr(handlers=HANDLERS).run(helped)(6) == 12
        with pytest.raises(ValueError, match="broken"):
            await brrr.LocalBrrr(handlers=HANDLERS).run(broken)()
