"""The ids of traces and spans. They are derived from the ids of brrr, so workers need not exchange them."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, TraceFlags

__all__ = ["ChosenIds", "call_context"]

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)

_chosen: Final[ContextVar[SpanContext | None]] = ContextVar("brrr_otel_chosen", default=None)


def call_context(root_id: str, call_hash: str, flags: TraceFlags = _SAMPLED) -> SpanContext:
    """Return the span context of a call. All calls of one schedule are in one trace.

    Args:
        root_id: The root id of the schedule: `Scheduled.root_id` or `app.root_id`.
        call_hash: The call.
        flags: Whether the trace is sampled.
    """
    return SpanContext(_trace_id(root_id), _number(f"{root_id}\n{call_hash}", 8), is_remote=True, trace_flags=flags)


@lru_cache(maxsize=1024)
def _trace_id(root_id: str) -> int:
    return _number(root_id, 16)


def _number(text: str, size: int) -> int:
    """Return a hash of the text as a number. It is never 0, which is not a valid id."""
    return int.from_bytes(blake2b(text.encode(), digest_size=size, person=b"brrr-otel").digest(), "big") or 1


class ChosenIds(IdGenerator):
    """Generates the chosen ids inside a `choose` block, and ids of another generator elsewhere.

    Args:
        others: The other generator.
    """

    def __init__(self, others: IdGenerator) -> None:
        self._others = others

    @staticmethod
    @contextmanager
    def choose(context: SpanContext) -> Generator[None]:
        """Give the span that starts in the block this span id and, if it has no parent, this trace id."""
        token = _chosen.set(context)
        try:
            yield
        finally:
            _chosen.reset(token)

    def generate_trace_id(self) -> int:
        """Return the id of a new trace."""
        chosen = _chosen.get()
        return self._others.generate_trace_id() if chosen is None else chosen.trace_id

    def generate_span_id(self) -> int:
        """Return the id of a new span."""
        chosen = _chosen.get()
        return self._others.generate_span_id() if chosen is None else chosen.span_id
