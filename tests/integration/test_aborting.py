"""A handler runs again and ends correctly, no matter how it makes its calls and handles an abort."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import brrr_core as brrr
from brrr_testkit.workloads.fleet import serving


@brrr.handler_no_arg
async def inc(n: int) -> int:
    return n + 1


async def twice(app: brrr.ActiveWorker, n: int) -> int:
    """Make two calls; the second gets the value of the first."""
    return await app.call(inc)(await app.call(inc)(n))


@brrr.handler
async def by_task_group(app: brrr.ActiveWorker) -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(twice(app, n)) for n in range(5)]
    return sum(task.result() for task in tasks)


@brrr.handler
async def by_asyncio_gather(app: brrr.ActiveWorker) -> int:
    return sum(await asyncio.gather(*(twice(app, n) for n in range(5))))


@brrr.handler
async def by_asyncio_gather_of_calls(app: brrr.ActiveWorker) -> int:
    async def call(n: int) -> int:
        return await app.call(inc)(n)

    return sum(await asyncio.gather(*(call(n) for n in range(5)))) + 5


@brrr.handler
async def by_app_gather_of_helpers(app: brrr.ActiveWorker) -> int:
    return sum(await app.gather(*(twice(app, n) for n in range(5))))


@brrr.handler
async def by_app_gather_of_both(app: brrr.ActiveWorker) -> int:
    mixed: list[Awaitable[int]] = [twice(app, 0), app.call(inc)(1), twice(app, 2), app.call(inc)(3), twice(app, 4)]
    return sum(await app.gather(*mixed)) + 2


@brrr.handler
async def by_returned_exceptions(app: brrr.ActiveWorker) -> int:
    results = await asyncio.gather(*(twice(app, n) for n in range(5)), return_exceptions=True)
    return sum(result for result in results if isinstance(result, int))


@brrr.handler
async def swallowing_everything(app: brrr.ActiveWorker) -> int:
    total = 0
    for n in range(5):
        try:
            total += await twice(app, n)
        except BaseException:  # noqa: BLE001 - the point of this test
            total -= 1_000
    return total


@brrr.handler
async def swallowing_exceptions(app: brrr.ActiveWorker) -> int:
    total = 0
    for n in range(5):
        try:
            total += await twice(app, n)
        except Exception:  # noqa: BLE001 - the point of this test
            total -= 1_000
    return total


@brrr.handler
async def failing_while_aborted(app: brrr.ActiveWorker) -> int:
    total = 0
    for n in range(5):
        value = None
        try:
            value = await twice(app, n)
        finally:
            total += value + 0  # type: ignore[operator]
    return total


@brrr.handler
async def under_a_timeout(app: brrr.ActiveWorker) -> int:
    async with asyncio.timeout(60):
        return sum(await app.gather(*(twice(app, n) for n in range(5))))


@brrr.handler
async def as_older_programs_write(app: brrr.ActiveWorker) -> int:
    return sum(await app().gather(*(app().call(inc)(n + 1) for n in range(5))))


@brrr.handler
def in_a_thread(app: brrr.ActiveWorker) -> int:
    once = app.wait(app.gather(*(app.call(inc)(n) for n in range(5))))
    return sum(app.wait(app.call(inc)(n)) for n in once)


@brrr.handler
def in_a_thread_swallowing_everything(app: brrr.ActiveWorker) -> int:
    total = 0
    for n in range(5):
        try:
            total += app.wait(app.call(inc)(n + 1))
        except BaseException:  # noqa: BLE001 - the point of this test
            total -= 1_000
    return total


HANDLERS: list[brrr.Handler[Callable[[], int]]] = [
    by_task_group,
    by_asyncio_gather,
    by_asyncio_gather_of_calls,
    by_app_gather_of_helpers,
    by_app_gather_of_both,
    by_returned_exceptions,
    swallowing_everything,
    swallowing_exceptions,
    failing_while_aborted,
    under_a_timeout,
    as_older_programs_write,
    in_a_thread,
    in_a_thread_swallowing_everything,
]
TOTAL = sum(n + 2 for n in range(5))


@pytest.mark.parametrize("task", HANDLERS, ids=[task.name for task in HANDLERS])
async def test_program_ends_with_the_right_code_and_no_output(
    task: brrr.Handler[Callable[[], int]], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(url, {"task": task, "inc": inc}) as fleet:
        assert await fleet.run("task") == TOTAL
        assert await fleet.idle() == (0, 0, 0, 0)
    assert caplog.messages == []  # no exception that was never retrieved, no task destroyed while pending


async def test_gather_lets_every_helper_make_its_calls(url: str) -> None:
    runs: Counter[str] = Counter()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        runs["top"] += 1

        async def helper(n: int) -> int:
            for _ in range(n):  # each makes its call in another turn
                await asyncio.sleep(0)
            return await app.call(inc)(n)

        return sum(await app.gather(*(helper(n) for n in range(10))))

    async with serving(url, {"top": top, "inc": inc}) as fleet:
        assert await fleet.run(top) == sum(range(1, 11))
    assert runs["top"] <= 3  # all were put by the first run


async def test_error_of_gathered_helper_reaches_the_caller(url: str) -> None:
    ended: list[int] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        async def helper(n: int) -> int:
            value = await app.call(inc)(n)
            if n == 1:
                raise LookupError(f"no {value}")
            await asyncio.sleep(0)
            ended.append(n)
            return value

        try:
            await app.gather(helper(0), helper(1), helper(2))
        except LookupError as error:
            return str(error)
        return "no error"

    async with serving(url, {"top": top, "inc": inc}) as fleet:
        assert await fleet.run(top) == "no 2"
    assert ended == [0, 2]  # the others ran to their end


async def test_mixed_gather_returns_the_results_of_helpers_and_calls(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[Any]:
        async def local() -> str:
            return "local"

        return [*await app.gather(local(), app.call(inc)(1)), *await app.gather()]

    async with serving(url, {"top": top, "inc": inc}) as fleet:
        assert await fleet.run(top) == ["local", 2]


@pytest.mark.parametrize("kind", [brrr.Defer, asyncio.CancelledError, KeyError])
async def test_raising_defer_without_a_missing_value_is_a_failure(url: str, kind: type[BaseException]) -> None:
    @brrr.handler_no_arg
    async def pretends() -> None:
        raise kind("of its own")

    policy = brrr.Policy(max_attempts=2, backoff=0.01)
    async with serving(url, {"pretends": pretends}, policy=policy) as fleet:
        await fleet.app.schedule(pretends, topic=fleet.topics[0])()
        (reason,) = await fleet.dead(1)
    assert {brrr.Defer: "HandlerError", asyncio.CancelledError: "CancelledError", KeyError: "KeyError"}[kind] in reason
