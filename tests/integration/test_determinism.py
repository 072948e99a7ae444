"""`check=True` finds handlers that do not make the same calls again, and raises no false alarm."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import NondeterminismError
from brrr_testkit.workloads.fleet import QUICK, TOPIC, UNPARKED, serving

CHECKED = replace(QUICK, check=True)


@brrr.handler_no_arg
async def inc(n: int) -> int:
    return n + 1


async def buried(memory: str, task: brrr.Task, **more: brrr.Task) -> str:
    """Return the reason for which the call of the task is dead-lettered."""
    async with serving(memory, {"task": task, "inc": inc, **more}, policy=CHECKED) as fleet:
        await fleet.app.schedule("task", topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        (letter,) = await fleet.connection.queue.dead(TOPIC, limit=5)
        assert letter.attempt == 1  # a retry cannot help
    assert "BRRR-ENGINE-02" in reason
    return reason


async def test_argument_that_differs_in_each_run_is_found(memory: str) -> None:
    numbers = itertools.count(100)

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return await app.call(inc)(next(numbers))

    reason = await buried(memory, fickle)
    assert "[100]" in reason  # both are shown from the place where they differ
    assert "[101]" in reason


async def test_omitted_call_is_found(memory: str) -> None:
    runs = itertools.count()

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return await app.call(inc)(1) if next(runs) == 0 else 0

    assert "but nothing when it ran again" in await buried(memory, fickle)


async def test_changed_second_call_is_found(memory: str) -> None:
    runs = itertools.count()

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        first = await app.call(inc)(1)
        return first + await app.call(inc)(50 + next(runs))

    reason = await buried(memory, fickle)
    assert "as its call 2" in reason


async def test_shrunken_gather_is_found(memory: str) -> None:
    widths = itertools.chain([3], itertools.repeat(2))

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(inc)(n) for n in range(next(widths)))))

    await buried(memory, fickle)


async def test_synchronous_handler_is_checked(memory: str) -> None:
    numbers = itertools.count(100)

    @brrr.handler
    def fickle(app: brrr.ActiveWorker) -> int:
        return app.wait(app.call(inc)(next(numbers)))

    await buried(memory, fickle)


async def test_without_the_check_nothing_is_compared(memory: str) -> None:
    numbers = itertools.chain([100], itertools.repeat(200))

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> int:
        return await app.call(inc)(next(numbers))

    async with serving(memory, {"fickle": fickle, "inc": inc}, policy=UNPARKED) as fleet:
        assert await fleet.run(fickle) == 201


async def helper(app: brrr.ActiveWorker, turns: int, n: int) -> int:
    """Make two calls, the first one late."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return await app.call(inc)(await app.call(inc)(n))


async def together(app: brrr.ActiveWorker, how: str, helpers: list[Any]) -> list[int]:
    """Run several helpers concurrently."""
    if how == "app.gather":
        return list(await app.gather(*helpers))
    if how == "asyncio.gather":
        return list(await asyncio.gather(*helpers))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(helper) for helper in helpers]
    return [task.result() for task in tasks]


@pytest.mark.parametrize("how", ["app.gather", "asyncio.gather", "TaskGroup"])
@pytest.mark.parametrize("cache", [0, 10_000_000], ids=["no cache", "cache"])
async def test_helpers_may_make_their_calls_in_any_order(memory: str, how: str, cache: int) -> None:
    runs = itertools.count()

    @brrr.handler
    async def steady(app: brrr.ActiveWorker, size: int) -> list[int]:
        # Another helper is first in each run, and aborts the run before the others have made their calls.
        late = next(runs)
        return await together(app, how, [helper(app, 5 * ((n + late) % size), 10 * n) for n in range(size)])

    policy = replace(CHECKED, cache_bytes=cache)
    async with serving(memory, {"steady": steady, "inc": inc}, policy=policy) as fleet:
        assert await fleet.run(steady, 4) == [10 * n + 2 for n in range(4)]
        assert await fleet.idle() == (0, 0, 0, 0)


@pytest.mark.parametrize("how", ["app.gather", "asyncio.gather", "TaskGroup"])
async def test_changing_call_of_a_concurrent_helper_is_detected_eventually(memory: str, how: str) -> None:
    numbers = itertools.chain([100, 200], itertools.repeat(200))

    @brrr.handler
    async def fickle(app: brrr.ActiveWorker) -> list[int]:
        return await together(app, how, [helper(app, 0, 1), helper(app, 0, next(numbers))])

    await buried(memory, fickle)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_root_id_among_arguments_is_found_in_the_first_run(codec: str) -> None:
    @brrr.handler_no_arg
    async def note(text: str, where: dict[str, str]) -> None: ...

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.call(note)("started", {"root": f"of {app.root_id}"})

    with pytest.raises(
        NondeterminismError, match=r"'top' passed `app\.root_id`.*it called note with.*`app\.call_hash`"
    ):
        await brrr.LocalBrrr(handlers={"note": note, "top": top}, codec=codec).run(top)()


async def test_root_id_that_a_call_returned_may_be_an_argument() -> None:
    @brrr.handler
    async def begin(app: brrr.ActiveWorker) -> str:
        return app.root_id

    @brrr.handler
    async def middle(app: brrr.ActiveWorker, trace: str) -> str:
        return await app.call(last)(trace)

    @brrr.handler_no_arg
    async def last(trace: str) -> str:
        return trace

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> bool:
        return await app.call(middle)(await app.call(begin)()) == app.root_id

    assert await brrr.LocalBrrr(handlers={"begin": begin, "middle": middle, "last": last, "top": top}).run(top)()


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("form", ["{}", "{} of {}"])
async def test_attempt_among_arguments_is_named(memory: str, codec: str, form: str) -> None:
    @brrr.handler_no_arg
    async def note(text: str | int, year: int) -> None: ...

    @brrr.handler
    async def moody(app: brrr.ActiveWorker) -> None:
        await app.call(inc)(1)
        await app.call(note)(app.attempt if form == "{}" else form.format(app.attempt, 12), 2012)
        if app.attempt == 1:
            raise OSError("not now")

    handlers = {"moody": moody, "inc": inc, "note": note}
    async with serving(memory, handlers, policy=CHECKED, codec=codec) as fleet:
        await fleet.app.schedule(moody, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert "the arguments differ as `app.attempt` does, which was 1 and then 2" in reason
    assert "do not pass it to calls" in reason
