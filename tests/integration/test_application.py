"""Features of an application: codecs, delays, reads, time limits, `only`, several loops and contexts."""

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import (
    HandlerError,
    NotFoundError,
    NotInTaskError,
    ResultTimeoutError,
    SignatureError,
    UnknownTaskError,
)
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, UNPARKED, over, serving, working


@dataclass
class Point:
    x: int
    y: int


@brrr.handler_no_arg
async def mirror(point: Point, *, deep: bool = False) -> Point:
    assert isinstance(point, Point)
    return Point(point.y, point.x)


@brrr.handler
async def twice(app: brrr.ActiveWorker, point: Point) -> Point:
    return await app.call(mirror)(point=await app.call(mirror)(point), deep=True)


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_every_codec(url: str, codec: str) -> None:
    async with serving(url, {"twice": twice, "mirror": mirror}, codec=codec) as fleet:
        assert await fleet.run(twice, Point(1, 2)) == Point(1, 2)
        assert await fleet.app.read(mirror)(Point(1, 2)) == Point(2, 1)
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_equal_arguments_by_position_and_by_name_are_one_call(url: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def leaf(n: int, m: int = 5) -> int:
        runs.append(n)
        return n * m

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[int]:
        return list(await app.gather(app.call(leaf)(1, 2), app.call(leaf)(1, m=2), app.call(leaf)(m=2, n=1)))

    async with serving(url, {"top": top, "leaf": leaf}) as fleet:
        assert await fleet.run(top) == [2, 2, 2]
    assert runs == [1]


async def test_result_can_be_read_when_it_exists(url: str) -> None:
    gate = asyncio.Event()

    @brrr.handler_no_arg
    async def slow() -> str:
        await gate.wait()
        return "done"

    async with serving(url, {"slow": slow}) as fleet:
        scheduled = await fleet.app.schedule(slow, topic=TOPIC)()
        with pytest.raises(NotFoundError, match=scheduled.call_hash):
            await fleet.app.read(slow)()
        with pytest.raises(ResultTimeoutError, match=r"after 0\.02 seconds"):
            await fleet.app.result(slow, timeout=0.02)()
        with pytest.raises(TimeoutError):  # it is one of those too
            await fleet.app.result(slow, timeout=0)()
        gate.set()
        assert await fleet.app.result(slow, timeout=BOUND)() == "done"
        assert await fleet.app.read(slow)() == "done"
        assert await fleet.app.result(slow, timeout=0)() == "done"


async def test_client_without_workers_schedules_and_reads(url: str) -> None:
    async with serving(url, {"mirror": mirror}), brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        await client.schedule(mirror, topic=TOPIC)(Point(3, 4))
        assert await client.result(mirror, timeout=BOUND)(Point(3, 4)) == Point(4, 3)
        assert await client.read("mirror")({"x": 3, "y": 4}) == {"x": 4, "y": 3}
        assert await client.read("mirror", returns=Point)(Point(3, 4)) == Point(4, 3)


async def test_delayed_schedule_waits_on_the_queue(url: str) -> None:
    async with serving(url, {"mirror": mirror}) as fleet:
        await fleet.app.schedule(mirror, topic=TOPIC, delay=3_600)(Point(1, 1))
        assert await fleet.stats() == (0, 0, 1, 0)
        await fleet.app.schedule(mirror, topic=TOPIC, delay=0.01)(Point(1, 2))
        assert await fleet.app.result(mirror, timeout=BOUND)(Point(1, 2)) == Point(2, 1)
        assert (await fleet.stats()).delayed == 1


async def test_scheduling_twice_runs_once(url: str) -> None:
    runs: list[int] = []
    gate = asyncio.Event()

    @brrr.handler_no_arg
    async def leaf() -> int:
        runs.append(1)
        await gate.wait()
        return len(runs)

    async with serving(url, {"leaf": leaf}) as fleet:
        one = await fleet.app.schedule(leaf, topic=TOPIC)()
        other = await fleet.app.schedule(leaf, topic=TOPIC)()
        assert one.call_hash == other.call_hash
        assert one.root_id != other.root_id
        gate.set()
        assert await fleet.app.result(leaf, timeout=BOUND)() == 1
        assert await fleet.idle() == (0, 0, 0, 0)
    assert len(runs) == 1  # the second message waited for the first, and found the value


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_put(memory: str) -> None:
    async with serving(memory, {"mirror": mirror}) as fleet:
        with pytest.raises(SignatureError, match="mirror"):
            await fleet.app.schedule(mirror, topic=TOPIC)()  # type: ignore[call-arg]
        with pytest.raises(SignatureError):
            await fleet.app.read(mirror)(Point(1, 2), depth=3)  # type: ignore[call-arg]
        assert await fleet.stats() == (0, 0, 0, 0)


async def test_unregistered_handler_cannot_be_called(memory: str) -> None:
    async with serving(memory, {"twice": twice}) as fleet:
        with pytest.raises(UnknownTaskError, match="mirror"):
            await fleet.app.read(mirror)(Point(1, 2))


async def test_handler_with_two_names_must_be_called_by_name(memory: str) -> None:
    async with serving(memory, {"mirror": mirror, "spiegel": mirror}) as fleet:
        with pytest.raises(UnknownTaskError, match="spiegel"):
            await fleet.app.schedule(mirror, topic=TOPIC)(Point(1, 2))
        assert await fleet.run("spiegel", Point(1, 2)) == Point(2, 1)


async def test_plain_function_is_not_accepted_as_handler(memory: str) -> None:
    async def plain() -> None: ...

    async with brrr.connect(memory) as connection:
        with pytest.raises(HandlerError, match="plain function"):
            brrr.AppWorker(handlers={"plain": plain}, codec="json", connection=connection)  # type: ignore[dict-item]


async def test_only_runs_in_a_task_and_in_what_it_calls(url: str) -> None:
    @brrr.only
    async def inside(n: int) -> int:
        return n + 1

    @brrr.only
    def inside_too(n: int) -> int:
        return n + 1

    @brrr.handler_no_arg
    async def task() -> int:
        (deep,) = await asyncio.gather(inside(inside_too(1)))
        return deep

    @brrr.handler_no_arg
    def in_a_thread() -> int:
        return inside_too(4)

    with pytest.raises(NotInTaskError, match="inside"):
        await inside(1)
    with pytest.raises(NotInTaskError, match="inside_too"):
        inside_too(1)
    async with serving(url, {"task": task, "in_a_thread": in_a_thread}) as fleet:
        assert await fleet.run(task) == 3
        assert await fleet.run(in_a_thread) == 5
        with pytest.raises(NotInTaskError):
            await inside(1)  # beside workers that run, this is still no task


async def test_waiting_on_the_loop_is_refused(memory: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        call = app.call(mirror)(Point(1, 2))
        try:
            app.wait(call)
        except NotInTaskError as error:
            return error.code
        return "it waited"

    async with serving(memory, {"top": top, "mirror": mirror}) as fleet:
        assert await fleet.run(top) == NotInTaskError.code


async def test_sync_handlers_run_concurrently_in_threads(url: str) -> None:
    meeting = threading.Barrier(4, timeout=BOUND)
    here = threading.current_thread()

    @brrr.handler_no_arg
    def meet(n: int) -> bool:
        meeting.wait()  # passes when all four threads have arrived
        return threading.current_thread() is not here

    @brrr.handler
    def top(app: brrr.ActiveWorker) -> bool:
        return all(app.wait(app.gather(*(app.call(meet)(n) for n in range(4)))))

    async with serving(url, {"top": top, "meet": meet}) as fleet:
        assert await fleet.run(top) is True


async def test_each_call_has_a_context_of_its_own(url: str) -> None:
    who: ContextVar[str] = ContextVar("who", default="unset")
    found: list[str] = []

    @brrr.handler
    async def call(app: brrr.ActiveWorker, n: int) -> str:
        found.append(who.get())
        who.set(f"call {n}")
        await asyncio.sleep(0)
        if n:
            await app.call(call)(n - 1)
        assert who.get() == f"call {n}"
        return who.get()

    @brrr.handler_no_arg
    def in_a_thread() -> str:
        found.append(who.get())
        who.set("thread")
        return who.get()

    async with serving(url, {"call": call, "in_a_thread": in_a_thread}) as fleet:
        assert await fleet.run(call, 3) == "call 3"
        assert await fleet.run(in_a_thread) == "thread"
        assert await fleet.run(call, 4) == "call 4"
    assert set(found) == {"unset"}


async def test_call_that_runs_again_at_once_has_another_context(memory: str) -> None:
    who: ContextVar[str] = ContextVar("who", default="unset")
    found: list[str] = []
    ended = asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> int:
        found.append(who.get())
        who.set("parent")
        return await app.call(child)()

    def sees(operation: Operation, result: object) -> None:
        if operation.name == "store.swap" and any(swap.key.kind == "value" for swap in operation.items):
            ended.set()

    async def until_the_child_has_ended(operation: Operation) -> None:
        if operation.name == "queue.put" and found:
            await ended.wait()

    instrument = Instrument(after=until_the_child_has_ended, effect=sees)
    async with brrr.open_backend(memory) as backend:
        # A parent that defers in one step never runs again at once, nor does one that can be parked.
        connection = over(instrument.wrap(backend), policy=UNPARKED, steps=False)
        async with asyncio.timeout(BOUND), working(connection, {"parent": parent, "child": child}) as fleet:
            assert await fleet.run(parent) == 7
    assert found == ["unset", "unset"]


async def test_several_loops_of_two_applications_in_one_process(url: str) -> None:
    def made(name: str) -> brrr.Task:
        async def who() -> str:
            return name

        return brrr.handler_no_arg(who)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[Any]:
        return list(await app.gather(*(app.call("who", topic=topic)(topic) for topic in ("a", "b"))))

    async def who(topic: str) -> str:
        return f"{topic} by the first"

    async def other(topic: str) -> str:
        return f"{topic} by the second"

    async with serving(url, {"top": top, "who": brrr.handler_no_arg(who)}, topics=[TOPIC, "a"]) as fleet:
        second = brrr.AppWorker(handlers={"who": brrr.handler_no_arg(other)}, codec="json", connection=fleet.connection)
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.connection.loop("b", second.handle, concurrency=2))
            assert await fleet.run(top) == ["a by the first", "b by the second"]
            fleet.connection.stop()


async def test_one_at_a_time_is_enough_for_any_workflow(url: str) -> None:
    """A parent that waits for its children does not occupy a slot."""

    @brrr.handler
    async def tree(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
        if not depth:
            return 1
        return sum(await app.gather(*(app.call(tree)(depth - 1, path + letter) for letter in "lr")))

    async with serving(url, {"tree": tree}, concurrency=1) as fleet:
        assert await fleet.run(tree, 4) == 16


async def test_handler_knows_its_attempt_and_topic(url: str) -> None:
    seen: list[tuple[str, int]] = []

    @brrr.handler
    async def task(app: brrr.ActiveWorker) -> None:
        seen.append((app.topic, app.attempt))
        if app.attempt == 1:
            raise OSError("once")

    async with serving(url, {"task": task}, policy=replace(QUICK, max_attempts=2)) as fleet:
        await fleet.run(task)
    assert seen == [(TOPIC, 1), (TOPIC, 2)]
