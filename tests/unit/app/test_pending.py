"""Calls that a handler does not await, or awaits in a misleading way."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import AwaitError, SignatureError
from brrr_testkit.workloads.fleet import BOUND, TOPIC, serving


@brrr.handler_no_arg
async def inc(n: int) -> int:
    return n + 1


async def local(task: brrr.Task, *args: Any) -> Any:
    """The result of a run for unit tests."""
    async with asyncio.timeout(BOUND):
        return await brrr.LocalBrrr(handlers={"task": task, "inc": inc}).run("task")(*args)


async def warned(memory: str, task: brrr.Task) -> tuple[Any, list[str]]:
    """The result of a run by a worker, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        async with serving(memory, {"task": task, "inc": inc}) as fleet:
            result = await fleet.run("task")
    assert {warning.category for warning in caught} <= {RuntimeWarning}
    assert {warning.filename for warning in caught} <= {__file__}
    return result, [str(warning.message) for warning in caught]


@brrr.handler
async def forgets(app: brrr.ActiveWorker) -> int:
    app.call(inc)(1)
    app.call(inc)(2)
    unused = app.call("other")(3)
    del unused
    kept = app.call(inc)(4)
    return await app.call(inc)(5) if kept else 0


@brrr.handler
def forgets_in_a_thread(app: brrr.ActiveWorker) -> int:
    app.call(inc)(1)
    app.call("other")(3)
    return app.wait(app.call(inc)(5))


@pytest.mark.parametrize("task", [forgets, forgets_in_a_thread], ids=lambda task: task.name)
async def test_call_that_is_never_awaited_is_warned_of_once(memory: str, task: brrr.Task) -> None:
    result, messages = await warned(memory, task)
    assert result == 6
    assert [message.partition(" by")[0] for message in messages] == [
        "PendingCall of task 'inc' was never awaited",
        "PendingCall of task 'other' was never awaited",
    ]


async def test_mistake_is_warned_of_once_even_if_many_calls_make_it(memory: str) -> None:
    @brrr.handler
    async def leaf(app: brrr.ActiveWorker, n: int) -> int:
        app.call("other")(n)
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[int]:
        return list(await app.gather(*(app.call("inc")(n) for n in range(3))))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        async with serving(memory, {"top": top, "inc": leaf}) as fleet:
            assert await fleet.run(top) == [0, 1, 2]
    assert len(caught) == 1


@pytest.mark.parametrize("task", [forgets, forgets_in_a_thread], ids=lambda task: task.name)
async def test_call_that_is_never_awaited_fails_unit_test(task: brrr.Task) -> None:
    with pytest.raises(AwaitError, match="PendingCall of task 'inc' was never awaited by the handler 'task'"):
        await local(task)


async def test_call_that_outlives_its_run_is_warned_of_when_it_is_collected(memory: str) -> None:
    @brrr.handler
    async def cyclic(app: brrr.ActiveWorker) -> int:
        cycle: list[object] = [app.call(inc)(1)]
        cycle.append(cycle)
        return await app.call(inc)(0)

    async with serving(memory, {"task": cyclic, "inc": inc}) as fleet:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await fleet.run("task")
            gc.collect()
    assert {str(warning.message) for warning in caught} == {"PendingCall of task 'inc' was never awaited"}


@brrr.handler
async def aborted_first(app: brrr.ActiveWorker) -> int:
    later = app.call(inc)(2)
    first = await app.call(inc)(1)
    return first + await later


@brrr.handler
async def in_gather(app: brrr.ActiveWorker) -> int:
    async def helper() -> int:
        return await app.call(inc)(7)

    return sum(await app.gather(*(app.call(inc)(n) for n in range(5)))) + sum(
        await app.gather(helper(), app.call(inc)(6))
    )


@brrr.handler
async def swallows(app: brrr.ActiveWorker) -> int:
    later = app.call(inc)(2)
    try:
        return await app.call(inc)(1) + await later
    except BaseException:  # noqa: BLE001 - the point of this test
        return 0


@brrr.handler
async def in_tasks(app: brrr.ActiveWorker) -> int:
    return sum(await asyncio.gather(app.call(inc)(1), app.call(inc)(2)))


@brrr.handler
async def awaits_twice(app: brrr.ActiveWorker) -> int:
    call = app.call(inc)(1)
    return await call + await call


@brrr.handler
def returns_it_from_a_thread(app: brrr.ActiveWorker) -> Any:
    return app.call(inc)(1)  # brrr awaits it


FINE = [aborted_first, in_gather, swallows, in_tasks, awaits_twice, returns_it_from_a_thread]


@pytest.mark.parametrize("task", FINE, ids=lambda task: task.name)
async def test_call_that_is_awaited_or_aborted_before_is_not_warned_of(memory: str, task: brrr.Task) -> None:
    result, messages = await warned(memory, task)
    assert messages == []
    assert await local(task) == result


async def test_handler_that_raises_before_its_await_raises_its_own_error() -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        later = app.call(inc)(2)
        raise LookupError(repr(later))

    with pytest.raises(LookupError, match="<brrr PendingCall of task 'inc'>"):
        await local(top)


@pytest.mark.parametrize(
    "wrapped",
    [lambda call: call, lambda call: [1, call], lambda call: (call, 2), lambda call: {"a": call}],
    ids=["itself", "list", "tuple", "dict"],
)
@pytest.mark.parametrize("made", ["call", "gather"])
async def test_error_for_a_returned_call_asks_for_await(wrapped: Callable[[Any], Any], made: str) -> None:
    runs: list[int] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> Any:
        runs.append(1)
        call = app.call(inc)(1)
        return wrapped(call if made == "call" else app.gather(call))

    brrr_policy = brrr.Policy(max_attempts=5, backoff=0)
    with pytest.raises(AwaitError, match=r"Did you forget `await`\?"):
        await brrr.LocalBrrr(handlers={"top": top, "inc": inc}, policy=brrr_policy).run(top)()
    assert runs == [1]  # another attempt cannot help


async def test_error_for_a_call_used_as_its_result_asks_for_await() -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> Any:
        call: Any = app.call(inc)(1)
        return call.real

    with pytest.raises(AttributeError, match=r"PendingCall of task 'inc'> has no attribute 'real': did you forget"):
        await local(top)


NOT_AWAITABLE: dict[str, Callable[[Any], Any]] = {
    "list": lambda app: [app.call(inc)(1)],
    "generator": lambda app: (app.call(inc)(n) for n in range(2)),
    "call without arguments": lambda app: app.call(inc),
    "value": lambda _: 1,
}


@pytest.mark.parametrize("given", NOT_AWAITABLE.values(), ids=NOT_AWAITABLE)
async def test_gather_and_wait_explain_arguments_that_cannot_be_awaited(given: Callable[[Any], Any]) -> None:
    @brrr.handler
    async def gathers(app: brrr.ActiveWorker) -> Any:
        return await app.gather(given(app))

    @brrr.handler
    def waits(app: brrr.ActiveWorker) -> Any:
        return app.wait(given(app))

    with pytest.raises(AwaitError, match=r"argument 1 of `gather` is a \w+, which .*`app.gather\(\*calls\)`"):
        await local(gathers)
    with pytest.raises(TypeError, match=r"argument 1 of `wait` is a "):  # it is one of those too, as from asyncio
        await local(waits)


async def test_gather_returns_list() -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[str]:
        async def helper() -> int:
            return 1

        results: list[Any] = [
            await app.gather(app.call(inc)(1), app.call(inc)(2)),
            await app.gather(helper(), app.call(inc)(1)),
            await app.gather(),
        ]
        return [type(result).__name__ for result in results]

    assert await local(top) == ["list", "list", "list"]


async def waited_for(awaitable: Awaitable[int], timeout: float | None = 60) -> int:
    return await asyncio.wait_for(awaitable, timeout)


@brrr.handler
async def timed(app: brrr.ActiveWorker) -> int:
    return await waited_for(app.call(inc)(1))


@brrr.handler
async def timed_helper(app: brrr.ActiveWorker) -> int:
    async def helper() -> int:
        return await app.call(inc)(1)

    return sum(await app.gather(waited_for(helper())))


@brrr.handler
def timed_in_a_thread(app: brrr.ActiveWorker) -> int:
    return app.wait(waited_for(app.call(inc)(1)))


@pytest.mark.parametrize("task", [timed, timed_helper, timed_in_a_thread], ids=lambda task: task.name)
async def test_timeout_around_durable_call_is_warned_of(memory: str, task: brrr.Task) -> None:
    result, messages = await warned(memory, task)
    assert result == 2
    (message,) = messages
    assert "`asyncio.wait_for` in the handler" in message
    assert "`result(..., timeout=...)`" in message


async def test_timeout_around_durable_call_fails_where_warnings_are_errors() -> None:
    with pytest.raises(RuntimeWarning, match="does not limit the durable call"):
        await local(timed)


async def test_wait_for_without_timeout_or_durable_call_is_not_warned_of(memory: str) -> None:
    async def work() -> int:
        return 1

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return await waited_for(work()) + await waited_for(app.call(inc)(1), None)

    assert await warned(memory, top) == (3, [])


async def test_call_with_wrong_arguments_in_a_gather_raises_its_own_error() -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> Any:
        return await app.gather(app.call(inc)(1), app.call("inc")(1, 2))

    with pytest.raises(SignatureError):
        await local(top)


async def test_calls_of_topic_without_worker_are_not_warned_of(memory: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> Any:
        return await app.gather(app.call(inc, topic="idle")(1), app.call(inc, topic="idle")(2))

    async with serving(memory, {"top": top, "inc": inc}) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.idle()  # with warnings as errors, one would fail the run
        assert (await fleet.stats()).dead == 0
