"""The spans of calls and of runs. docs/decisions/0046-opentelemetry.md says which worker emits each span."""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from opentelemetry import context, trace
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from brrr_otel.ids import ChosenIds, call_context

__all__ = ["SYSTEM", "Spans", "TracedCall", "fail", "type_of"]

_log: Final = logging.getLogger("brrr.otel")

SYSTEM: Final = "brrr"

_NO_PARENT: Final = context.Context()


class TracedCall(NamedTuple):
    """A call in a trace. `size` is the size of its arguments in bytes; `delay` and `done` are those of `MadeCall`."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    size: int
    delay: float = 0
    done: bool = False

    def attributes(self, operation: str, kind: str) -> dict[str, str | int | float | bool]:
        """Return the attributes of the spans of an operation."""
        return {
            "messaging.system": SYSTEM,
            "messaging.operation.name": operation,
            "messaging.operation.type": kind,
            "messaging.destination.name": self.topic,
            "messaging.message.id": self.call_hash,
            "messaging.message.conversation_id": self.root_id,
            "messaging.message.body.size": self.size,
            "brrr.task.name": self.task_name,
        }


class Spans:
    """Emits the spans of a worker.

    Args:
        provider: The tracer provider; None for the global one.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer: Tracer | None = None
        self._flags_of: Callable[[str], TraceFlags]

    def open(self) -> None:
        """Find the tracer. It must be a tracer of the SDK, because only its id generator can be given an id."""
        provider = self._provider or trace.get_tracer_provider()
        tracer = provider.get_tracer("brrr_otel")
        if isinstance(tracer, Tracer):
            if not isinstance(tracer.id_generator, ChosenIds):  # this tracer belongs to brrr_otel alone
                tracer.id_generator = ChosenIds(tracer.id_generator)
            self._tracer, self._flags_of = tracer, _sampling(tracer)
        elif not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider | TracerProvider):
            _log.warning(
                "brrr emits no traces: the tracer provider is a %s. Set a provider of opentelemetry-sdk.",
                type(provider).__name__,
            )

    def call(self, call: TracedCall, *, parent: str | None) -> None:
        """Emit the span of a call. Its id depends only on the call, so emitting it again is harmless.

        Args:
            call: The call.
            parent: The call hash of its parent; None for the root.
        """
        if self._tracer is None:
            return
        flags = self._flags_of(call.root_id)
        if not flags.sampled:
            return
        above = _NO_PARENT if parent is None else _child_context(call_context(call.root_id, parent, flags))
        attributes = call.attributes("schedule", "send")
        if call.delay:
            attributes["brrr.delay"] = call.delay
        if call.done:
            attributes["brrr.done"] = True
        with ChosenIds.choose(call_context(call.root_id, call.call_hash, flags)):
            name = f"schedule {call.task_name}"
            span = self._tracer.start_span(name, above, SpanKind.PRODUCER, attributes)
        span.end()

    def run(self, call: TracedCall, attempt: int) -> trace.Span:
        """Begin the span of a run, below that of its call. It becomes the current span of the handler."""
        if self._tracer is None:
            return trace.INVALID_SPAN
        above = _child_context(call_context(call.root_id, call.call_hash, self._flags_of(call.root_id)))
        attributes = {**call.attributes("run", "process"), "brrr.attempt": attempt}
        span = self._tracer.start_span(f"run {call.task_name}", above, SpanKind.CONSUMER, attributes)
        context.attach(trace.set_span_in_context(span))  # in the context of the run, which ends with it
        return span


def _sampling(tracer: Tracer) -> Callable[[str], TraceFlags]:
    """Return a function that decides for a root id. Workers with equal samplers sample the same traces."""

    @lru_cache(maxsize=1024)
    def flags_of(root_id: str) -> TraceFlags:
        decision = tracer.sampler.should_sample(_NO_PARENT, call_context(root_id, "").trace_id, SYSTEM).decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        return TraceFlags(TraceFlags.SAMPLED) if sampled else TraceFlags.get_default()

    return flags_of


def fail(span: trace.Span, error: BaseException, reason: str) -> None:
    """Record the error of a run. `reason` is its message and then its traceback, without secrets."""
    message = reason.partition("\n")[0]
    span.set_status(Status(StatusCode.ERROR, message))
    span.set_attribute("error.type", type_of(error))
    span.add_event(
        "exception",
        {"exception.type": type_of(error), "exception.message": message, "exception.stacktrace": reason},
    )


def type_of(error: BaseException) -> str:
    """Return the full name of the type of an error, without the module if that is `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _child_context(parent: SpanContext) -> context.Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), _NO_PARENT)
