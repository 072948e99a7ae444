"""The hook plugin of brrr-otel with all that a worker pays for it, except for sending."""

from collections.abc import Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from brrr_otel import OpenTelemetry

__all__ = ["telemetry"]


class _Dropping(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def telemetry() -> OpenTelemetry:
    """Return the plugin. It makes all spans and metrics, and drops them."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Dropping()))
    return OpenTelemetry(tracer_provider=tracers, meter_provider=MeterProvider(metric_readers=[InMemoryMetricReader()]))
