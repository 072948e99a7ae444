"""The metrics of a worker, and their names in Prometheus."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

import brrr_core as brrr
from brrr_core.errors import BackendUnavailableError
from brrr_core.hooks import BackendFailed, LeaseLost, WorkerStarted, WorkerStopped
from brrr_otel import OpenTelemetry
from brrr_testkit.workloads.fleet import TOPIC, UNPARKED, serving

MEMORY = "memory:"

Make = Callable[..., Any]


@brrr.handler_no_arg
async def leaf(n: int) -> int:
    if n < 0:
        raise brrr.TerminalError("negative")
    return n


@brrr.handler
async def top(app: brrr.ActiveWorker, n: int) -> int:
    return await app.call(leaf)(n)


HANDLERS = {"top": top, "leaf": leaf}
CALLED = {"messaging.system": "brrr", "messaging.destination.name": TOPIC}


def with_labels(points: list[Any], value: str, *labels: str) -> dict[tuple[Any, ...], Any]:
    return {tuple(point.attributes.get(label) for label in labels): getattr(point, value) for point in points}


async def test_runs_and_calls_are_measured(telemetry: Make) -> None:
    seen = telemetry()
    async with serving(MEMORY, HANDLERS, policy=UNPARKED, hooks=[seen.plugin]) as fleet:
        await fleet.run(top, 1)
        with pytest.raises(brrr.CallFailedError):
            await fleet.run(leaf, -1)
    runs = seen.points("messaging.process.duration")
    assert all(CALLED.items() <= point.attributes.items() for point in runs)
    assert with_labels(runs, "count", "brrr.task.name", "brrr.outcome", "error.type") == {
        ("top", "deferred", None): 1,
        ("top", "returned", None): 1,
        ("leaf", "returned", None): 1,
        ("leaf", "failed", "brrr_core.errors.TerminalError"): 1,
    }
    calls = seen.points("brrr.call.duration")
    assert with_labels(calls, "count", "brrr.task.name", "brrr.outcome") == {
        ("top", "returned"): 1,
        ("leaf", "returned"): 1,
        ("leaf", "failed"): 1,
    }
    assert all(0 <= point.min <= point.max < 60 for point in calls)


async def test_dead_letters_and_depth_are_measured(telemetry: Make) -> None:
    seen = telemetry(depth_of=[TOPIC, "empty"])
    async with serving(MEMORY, HANDLERS, hooks=[seen.plugin]) as fleet:
        await fleet.app.schedule("unheard of", topic=TOPIC)()
        await fleet.dead(1)
        depths = await asyncio.to_thread(seen.points, "brrr.queue.depth")  # as a reader collects them
        assert seen.points("brrr.queue.depth") == []  # the loop cannot wait for itself
    assert seen.points("brrr.queue.depth") == []  # no worker is left to ask
    found = with_labels(depths, "value", "messaging.destination.name", "brrr.message.state")
    assert len(found) == 8
    assert {key: number for key, number in found.items() if number} == {(TOPIC, "dead"): 1}
    (dead,) = seen.points("brrr.dead_letters")
    assert (dead.value, dead.attributes["messaging.destination.name"]) == (1, TOPIC)


async def test_lost_leases_and_failures_of_backends_are_counted(telemetry: Make) -> None:
    seen = telemetry()
    seen.plugin.brrr_lease_lost(LeaseLost(TOPIC, b"", "leaf", 31, 30))
    error = BackendUnavailableError("gone")
    for _ in range(2):
        seen.plugin.brrr_backend_failed(BackendFailed(TOPIC, error, "gone"))
    (lost,), (failures,) = seen.points("brrr.leases.lost"), seen.points("brrr.backend.failures")
    assert (lost.value, failures.value) == (1, 2)
    assert failures.attributes["error.type"] == "brrr_core.errors.BackendUnavailableError"


async def test_depth_is_measured_until_the_last_worker_stops(telemetry: Make) -> None:
    seen = telemetry(depth_of=[TOPIC])
    async with brrr.open_backend(MEMORY) as backend:
        for topic in ("a", "b"):
            seen.plugin.brrr_worker_started(WorkerStarted(topic, 1, backend.queue))
        seen.plugin.brrr_worker_stopped(WorkerStopped("a", 0))
        assert len(await asyncio.to_thread(seen.points, "brrr.queue.depth")) == 4
        seen.plugin.brrr_worker_stopped(WorkerStopped("b", 0))
        assert await asyncio.to_thread(seen.points, "brrr.queue.depth") == []


async def test_prometheus_has_the_same_metrics() -> None:
    reader = PrometheusMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    plugin = OpenTelemetry(meter_provider=provider, depth_of=[TOPIC])
    try:
        async with serving(MEMORY, HANDLERS, hooks=[plugin]) as fleet:
            await fleet.run(top, 1)
            text = (await asyncio.to_thread(generate_latest, REGISTRY)).decode()
    finally:
        provider.shutdown()
    lines = [line.partition("{")[0] for line in text.splitlines()]
    for name in (
        "messaging_process_duration_seconds_count",
        "brrr_call_duration_seconds_count",
        "brrr_queue_depth",
    ):
        assert name in lines, text
