"""Sleeps, deadlines, delays and events: a handler waits, and nothing is held in memory meanwhile."""

import asyncio
import pickle
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import ArgumentError, CapabilityError, DeadlineExceededError
from brrr_testkit.waiting import BOUND
from brrr_testkit.workloads.fleet import TOPIC, serving


async def test_handler_continues_after_its_sleep(url: str) -> None:
    runs: list[str] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        runs.append("run")
        await app.sleep(0.2)
        await app.sleep_until(datetime.now(UTC) - timedelta(days=1))
        return "rested"

    async with serving(url, {"top": top}) as fleet:
        begin = time.time()
        assert await fleet.run(top) == "rested"
        assert time.time() - begin >= 0.2
        assert await fleet.idle() == (0, 0, 0, 0)
    assert runs == ["run", "run"]


async def test_deadline_raises_in_the_parent_and_leaves_the_call_alone(url: str) -> None:
    opened = asyncio.Event()

    @brrr.handler_no_arg
    async def slow() -> str:
        await opened.wait()
        return "late"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[str]:
        late = ""
        try:
            await app.call(slow, deadline="100ms")()
        except DeadlineExceededError as error:
            late = error.task_name
        opened.set()
        return [late, await app.call(slow, deadline="1h")(), await app.call(slow)()]

    async with serving(url, {"slow": slow, "top": top}) as fleet:
        assert await fleet.run(top) == ["slow", "late", "late"]


def test_exceeded_deadline_can_be_pickled() -> None:
    error = DeadlineExceededError("too late", remedy="Wait.")
    error.task_name, error.call_hash = "slow", "hash"
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.task_name, copy.call_hash) == (str(error), "slow", "hash")


async def test_uncaught_deadline_fails_the_parent_at_once(memory: str) -> None:
    @brrr.handler
    async def slow(app: brrr.ActiveWorker) -> None:
        await app.sleep("1h")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        await app.call(slow, deadline="50ms")()

    async with serving(memory, {"slow": slow, "top": top}) as fleet:
        with pytest.raises(brrr.CallFailedError, match="had no outcome before the deadline") as failed:
            await fleet.run(top)
    assert failed.value.error_type == "DeadlineExceededError"


async def test_delayed_child_runs_after_its_delay(url: str) -> None:
    times: dict[str, float] = {}

    @brrr.handler_no_arg
    async def child() -> None:
        times["child"] = time.time()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        times.setdefault("top", time.time())
        await app.call(child, delay=0.2)()

    async with serving(url, {"child": child, "top": top}) as fleet:
        await fleet.run(top)
    assert times["child"] - times["top"] >= 0.2


async def test_event_may_happen_before_or_after_a_handler_waits(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker, order: int) -> list[int]:
        return [await app.event("approval", order, returns=int), await app.event("approval", order, returns=int)]

    async with serving(url, {"top": top}) as fleet:
        assert await fleet.app.event("approval", 1).complete(10)
        assert await fleet.run(top, 1) == [10, 10]
        await fleet.app.schedule(top, topic=TOPIC)(2)
        await fleet.settled(leased=0)
        assert await fleet.app.event("approval", 2).complete(20)
        assert await fleet.app.result(top, timeout=BOUND)(2) == [20, 20]
        assert not await fleet.app.event("approval", 2).complete(30)
        await fleet.settled(leased=0)
        assert (await fleet.stats()).delayed == 1  # the guard of the client, which wakes a parent that is done


async def test_event_that_fails_raises_in_the_handler(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[object]:
        try:
            await app.event("approval", deadline="1h")
        except brrr.CallFailedError as error:
            return [error.message, error.details]
        return []

    async with serving(url, {"top": top}) as fleet:
        assert await fleet.app.event("approval").fail("rejected", details={"by": "Ann"})
        assert await fleet.run(top) == ["rejected", {"by": "Ann"}]


async def test_event_is_never_put_on_a_queue(memory: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.event("number", n, returns=int) for n in range(3))))

    async with serving(memory, {"top": top}) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.settled(leased=0)
        await fleet.app.schedule(top, topic=TOPIC, redrive=True)()
        await fleet.settled(leased=0)
        assert await fleet.stats() == (0, 0, 0, 0)
        for n in range(3):
            await fleet.app.event("number", n).complete(n)
        assert await fleet.app.result(top, timeout=BOUND)() == 3


async def test_dead_letter_is_completed_by_hand(url: str) -> None:
    @brrr.handler_no_arg(max_attempts=1)
    async def broken(number: int) -> int:
        raise ValueError("never")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return await app.call(broken)(1)

    async with serving(url, {"broken": broken, "top": top}) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.dead(1)
        assert await fleet.app.complete(broken)(1)(7)
        assert await fleet.app.result(top, topic="elsewhere", timeout=BOUND)() == 7


async def test_value_given_by_hand_must_match_the_annotation(memory: str) -> None:
    @brrr.handler_no_arg
    async def task() -> int:
        return 1

    async with serving(memory, {"task": task}) as fleet:
        wrong: Any = "text"
        with pytest.raises(brrr.BrrrError, match="does not fit its annotation"):
            await fleet.app.complete(task)()(wrong)


async def test_waits_of_concurrent_helpers_need_keys(memory: str) -> None:
    errors: list[str] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker, keyed: bool) -> int:
        async def helper(number: int) -> int:
            await app.sleep(0.01, key=f"nap {number}" if keyed else None)
            return number

        try:
            return sum(await app.gather(helper(1), helper(2)))
        except ArgumentError as error:
            errors.append(error.what)
            return 0

    async with serving(memory, {"top": top}) as fleet:
        assert await fleet.run(top, True) == 3
        assert await fleet.run(top, False) == 0
    assert errors == ["the handler 'top' waits without a key in a task other than its own"]


async def test_key_is_used_once(memory: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        await app.sleep(0, key="nap")
        try:
            await app.sleep(0, key="nap")
        except ArgumentError as error:
            return error.what
        return ""

    async with serving(memory, {"top": top}) as fleet:
        assert await fleet.run(top) == "the handler 'top' waits twice with the key 'nap'"


async def test_sync_handler_waits_too(url: str) -> None:
    @brrr.handler
    def top(app: brrr.ActiveWorker) -> int:
        app.wait(app.sleep(0.05))
        return app.wait(app.event("number", returns=int))

    async with serving(url, {"top": top}) as fleet:
        await fleet.app.event("number").complete(5)
        assert await fleet.run(top) == 5


async def test_timer_wakes_its_parent_once(memory: str) -> None:
    runs: list[int] = []

    @brrr.handler_no_arg
    async def child(number: int) -> int:
        return number

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> None:
        runs.append(1)

        async def calls() -> None:
            for number in range(5):
                await app.call(child)(number)

        await app.gather(calls(), app.sleep(0.3, key="nap"))

    async with serving(memory, {"child": child, "top": top}) as fleet:
        await fleet.run(top)
        delayed = (await fleet.stats()).delayed
    assert delayed == 0
    assert len(runs) == 7  # the first, one for each child, and one for the timer


async def test_wait_beyond_a_lease_needs_a_queue_with_delays(memory: str) -> None:
    async with brrr.open_backend(memory) as backend:
        connection = brrr.Connection(backend.queue, backend.store, backend.cache, delays=False)
        refused: list[str] = []

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> None:
            for wait in (app.sleep, lambda time: app.event("e", deadline=time), lambda time: app.call("t", delay=time)):
                try:
                    wait("1h")
                except CapabilityError as error:
                    refused.append(error.what)

        app = brrr.AppWorker(handlers={"top": top}, codec="json", connection=connection)
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.loop(TOPIC, app.handle))
            await app.schedule(top, topic=TOPIC)()
            await app.result(top, timeout=BOUND)()
            connection.stop()
        assert refused == ["the handler 'top' waits for 3600 s, but its queue cannot delay messages"] * 3


async def test_local_run_skips_sleeps_and_simulates_events() -> None:
    @brrr.handler
    async def approve(app: brrr.ActiveWorker, order: int) -> str:
        await app.sleep("7d")
        try:
            return await app.event("approval", order, deadline="72h", returns=str)
        except DeadlineExceededError:
            return "too late"

    async def after(app: brrr.ActiveWorker, order: int) -> str:
        await app.sleep(timedelta(hours=order))
        return "approved"

    local = brrr.LocalBrrr(handlers={"approve": approve}, events={"approval": after})
    assert await local.run(approve)(71) == "approved"
    assert await local.run(approve)(73) == "too late"


async def test_time_zone_is_required(memory: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        try:
            app.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 - the error under test
        except ArgumentError as error:
            return error.what
        return ""

    async with serving(memory, {"top": top}) as fleet:
        assert "no time zone" in await fleet.run(top)
