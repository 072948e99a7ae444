"""A schedule is one connected trace: a span for each call, and below it one for each run."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

import brrr_core as brrr
from brrr_core.hooks import WorkerStarted
from brrr_otel import OpenTelemetry, call_context
from brrr_testkit.workloads.fleet import QUICK, TOPIC, UNPARKED, over, serving, working

MEMORY = "memory:"

Make = Callable[..., Any]


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 1), app.call(fib)(n - 2)))


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def outcomes(spans: Sequence[ReadableSpan], name: str) -> list[object]:
    return [span.attributes["brrr.outcome"] for span in spans if span.name == f"run {name}" and span.attributes]


@pytest.mark.parametrize("policy", [QUICK, UNPARKED], ids=["parked", "unparked"])
async def test_schedule_is_one_connected_trace(telemetry: Make, policy: brrr.Policy) -> None:
    seen = telemetry()
    async with serving(MEMORY, {"fib": fib}, policy=policy, hooks=[seen.plugin]) as fleet:
        scheduled = await fleet.app.schedule(fib, topic=TOPIC)(5)
        assert await fleet.app.result(fib, timeout=10)(5) == 5
    root = call_context(str(scheduled.root_id), scheduled.call_hash)
    assert {span.context.trace_id for span in seen.spans} == {root.trace_id}
    ids = {id_of(span) for span in seen.spans}
    assert {id_of(span) for span in seen.spans if span.parent is None} == {root.span_id}
    assert [span.name for span in seen.spans if span.parent is not None and span.parent.span_id not in ids] == []
    kinds = {(span.name, span.kind) for span in seen.spans}
    assert kinds == {("schedule fib", SpanKind.PRODUCER), ("run fib", SpanKind.CONSUMER)}
    calls = {span.attributes["messaging.message.id"] for span in seen.spans}
    assert len(calls) == len({id_of(span) for span in seen.spans if span.kind is SpanKind.PRODUCER}) == 6
    assert Counter(outcomes(seen.spans, "fib")) == {"deferred": 4, "returned": 6}


async def test_span_of_run_is_current_in_handler_even_after_parking(telemetry: Make) -> None:
    seen = telemetry()
    tracer = seen.tracers.get_tracer("of the user")

    @brrr.handler_no_arg
    async def leaf() -> None:
        pass

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> None:
        with tracer.start_as_current_span("before"):
            pass
        await app.call(leaf)()
        with tracer.start_as_current_span("after"):
            pass

    async with serving(MEMORY, {"parent": parent, "leaf": leaf}, hooks=[seen.plugin]) as fleet:
        await fleet.run(parent)
    (before,), (after,) = ([span for span in seen.spans if span.name == name] for name in ("before", "after"))
    deferred, returned = (span for span in seen.spans if span.name == "run parent")
    assert (before.parent, after.parent) == (deferred.context, returned.context)
    assert not trace.get_current_span().get_span_context().is_valid  # that of this program


async def test_span_of_run_is_current_in_the_thread_of_a_sync_handler(telemetry: Make) -> None:
    seen = telemetry()

    @brrr.handler_no_arg
    def sync() -> str:
        return format(trace.get_current_span().get_span_context().span_id, "x")

    async with serving(MEMORY, {"sync": sync}, hooks=[seen.plugin]) as fleet:
        found = await fleet.run(sync)
    (run,) = (span for span in seen.spans if span.name == "run sync")
    assert found == format(id_of(run), "x")


async def test_failed_run_has_its_error_without_secrets(telemetry: Make) -> None:
    seen = telemetry()

    @brrr.handler_no_arg
    async def bad() -> None:
        raise brrr.TerminalError("no answer from redis://:hunter2@db")

    async with brrr.open_backend(MEMORY) as backend:
        connection = brrr.Connection(
            backend.queue,
            backend.store,
            backend.cache,
            hooks=[seen.plugin],
            policy=QUICK,
            mask=lambda text: text.replace("hunter2", "***"),
        )
        async with working(connection, {"bad": bad}) as fleet:
            with pytest.raises(brrr.CallFailedError):
                await fleet.run(bad)
        await connection.close()
    (run,) = (span for span in seen.spans if span.name == "run bad")
    assert run.status.status_code is StatusCode.ERROR
    assert run.attributes["error.type"] == "brrr_core.errors.TerminalError"
    assert run.attributes["brrr.final"] is True
    (event,) = run.events
    assert "redis://:***@db" in event.attributes["exception.message"]
    assert "Traceback" in event.attributes["exception.stacktrace"]
    assert "hunter2" not in run.to_json()


async def test_run_that_a_stop_ends_is_interrupted(telemetry: Make) -> None:
    seen = telemetry()
    running = asyncio.Event()

    @brrr.handler_no_arg
    async def hangs() -> None:
        running.set()
        await asyncio.Event().wait()

    async with serving(MEMORY, {"hangs": hangs}, policy=replace(QUICK, grace=0), hooks=[seen.plugin]) as fleet:
        await fleet.app.schedule(hangs, topic=TOPIC)()
        await running.wait()
    assert outcomes(seen.spans, "hangs") == ["interrupted"]


async def test_run_that_is_repeated_ends_before_the_next(telemetry: Make) -> None:
    """The wake-ups of children come while the parent defers, or a run is put again: each start has its end."""
    seen = telemetry()
    runs = 0

    @brrr.handler_no_arg
    async def again() -> int:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise brrr.Again(after=0)
        return runs

    async with serving(MEMORY, {"again": again}, hooks=[seen.plugin]) as fleet:
        assert await fleet.run(again) == 3
    assert outcomes(seen.spans, "again") == ["postponed", "postponed", "returned"]


async def test_sampler_of_the_user_samples_or_drops_whole_traces(telemetry: Make) -> None:
    seen = telemetry(ParentBased(TraceIdRatioBased(0.5)))
    async with serving(MEMORY, {"fib": fib}, hooks=[seen.plugin]) as fleet:
        scheduled = []
        for n in range(2, 12):
            scheduled.append(await fleet.app.schedule(fib, topic=TOPIC)(n))
            await fleet.app.result(fib, timeout=10)(n)
    expected = {
        context.trace_id
        for context in (call_context(str(each.root_id), each.call_hash) for each in scheduled)
        if context.trace_id & ((1 << 64) - 1) < 1 << 63
    }
    assert {span.context.trace_id for span in seen.spans} == expected
    for trace_id in expected:
        of_trace = [span for span in seen.spans if span.context.trace_id == trace_id]
        ids = {id_of(span) for span in of_trace}
        assert all(span.parent is None or span.parent.span_id in ids for span in of_trace)


async def test_without_the_sdk_there_are_no_traces_and_calls_run(caplog: pytest.LogCaptureFixture) -> None:
    class Foreign(trace.TracerProvider):
        def get_tracer(self, *args: Any, **how: Any) -> trace.Tracer:
            return trace.NoOpTracer()

    for provider, lines in ((trace.NoOpTracerProvider(), 0), (Foreign(), 1)):
        caplog.clear()
        async with serving(MEMORY, {"fib": fib}, hooks=[OpenTelemetry(tracer_provider=provider)]) as fleet:
            assert await fleet.run(fib, 3) == 2
        assert len(caplog.records) == lines, caplog.text


async def test_two_plugins_share_a_provider(telemetry: Make) -> None:
    seen = telemetry()
    second = OpenTelemetry(tracer_provider=seen.tracers)
    async with brrr.open_backend(MEMORY) as backend:
        for plugin in (seen.plugin, second):
            plugin.brrr_worker_started(WorkerStarted(TOPIC, 1, backend.queue))
        connection = over(backend, hooks=[seen.plugin])
        async with working(connection, {"fib": fib}) as fleet:
            await fleet.run(fib, 1)
        await connection.close()
    assert [span.name for span in seen.spans] == ["schedule fib", "run fib"]
