"""A cancelled call gets `Cancelled` at its first unfinished await, compensates durably, and has one outcome."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import ScheduleCancelledError
from brrr_core.wire import decode_pending
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import TOPIC, Fleet, over, serving, working

MARKER = Key("value", "brrr.control")


@pytest.fixture(autouse=True)
def _quick_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brrr_core.engine.cancelling.GUARD_DELAY", 0.2)


class Log:
    """Events of handlers, and a gate that a slow call waits for."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()


def saga(log: Log) -> Mapping[str, Any]:
    """Book two things; the second takes long. Undo the first if the saga is cancelled."""

    @brrr.handler_no_arg
    async def book(thing: str) -> str:
        log.events.append(f"book {thing}")
        if thing == "flight":
            log.begun.set()
            await log.gate.wait()
        return thing

    @brrr.handler_no_arg
    async def undo(thing: str) -> str:
        log.events.append(f"undo {thing}")
        return thing

    @brrr.handler
    async def trip(app: brrr.ActiveWorker) -> str:
        booked: list[str] = []
        try:
            for thing in ("hotel", "flight"):
                await app.call(book)(thing)
                booked.append(thing)
        except brrr.Cancelled:
            for thing in booked:
                await app.call(undo)(thing)
            raise
        return " and ".join(booked)

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> str:
        try:
            return await app.call(trip)()
        except brrr.CallFailedError as error:
            return f"cancelled: {error.cancelled}"

    return {"book": book, "undo": undo, "trip": trip, "parent": parent}


@brrr.handler_no_arg
async def child() -> str:
    return "value"


@brrr.handler
async def parent(app: brrr.ActiveWorker, name: str) -> str:
    return f"{name}: {await app.call(child, topic='later')()}"


SHARING = {"child": child, "parent": parent}
"""Parents share a child, whose topic is served only when the test wants it."""


async def known(fleet: Fleet) -> None:
    """Write the marker as an old one, so that the first request does not wait for the workers."""
    await fleet.connection.store.write([(MARKER, b"0")])


async def test_cancelled_call_compensates_and_fails_as_cancelled(url: str) -> None:
    log = Log()
    async with serving(url, saga(log)) as fleet:
        await known(fleet)
        await fleet.app.schedule("parent", topic=TOPIC)()
        await log.begun.wait()
        assert await fleet.app.cancel("trip", topic=TOPIC)()
        with pytest.raises(brrr.CallFailedError) as caught:
            await fleet.app.result("trip")()
        assert (caught.value.cancelled, caught.value.error_type) == (True, "Cancelled")
        assert await fleet.app.result("parent")() == "cancelled: True"
        assert not await fleet.app.cancel("trip", topic=TOPIC)()  # it has an outcome
        log.gate.set()
        assert await fleet.idle() == (0, 0, 0, 0)
    assert log.events == ["book hotel", "book flight", "undo hotel"]


async def test_handler_decides_the_outcome_of_its_cancelled_call(memory: str) -> None:
    log = Log()

    @brrr.handler
    async def patient(app: brrr.ActiveWorker) -> str:
        try:
            return await app.call("book", returns=str)("flight")
        except brrr.Cancelled:
            return "stopped in time"

    async with serving(memory, {**saga(log), "patient": patient}) as fleet:
        await known(fleet)
        await fleet.app.schedule(patient, topic=TOPIC)()
        await log.begun.wait()
        await fleet.app.cancel(patient, topic=TOPIC)()
        assert await fleet.app.result(patient)() == "stopped in time"
        log.gate.set()
        await fleet.idle()


async def test_rerun_raises_cancelled_in_the_same_place(memory: str) -> None:
    """The call at which it got `Cancelled` returns while the compensation runs. The handler still does not get its
    value."""
    log, interruptions = Log(), list[str]()

    @brrr.handler_no_arg
    async def undo() -> None:
        log.gate.set()
        await asyncio.wait_for(log_done.wait(), 10)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        try:
            return await app.call("book", returns=str)("flight")
        except brrr.Cancelled:
            interruptions.append("cancelled")
            await app.call(undo)()
            return "undone"

    log_done = asyncio.Event()
    async with serving(memory, {"book": saga(log)["book"], "undo": undo, "top": top}) as fleet:
        await known(fleet)
        await fleet.app.schedule(top, topic=TOPIC)()
        await log.begun.wait()
        await fleet.app.cancel(top, topic=TOPIC)()
        assert await fleet.app.result("book")("flight") == "flight"
        log_done.set()
        assert await fleet.app.result(top)() == "undone"
        await fleet.idle()
    assert len(interruptions) >= 2


async def test_queued_call_without_app_does_not_run(url: str) -> None:
    log = Log()
    async with serving(url, saga(log)) as fleet:
        await known(fleet)
        await fleet.app.schedule("book", topic=TOPIC, delay=0.5)("hotel")
        assert await fleet.app.cancel("book", topic=TOPIC)("hotel")
        with pytest.raises(brrr.CallFailedError, match="the call was cancelled") as caught:
            await fleet.app.result("book")("hotel")
        assert caught.value.cancelled
        assert await fleet.idle() == (0, 0, 0, 0)
    assert log.events == []


async def test_forced_call_fails_at_once_without_compensation(url: str) -> None:
    log = Log()
    async with serving(url, saga(log)) as fleet:
        await fleet.app.schedule("parent", topic=TOPIC)()
        await log.begun.wait()
        assert await fleet.app.cancel("trip", topic=TOPIC, force=True)()
        assert await fleet.app.result("parent")() == "cancelled: True"
        assert not await fleet.app.cancel("trip", topic=TOPIC, force=True)()
        log.gate.set()
        await fleet.app.result("book")("flight")
    assert log.events == ["book hotel", "book flight"]


async def test_call_that_was_never_scheduled_fails_at_once(memory: str) -> None:
    async with brrr.connect(memory) as connection:
        app = brrr.AppConsumer(codec="json", connection=connection)
        assert await app.cancel("job", topic=TOPIC)(1)
        with pytest.raises(brrr.CallFailedError):
            await app.read("job")(1)
        assert (await app.schedule("job", topic=TOPIC)(1)).root_id is None


async def test_each_concurrent_part_of_a_handler_gets_cancelled(memory: str) -> None:
    log, cancelled = Log(), list[str]()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        async def part(name: str) -> None:
            try:
                await app.call("wait")(name)
            except brrr.Cancelled:
                cancelled.append(name)
                await app.send("undo")(f"note {name}")
                await app.call("undo")(name)
                raise

        try:
            await app.gather(part("a"), part("b"), app.call("wait")("c"))
        except brrr.Cancelled:
            return await app.call("undo", returns=str)("all")
        return "not cancelled"

    @brrr.handler_no_arg
    async def wait(name: str) -> None:
        log.begun.set()
        await log.gate.wait()

    handlers = {"top": top, "wait": wait, "undo": saga(log)["undo"]}
    async with serving(memory, handlers) as fleet:
        await known(fleet)
        await fleet.app.schedule(top, topic=TOPIC)()
        await log.begun.wait()
        await fleet.app.cancel(top, topic=TOPIC)()
        assert await fleet.app.result(top)() == "all"
        log.gate.set()
        assert await fleet.idle() == (0, 0, 0, 0)
    assert set(cancelled) == {"a", "b"}
    assert sorted(log.events) == ["undo a", "undo all", "undo b", "undo note a", "undo note b"]


async def test_handler_cancels_another_call(url: str) -> None:
    log = Log()

    @brrr.handler
    async def canceller(app: brrr.ActiveWorker) -> str:
        await log.begun.wait()
        await app.cancel("trip")()
        return "asked"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[Any]:
        outcomes = await app.gather(app.call("trip")(), app.call(canceller)(), return_exceptions=True)
        return [type(each).__name__ for each in outcomes]

    async with serving(url, {**saga(log), "canceller": canceller, "top": top}) as fleet:
        await known(fleet)
        assert await fleet.run(top) == ["CallFailedError", "str"]
        log.gate.set()
        await fleet.idle()
    assert log.events[-1] == "undo hotel"


async def test_running_async_handler_is_cancelled_when_its_lease_is_extended(memory: str) -> None:
    begun, ended = asyncio.Event(), list[str]()

    @brrr.handler
    async def busy(app: brrr.ActiveWorker) -> str:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("interrupted")
            raise
        return "slept"

    @brrr.handler
    async def cancelled(app: brrr.ActiveWorker) -> str:
        if not ended:
            return str(await busy.function(app))
        try:
            return await app.call("never", returns=str)()
        except brrr.Cancelled:
            return "cancelled"

    async with serving(f"{memory}?lease=1s", {"cancelled": cancelled}, concurrency=1) as fleet:
        await known(fleet)
        await fleet.app.schedule(cancelled, topic=TOPIC)()
        await begun.wait()
        await fleet.app.cancel(cancelled, topic=TOPIC)()
        assert await fleet.app.result(cancelled)() == "cancelled"
        await fleet.idle()
    assert ended == ["interrupted"]


async def test_first_request_of_a_fleet_writes_the_marker_and_waits_for_its_workers(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def waited(seconds: float) -> None:
        waits.append(seconds)

    async with brrr.connect(memory) as first, brrr.connect(memory) as second:
        monkeypatch.setattr("brrr_core.engine.control.asyncio.sleep", waited)
        for connection in (first, first, second):
            await connection.cancel_schedule("root")
        assert waits == [2.0, 2.0]  # the second program cannot know how long the first one waited
        await second.store.write([(MARKER, b"0")])
    async with brrr.connect(memory) as third:
        await third.cancel_schedule("root")
    assert waits == [2.0, 2.0]


async def test_cancelled_schedule_stops_and_its_result_says_so(url: str) -> None:
    log = Log()
    async with serving(url, saga(log)) as fleet:
        await known(fleet)
        scheduled = await fleet.app.schedule("trip", topic=TOPIC)()
        await log.begun.wait()
        await fleet.app.cancel_schedule(scheduled)
        log.gate.set()
        with pytest.raises(ScheduleCancelledError, match=str(scheduled.root_id)):
            await fleet.app.result("trip", topic=scheduled)()
        assert await fleet.idle() == (0, 0, 0, 0)
        assert log.events == ["book hotel", "book flight"]

        await fleet.app.resume_schedule(scheduled)
        assert await fleet.run("trip") == "hotel and flight"
    assert log.events == ["book hotel", "book flight"]  # finished calls do not run again


async def test_child_that_another_schedule_needs_survives_a_cancelled_schedule(url: str) -> None:
    """Two schedules share a child that waits in the queue. The one that put and marked it is cancelled."""

    async with serving(url, SHARING) as fleet:
        await known(fleet)
        mine = await fleet.app.schedule(parent, topic=TOPIC)("mine")
        await until_registered(fleet, 1)
        await fleet.app.schedule(parent, topic=TOPIC)("other")
        await until_registered(fleet, 2)
        await fleet.app.cancel_schedule(mine)
        async with serving(url, SHARING, topics=["later"]):
            assert await fleet.app.result(parent)("other") == "other: value"
            await fleet.idle()


@pytest.mark.parametrize("wakes", [False, True])
async def test_dropped_child_loses_its_mark(url: str, wakes: bool) -> None:
    """A schedule that comes after the cancellation puts the child again, and runs."""

    async with serving(url, SHARING) as fleet:
        await known(fleet)
        mine = await fleet.app.schedule(parent, topic=TOPIC)("mine")
        await until_registered(fleet, 1)
        await fleet.app.cancel_schedule(mine)
        async with serving(url, SHARING, topics=["later"]) as later:
            await later.idle()
            assert await pending_of(fleet) == (None, 1)
            name = "mine" if wakes else "other"
            assert await fleet.run(parent, name) == f"{name}: value"
            await fleet.idle()


async def pending_of(fleet: Fleet) -> tuple[int | None, int] | None:
    """Return the mark of the child, and the number of its parents."""
    call = fleet.app._catalogue.encode("child", (), {})
    (record,) = await fleet.connection.store.read([Key("pending_returns", call.call_hash)])
    if record is None:
        return None
    pending = decode_pending(record)
    return pending.scheduled_at, sum(entry.call_hash != call.call_hash for entry in pending.returns)


async def until_registered(fleet: Fleet, parents: int) -> None:
    async def there() -> bool:
        pending = await pending_of(fleet)
        return pending is not None and pending[1] == parents

    await until(there, f"{parents} parents wait for the child")
    await fleet.idle()


async def test_child_that_is_marked_after_its_message_was_dropped_loses_its_mark(memory: str) -> None:
    """The worker of the parent is slow between the put and the mark of the child."""

    marking, go = asyncio.Event(), asyncio.Event()

    async def hold(operation: Operation) -> None:
        if operation.name == "store.swap" and any(swap.key == child_key for swap in operation.items):
            marking.set()
            await go.wait()

    async with brrr.open_backend(memory) as backend, brrr.connect(backend) as client:
        connection = over(Instrument(before=hold).wrap(backend), steps=False)
        async with working(connection, SHARING) as fleet:
            await known(fleet)
            child_key = Key("pending_returns", fleet.app._catalogue.encode("child", (), {}).call_hash)
            mine = await fleet.app.schedule(parent, topic=TOPIC)("mine")
            await marking.wait()
            await client.cancel_schedule(str(mine.root_id))
            async with serving(memory, SHARING, topics=["later"]) as later:
                await later.idle()
                go.set()
                await fleet.idle()
                assert await pending_of(fleet) == (None, 1)
                assert await fleet.run(parent, "other") == "other: value"
        await connection.close()


async def test_cancelled_schedules_do_not_hand_a_call_to_each_other(memory: str) -> None:
    async with serving(memory, SHARING) as fleet:
        await known(fleet)
        for number, name in enumerate(("one", "two"), 1):
            scheduled = await fleet.app.schedule(parent, topic=TOPIC)(name)
            await until_registered(fleet, number)
            await fleet.app.cancel_schedule(scheduled)
        async with serving(memory, SHARING, topics=["later"]) as later:
            assert await later.idle() == (0, 0, 0, 0)
        assert await pending_of(fleet) == (None, 2)


async def test_fleet_with_the_marker_makes_no_more_round_trips(memory: str) -> None:
    """Each delivery reads two keys more, each deferral one, and a call that is handed over its three records, too.

    They are in batches that are read anyway. A third of the deliveries of this tree are handed over.
    """

    @brrr.handler
    async def tree(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
        if not depth:
            return 1
        return sum([await app.call(tree)(depth - 1, path + side) for side in "lr"])

    spent: list[tuple[Counter[str], Counter[str]]] = []
    for marked in (False, True):
        async with brrr.open_backend(f"{memory}-{marked}") as backend, brrr.connect(backend) as client:
            instrument = Instrument()
            connection = over(instrument.wrap(backend))
            if marked:
                await backend.store.write([(MARKER, b"0")])
            async with working(connection, {"tree": tree}, concurrency=1) as fleet:
                app = brrr.AppConsumer(codec="json", connection=client)
                await app.schedule("tree", topic=TOPIC)(4)
                assert await app.result("tree")(4) == 16
                await fleet.idle()
            await connection.close()
            spent.append((instrument.calls, instrument.items))
    (calls, items), (marked_calls, marked_items) = spent
    assert marked_calls["store.read"] <= calls["store.read"] + 1  # the first look at the marker
    assert marked_calls["store.swap"] == calls["store.swap"]
    more = marked_items["store.read"] - items["store.read"]
    assert more <= (2 + 1 + 3 / 3) * items["received"]
