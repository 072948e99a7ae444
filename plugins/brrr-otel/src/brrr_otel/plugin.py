"""The hook plugin: it turns the events of a worker into spans and metrics."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Span, TracerProvider

from brrr_core.hooks import (
    BackendFailed,
    CallBuried,
    CallDeferred,
    CallFailed,
    CallPostponed,
    CallReturned,
    CallsMade,
    CallStarted,
    LeaseLost,
    WorkerStarted,
    WorkerStopped,
    hookimpl,
)
from brrr_otel.metrics import Metrics
from brrr_otel.spans import Spans, TracedCall, fail, type_of

__all__ = ["OpenTelemetry"]


@dataclass(slots=True, eq=False)
class _Run:
    """A run in this process.

    Attributes:
        topic: Its topic.
        task_name: Its task.
        span: Its span.
        began: The time at which it began, or continued after it was parked, by `time.perf_counter`.
    """

    topic: str
    task_name: str
    span: Span = INVALID_SPAN
    began: float = 0


_run: Final[ContextVar[_Run | None]] = ContextVar("brrr_otel_run", default=None)
"""The run to which the current context belongs. It also finds a run that continues after it was parked."""


class OpenTelemetry:
    """Traces and measures the calls of a worker. One object can serve several connections of a process.

    Args:
        depth_of: Topics whose depth is measured, on the queue of the worker that started last. Name them in one process
            only: each process would report all messages of the topics.
        tracer_provider: A provider of opentelemetry-sdk; by default the global one.
        meter_provider: The meter provider; by default the global one.
    """

    def __init__(
        self,
        *,
        depth_of: Sequence[str] = (),
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._spans = Spans(tracer_provider)
        self._metrics = Metrics(meter_provider, tuple(depth_of))
        self._running: dict[tuple[str, str, str], _Run] = {}

    @hookimpl
    def brrr_worker_started(self, event: WorkerStarted) -> None:
        """Find the tracer, and begin to measure the topics."""
        self._spans.open()
        self._metrics.open(event.queue)

    @hookimpl
    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        """Stop measuring the topics."""
        del event
        self._metrics.close()

    @hookimpl
    def brrr_call_started(self, event: CallStarted) -> None:
        """Begin the span of a run. The worker that runs the root of a schedule also emits the span of that call."""
        call = TracedCall(event.topic, event.root_id, event.call_hash, event.task_name, event.size)
        if event.is_root and not event.again:
            self._spans.call(call, parent=None)
        key = event.topic, event.root_id, event.call_hash
        self._end(key, "interrupted")
        run = _run.get()
        if run is None:  # otherwise the run was parked, and continues in its own task
            run = _Run(event.topic, event.task_name)
            _run.set(run)
            self._end_with_task(key, run)
        run.span = self._spans.run(call, event.attempt)
        run.began = time.perf_counter()
        self._running[key] = run

    @hookimpl
    def brrr_calls_made(self, event: CallsMade) -> None:
        """Emit the spans of the calls of a handler, before another worker can run them."""
        for topic, call_hash, task_name, size, delay, done in event.calls:
            call = TracedCall(topic, event.root_id, call_hash, task_name, size, delay, done)
            self._spans.call(call, parent=event.call_hash)

    @hookimpl
    def brrr_call_deferred(self, event: CallDeferred) -> None:
        """End a run. If it is parked, it continues with a new span."""
        key = event.topic, event.root_id, event.call_hash
        self._end(key, "deferred", {"brrr.missing": event.missing})

    @hookimpl
    def brrr_call_postponed(self, event: CallPostponed) -> None:
        """End a run that continues later or elsewhere."""
        key = event.topic, event.root_id, event.call_hash
        self._end(key, "postponed", {"brrr.delay": event.delay})

    @hookimpl
    def brrr_call_returned(self, event: CallReturned) -> None:
        """End a run with a value."""
        key = event.topic, event.root_id, event.call_hash
        self._end(key, "returned", {"brrr.value.size": event.size, "brrr.first": event.first})
        if event.first and event.scheduled_at is not None:
            seconds = time.time() - event.scheduled_at
            self._metrics.completed(event.topic, event.task_name, "returned", seconds)

    @hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        """End a run with an error."""
        key, error_type = (event.topic, event.root_id, event.call_hash), type_of(event.error)
        run = self._running.get(key)
        if run is not None:
            fail(run.span, event.error, event.reason)
        self._end(key, "failed", {"brrr.final": event.final}, error_type)
        if event.final and event.scheduled_at is not None:
            seconds = time.time() - event.scheduled_at
            self._metrics.completed(event.topic, event.task_name, "failed", seconds, error_type)

    @hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        """Count a dead letter."""
        self._metrics.buried(event.topic, type_of(event.error))

    @hookimpl
    def brrr_lease_lost(self, event: LeaseLost) -> None:
        """Count a lost lease."""
        self._metrics.lost(event.topic)

    @hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        """Count a failure of a backend."""
        self._metrics.failed(event.topic, type_of(event.error))

    def _end(
        self,
        key: tuple[str, str, str],
        outcome: str,
        attributes: dict[str, str | int | float | bool] | None = None,
        error_type: str = "",
    ) -> None:
        """End the run of a key, if there is one."""
        run = self._running.pop(key, None)
        if run is None:
            return
        run.span.set_attributes({"brrr.outcome": outcome, **(attributes or {})})
        run.span.end()
        self._metrics.ended(run.topic, run.task_name, outcome, time.perf_counter() - run.began, error_type)

    def _end_with_task(self, key: tuple[str, str, str], run: _Run) -> None:
        """End a run at the latest with the task of its delivery, for example if the worker stops or loses a backend."""

        def end(_: "asyncio.Task[Any]") -> None:
            if self._running.get(key) is run:
                self._end(key, "interrupted")

        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(end)
