"""Providers that keep spans and metrics in memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from brrr_otel import OpenTelemetry


class Telemetry(NamedTuple):
    """A hook plugin, and what it emitted."""

    plugin: OpenTelemetry
    tracers: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, in order."""
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def make(sampler: Sampler = DEFAULT_ON, **how: Any) -> Telemetry:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    return Telemetry(OpenTelemetry(tracer_provider=tracers, meter_provider=meters, **how), tracers, exporter, reader)


@pytest.fixture
def telemetry() -> Callable[..., Telemetry]:
    """Return the function that makes a plugin whose spans and metrics stay in memory."""
    return make
