"""Standstills are reported: outages, topics without a worker, old calls, a blocked loop; and a worker's counts."""

import asyncio
import logging
import threading
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.engine import watchdog
from brrr_core.errors import ResultTimeoutError
from brrr_core.hooks import (
    BackendFailed,
    BackendLost,
    BackendRestored,
    CallStale,
    LoopBlocked,
    TopicUnserved,
    WorkerReported,
)
from brrr_testkit.waiting import BOUND
from brrr_testkit.workloads.fleet import QUICK, TOPIC, over, serving
from tests.support.places import Place, virtually


class Listener:
    """Keeps the events of silence."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.failed = 0
        self.reports: list[WorkerReported] = []

    @brrr.hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        self.failed += 1

    @brrr.hookimpl
    def brrr_backend_lost(self, event: BackendLost) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_backend_restored(self, event: BackendRestored) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_topic_unserved(self, event: TopicUnserved) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_call_stale(self, event: CallStale) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_worker_reported(self, event: WorkerReported) -> None:
        self.reports.append(event)


@brrr.handler_no_arg
async def sleeps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@brrr.handler
async def asks_elsewhere(app: brrr.ActiveWorker, topic: str) -> float:
    return await app.call(sleeps, topic=topic)(1)


@brrr.handler
async def fails_once(app: brrr.ActiveWorker) -> str:
    if app.attempt == 1:
        raise ValueError("once")
    return "done"


HANDLERS = {"sleeps": sleeps, "asks_elsewhere": asks_elsewhere, "fails_once": fails_once}


def listened(place: Place, listener: Listener, *, steps: bool = False, **policy: Any) -> brrr.Connection:
    """Return a connection with a listener, whose clock is that of the event loop."""
    roles = place.instrument.wrap(place.backend)
    clock = asyncio.get_running_loop().time
    return over(roles, policy=brrr.Policy(**policy), hooks=[listener], steps=steps, clock=clock)


async def work(connection: brrr.Connection, seconds: float) -> None:
    """Run a worker for this number of seconds."""
    app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
    loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
    await asyncio.sleep(seconds)
    connection.stop()
    await loop
    await connection.close()


@virtually
async def test_outage_is_reported_once_when_it_begins_and_once_when_it_ends(place: Place) -> None:
    listener = Listener()
    working = asyncio.create_task(work(listened(place, listener), 100))
    await place.client.schedule(sleeps, topic=TOPIC)(5)
    await asyncio.sleep(2)
    place.away = ("store", "queue.receive")
    await asyncio.sleep(30)
    assert listener.failed > 2
    assert [type(event) for event in listener.events] == [BackendLost, BackendLost]
    place.away = ()
    assert await place.client.result(sleeps)(5) == 5
    await working
    assert sorted(event.roles for event in listener.events[2:]) == ["queue", "store"]
    # A receive that began before the outage may wait for 15 s of it.
    assert all(isinstance(event, BackendRestored) and event.seconds > 15 for event in listener.events[2:])


async def test_backend_with_all_roles_has_one_name() -> None:
    async with brrr.connect("memory:") as connection:
        watched = connection._operations._reads._run
        assert watched == connection.store.read
    lost: list[str] = []

    class Names:
        @brrr.hookimpl
        def brrr_backend_warned(self, event: Any) -> None:
            lost.append(event.roles)

    backend = MemoryBackend(BackendUrl("memory"), MemoryOptions())
    backend.warnings = ["it forgets everything"]
    async with backend, brrr.serve(backend, hooks=[Names()]):
        assert lost == ["queue, store and cache"]


@pytest.mark.parametrize("steps", [False, True])
@virtually
async def test_worker_reports_a_topic_without_receivers_once(place: Place, steps: bool) -> None:
    listener = Listener()
    await place.client.schedule(asks_elsewhere, topic=TOPIC)("nowhere")
    await work(listened(place, listener, steps=steps), 600)
    (event,) = listener.events
    assert isinstance(event, TopicUnserved)
    assert (event.topic, event.ready) == ("nowhere", 1)


@virtually
async def test_worker_does_not_report_a_topic_with_a_busy_worker(place: Place) -> None:
    listener = Listener()
    for topic in ("b", TOPIC):
        await place.client.schedule(asks_elsewhere, topic=TOPIC)(topic)
    app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=over(place.backend))
    other = asyncio.create_task(over(place.backend).loop("b", app.handle))
    await work(listened(place, listener), 600)
    other.cancel()
    assert listener.events == []


@virtually
async def test_client_reports_a_topic_without_receivers_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="brrr.client"):
        connection = over(place.backend, clock=asyncio.get_running_loop().time)
        client = brrr.AppConsumer(codec="json", connection=connection)
        await client.schedule(sleeps, topic="nowhere")(1)
        for _ in range(2):
            with pytest.raises(ResultTimeoutError):
                await client.result(sleeps, timeout=60)(1)
    (message,) = caplog.messages
    assert message.startswith("nothing receives from the topic nowhere: for")


@pytest.mark.parametrize("steps", [False, True])
@virtually
async def test_stale_call_is_reported_when_it_runs(place: Place, steps: bool) -> None:
    listener = Listener()
    connection = listened(place, listener, steps=steps, stale_after=3600)
    client = brrr.AppConsumer(codec="json", connection=connection)
    await client.schedule(sleeps, topic=TOPIC)(1)
    await asyncio.sleep(7200)
    await client.schedule(sleeps, topic=TOPIC)(2)
    await work(connection, 60)
    (event,) = listener.events
    assert (event.task_name, event.topic, event.seconds) == ("sleeps", TOPIC, 7200)


@virtually
async def test_client_reports_a_stale_call_once(place: Place) -> None:
    listener = Listener()
    connection = listened(place, listener, stale_after=3600)
    client = brrr.AppConsumer(codec="json", connection=connection)
    await client.schedule(sleeps, topic=TOPIC)(1)
    with pytest.raises(ResultTimeoutError):
        await client.result(sleeps, timeout=3500)(1)
    assert not [event for event in listener.events if isinstance(event, CallStale)]
    with pytest.raises(ResultTimeoutError):
        await client.result(sleeps, timeout=3500)(1)
    (stale,) = [event for event in listener.events if isinstance(event, CallStale)]
    assert (stale.task_name, stale.topic) == ("sleeps", TOPIC)
    assert 3600 <= stale.seconds < 3602


@virtually
async def test_worker_counts_its_runs_each_minute(place: Place) -> None:
    listener = Listener()
    await place.client.schedule(asks_elsewhere, topic=TOPIC)(TOPIC)
    await place.client.schedule(fails_once, topic=TOPIC)()
    await place.client.schedule(sleeps, topic=TOPIC)(90)
    await work(listened(place, listener, park=0), 150)
    first, second, last = (event[2:] for event in listener.reports)
    assert first == (3, 1, 0, 0, 1, 1)
    assert second == (1, 0, 0, 0, 0, 0)
    assert not any(last)


async def test_handler_that_blocks_the_loop_forever_is_reported_meanwhile() -> None:
    reported = threading.Event()
    events: list[LoopBlocked] = []

    class Blocked:
        @brrr.hookimpl
        def brrr_loop_blocked(self, event: LoopBlocked) -> None:
            events.append(event)
            reported.set()

    @brrr.handler_no_arg
    async def stuck() -> bool:
        return reported.wait(BOUND)

    async with serving("memory:?lease=300ms", {"stuck": stuck, "sleeps": sleeps}, hooks=[Blocked()]) as fleet:
        await fleet.app.schedule(sleeps, topic=TOPIC)(0.01)
        assert await fleet.run(stuck)
    (event,) = events
    assert (event.task_names, event.ended) == (("stuck",), False)
    assert event.where.startswith("test_silence.py:")
    assert event.where.endswith("stuck")


async def test_handler_that_blocked_the_loop_is_found_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    dogs: list[watchdog.Watchdog] = []
    events: list[LoopBlocked] = []

    class Seen(watchdog.Watchdog):
        def __init__(self, limit: float, stuck: Any) -> None:
            super().__init__(limit, lambda culprit, seconds: None)
            dogs.append(self)

    class Blocked:
        @brrr.hookimpl
        def brrr_loop_blocked(self, event: LoopBlocked) -> None:
            events.append(event)

    @brrr.handler_no_arg
    async def computes() -> None:
        while dogs[0].culprit is None:
            pass
        dogs[0].reported = False
        await asyncio.sleep(0.5)

    monkeypatch.setattr(watchdog, "Watchdog", Seen)
    async with serving("memory:?lease=1s", {"computes": computes, "sleeps": sleeps}, hooks=[Blocked()]) as fleet:
        await fleet.app.schedule(sleeps, topic=TOPIC)(1)
        await fleet.run(computes)
    assert events[0].task_names == ("computes",)
    assert events[0].where.startswith("test_silence.py:")


def test_worker_without_hooks_watches_nothing() -> None:
    async def main() -> None:
        options = MemoryOptions(Duration(1))
        async with MemoryBackend(BackendUrl("memory"), options) as backend:
            connection = over(backend, policy=QUICK)
            await work(connection, 0)
            assert connection._operations.topics is None
            assert connection._operations._apply == backend.steps.commit  # type: ignore[union-attr]

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before  # threads of earlier tests may end
