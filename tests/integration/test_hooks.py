"""Hooks receive every event of a call, in order, and break nothing."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendUnavailableError, BrokenPluginError
from brrr_core.hooks import (
    BackendFailed,
    CallBuried,
    CallDeferred,
    CallFailed,
    CallReturned,
    CallsMade,
    CallStarted,
    MadeCall,
    WorkerStarted,
    WorkerStopped,
)
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import QUICK, TOPIC, UNPARKED, over, serving, working


class Diary:
    """Keeps all events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def _keep(self, event: Any) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_worker_started(self, event: WorkerStarted) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_call_started(self, event: CallStarted) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_call_deferred(self, event: CallDeferred) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_call_returned(self, event: CallReturned) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        self._keep(event)

    @brrr.hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        self._keep(event)


@brrr.handler_no_arg
async def leaf() -> str:
    return "four"


@brrr.handler
async def top(app: brrr.ActiveWorker) -> str:
    return await app.call(leaf)()


def described(event: Any) -> tuple[str, str]:
    return type(event).__name__, getattr(event, "task_name", "")


async def test_events_of_call_and_child_come_in_order(memory: str) -> None:
    diary = Diary()
    async with serving(memory, {"top": top, "leaf": leaf}, hooks=[diary]) as fleet:
        scheduled = await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.app.result(top, timeout=10)()
        await fleet.idle()
    assert list(map(described, (diary.events[0], diary.events[-1]))) == [("WorkerStarted", ""), ("WorkerStopped", "")]
    of_top = [event for event in diary.events if getattr(event, "task_name", "") == "top"]
    of_leaf = [event for event in diary.events if getattr(event, "task_name", "") == "leaf"]
    assert [type(event) for event in of_top] == [CallStarted, CallDeferred, CallStarted, CallReturned]
    assert [type(event) for event in of_leaf] == [CallStarted, CallReturned]
    assert of_top[0] == CallStarted(
        TOPIC, str(scheduled.root_id), scheduled.call_hash, "top", 1, size=len(b"[]"), is_root=True
    )
    assert [event.again for event in of_top if isinstance(event, CallStarted)] == [False, True]
    assert (of_top[1].missing, of_top[1].watched) == (1, of_leaf[0].call_hash)
    assert (of_leaf[0].root_id, of_leaf[0].is_root) == (scheduled.root_id, False)
    assert (of_leaf[1].size, of_leaf[1].first) == (len(b'"four"'), True)
    assert diary.events[-1] == WorkerStopped(TOPIC, 0)


class Calls:
    """Keeps the calls that handlers make, and the runs of them."""

    def __init__(self) -> None:
        self.made: list[CallsMade] = []

    @brrr.hookimpl
    def brrr_calls_made(self, event: CallsMade) -> None:
        self.made.append(event)


@brrr.handler
async def twice(app: brrr.ActiveWorker, n: int) -> str:
    await app.send("note", topic="elsewhere")()
    first, second = await app.gather(app.call(leaf)(), app.call(leaf)())
    await app.call(top)()
    return str(first + second)


@pytest.mark.parametrize("policy", [QUICK, UNPARKED], ids=["parked", "unparked"])
async def test_each_call_that_a_handler_makes_is_reported_once(memory: str, policy: brrr.Policy) -> None:
    calls = Calls()
    async with serving(memory, {"twice": twice, "top": top, "leaf": leaf}, policy=policy, hooks=[calls]) as fleet:
        scheduled = await fleet.app.schedule(twice, topic=TOPIC)(7)
        assert await fleet.app.result(twice, timeout=10)(7) == "fourfour"
    of_twice = [event for event in calls.made if event.task_name == "twice"]
    assert {event.root_id for event in calls.made} == {scheduled.root_id}
    assert [[(made.task_name, made.topic) for made in event.calls] for event in of_twice] == [
        [("note", "elsewhere")],
        [("leaf", TOPIC)],
        [("top", TOPIC)],
    ]
    ((made,),) = (event.calls for event in calls.made if event.task_name == "top")
    assert made == MadeCall(TOPIC, of_twice[1].calls[0].call_hash, "leaf", len(b"[]"), 0, done=True)


async def test_worker_that_does_not_remember_a_call_reports_its_calls_again(memory: str) -> None:
    @brrr.handler
    async def above(app: brrr.ActiveWorker) -> str:
        return await app.call(leaf, topic="leaves")()

    calls, handlers = Calls(), {"above": above, "leaf": leaf}
    async with brrr.open_backend(memory) as backend:
        connection = over(backend, hooks=[calls])
        async with working(connection, handlers) as fleet:
            await fleet.app.schedule(above, topic=TOPIC)()
            await fleet.idle()  # it waits for a call of the other topic
        await connection.close()
        connection = over(backend, hooks=[calls])
        async with working(connection, handlers, topics=[TOPIC, "leaves"]) as fleet:
            assert await fleet.app.result(above, timeout=10)() == "four"
        await connection.close()
    assert [(event.calls[0].task_name, event.calls[0].done) for event in calls.made] == [
        ("leaf", False),
        ("leaf", True),
    ]


@pytest.mark.parametrize("steps", [True, False])
async def test_event_of_an_outcome_has_the_time_at_which_its_call_was_put(memory: str, steps: bool) -> None:
    @brrr.handler_no_arg
    async def bad() -> None:
        raise brrr.TerminalError("bad")

    diary = Diary()
    async with brrr.open_backend(memory) as backend:
        connection = over(backend, hooks=[diary], steps=steps, clock=lambda: 1_700_000_000.9)
        async with working(connection, {"leaf": leaf, "bad": bad}) as fleet:
            await fleet.run(leaf)
            with pytest.raises(brrr.CallFailedError):
                await fleet.run(bad)
        await connection.close()
    outcomes = [event for event in diary.events if isinstance(event, CallReturned | CallFailed)]
    assert [event.scheduled_at for event in outcomes] == [1_700_000_000] * 2


@pytest.mark.parametrize("policy", [QUICK, UNPARKED], ids=["parked", "unparked"])
async def test_handler_sees_the_context_variables_that_a_hook_sets(memory: str, policy: brrr.Policy) -> None:
    """Each run sees its own, even one that continues after it was parked. No other code of the worker sees them."""
    run: ContextVar[str] = ContextVar("run", default="none")
    seen: list[tuple[str, str]] = []
    began: list[str] = []

    class Names:
        @brrr.hookimpl
        def brrr_call_started(self, event: CallStarted) -> None:
            assert run.get() in ("none", "parent 1")  # set by an earlier part of the same run, or by none
            began.append(event.task_name)
            run.set(f"{event.task_name} {began.count(event.task_name)}")

        @brrr.hookimpl
        def brrr_worker_stopped(self, event: WorkerStopped) -> None:
            assert run.get() == "none"
            began.append("stopped")

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> None:
        seen.append(("before", run.get()))
        await app.call(leaf)()
        seen.append(("after", run.get()))

    @brrr.handler_no_arg
    async def leaf() -> None:
        seen.append(("leaf", run.get()))

    async with serving(memory, {"parent": parent, "leaf": leaf}, policy=policy, hooks=[Names()]) as fleet:
        await fleet.run(parent)
    assert began == ["parent", "leaf", "parent", "stopped"]
    again = [("before", "parent 2")] if policy is UNPARKED else []
    assert seen == [("before", "parent 1"), ("leaf", "leaf 1"), *again, ("after", "parent 2")]


async def test_failed_call_emits_its_events(memory: str) -> None:
    @brrr.handler_no_arg
    async def bad() -> None:
        raise ValueError("bad")

    diary = Diary()
    async with serving(memory, {"bad": bad}, policy=replace(QUICK, max_attempts=2), hooks=[diary]) as fleet:
        await fleet.app.schedule(bad, topic=TOPIC)()
        await fleet.dead(1)
    assert [type(event) for event in diary.events] == [
        WorkerStarted,
        *(CallStarted, CallFailed),
        *(CallStarted, CallFailed, CallBuried),
        WorkerStopped,
    ]
    failed = [event for event in diary.events if isinstance(event, CallFailed)]
    assert [(event.attempt, event.retry_in is None) for event in failed] == [(1, False), (2, True)]
    buried = diary.events[-2]
    assert (buried.attempt, buried.error) == (2, failed[1].error)
    assert buried.reason.startswith("ValueError: bad")


async def test_backend_failure_is_reported_to_hooks(memory: str) -> None:
    diary = Diary()
    broken = BackendUnavailableError("it is gone")
    failed: list[Operation] = []

    async def fail_once(operation: Operation) -> None:
        if operation.name == "store.swap" and operation.items[0].key.kind == "value" and not failed:
            failed.append(operation)
            raise broken

    instrument = Instrument(before=fail_once)
    async with brrr.open_backend(memory) as backend:
        connection = over(instrument.wrap(backend), hooks=[diary], steps=False)
        async with working(connection, {"leaf": leaf}) as fleet:
            assert await fleet.run(leaf) == "four"
        await connection.close()
    assert [event.error for event in diary.events if isinstance(event, BackendFailed)] == [broken]


@pytest.mark.parametrize("name", ["started", "deferred", "returned"])
async def test_hook_that_raises_is_reported_once_and_breaks_nothing(
    memory: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    calls = 0

    def bad(self: object, event: object) -> None:
        nonlocal calls
        calls += 1
        raise LookupError("a bad hook")

    bad.__name__ = f"brrr_call_{name}"
    plugin = type("Bad", (), {bad.__name__: brrr.hookimpl(bad)})()
    diary = Diary()
    with caplog.at_level(logging.ERROR, logger="brrr.hooks"):
        async with serving(memory, {"top": top, "leaf": leaf}, hooks=[plugin, diary]) as fleet:
            assert await fleet.run(top) == "four"
            assert await fleet.run(leaf) == "four"
            await fleet.app.schedule("unheard of", topic=TOPIC)(1)
            await fleet.dead(1)
    assert calls >= 1
    (record,) = caplog.records
    assert bad.__name__ in record.getMessage()
    assert "LookupError: a bad hook" in record.getMessage()
    assert len(diary.events) >= 8  # the hooks of the other plugin were still called


@pytest.mark.parametrize(
    "made",
    [
        type("Misspelt", (), {"brrr_call_retruned": brrr.hookimpl(lambda self, event: None)}),
        type("Misfit", (), {"brrr_call_returned": brrr.hookimpl(lambda self, events: None)}),
    ],
    ids=["misspelt", "other arguments"],
)
async def test_hook_with_an_unknown_name_or_other_arguments_is_refused(memory: str, made: Callable[[], object]) -> None:
    plugin = made()
    for name in ("brrr_call_retruned", "brrr_call_returned"):
        if hasattr(plugin, name):
            getattr(type(plugin), name).__name__ = name
    with pytest.raises(BrokenPluginError) as caught:
        async with brrr.serve(memory, hooks=[plugin]):
            pass
    assert "brrr_call_returned" in str(caught.value)  # the remedy lists what there is


async def test_without_hooks_no_event_is_made(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from brrr_core.engine import deferring, running, settling

    def refuse(*args: object) -> None:
        raise AssertionError("an event was created although no plugin listens")

    for name in ("CallStarted", "CallIsolated", "CallsMade", "MadeCall"):
        monkeypatch.setattr(running, name, refuse)
    monkeypatch.setattr(deferring, "CallDeferred", refuse)
    for name in ("CallReturned", "CallFailed", "CallBuried", "CallPostponed"):
        monkeypatch.setattr(settling, name, refuse)
    async with serving(memory, {"top": top, "leaf": leaf}) as fleet:
        assert await fleet.run(top) == "four"
