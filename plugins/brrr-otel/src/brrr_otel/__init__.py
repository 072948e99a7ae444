"""OpenTelemetry for brrr: `brrr.serve(url, hooks=[brrr_otel.OpenTelemetry()])` traces and measures a worker."""

from brrr_otel.ids import call_context
from brrr_otel.plugin import OpenTelemetry

__all__ = ["OpenTelemetry", "call_context"]
