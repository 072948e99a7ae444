"""The metrics of a worker, named by the semantic conventions for messaging. docs/reference/telemetry.md lists them."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from brrr_core.backend import Queue, QueueStats
from brrr_otel.spans import SYSTEM

__all__ = ["Metrics"]

_RUN_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The buckets for runs, in seconds, as the semantic conventions define them."""

_CALL_BUCKETS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
"""The buckets for calls, in seconds. Calls may take days, and the store keeps whole seconds."""

_STATS_TIMEOUT: Final = 5.0
"""Seconds after which a collection continues without the depth of the topics."""


class Metrics:
    """The instruments of a worker.

    Args:
        provider: The meter provider; None for the global one.
        depth_of: The topics whose depth is measured.
    """

    def __init__(self, provider: metrics.MeterProvider | None, depth_of: Sequence[str]) -> None:
        meter = (provider or metrics.get_meter_provider()).get_meter("brrr_otel")
        self._runs = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of one run of a handler.",
            explicit_bucket_boundaries_advisory=_RUN_BUCKETS,
        )
        self._calls = meter.create_histogram(
            "brrr.call.duration",
            "s",
            "Time from the schedule of a call to its outcome.",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self._dead = meter.create_counter("brrr.dead_letters", "{message}", "Messages that were dead-lettered.")
        self._lost = meter.create_counter(
            "brrr.leases.lost", "{lease}", "Leases that expired while a worker ran their calls."
        )
        self._failures = meter.create_counter("brrr.backend.failures", "{failure}", "Failed operations of a backend.")
        self._depth_of = depth_of
        self._workers = 0
        self._queue: Queue | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if depth_of:
            meter.create_observable_gauge(
                "brrr.queue.depth", [self._observe], "{message}", "Messages of a topic, by state."
            )

    def open(self, queue: Queue) -> None:
        """Begin to measure the topics, on the running event loop."""
        self._workers += 1
        self._queue, self._loop = queue, asyncio.get_running_loop()

    def close(self) -> None:
        """Stop measuring the topics if this is the last worker."""
        self._workers -= 1
        if not self._workers:
            self._queue = self._loop = None

    def ended(self, topic: str, task_name: str, outcome: str, seconds: float, error_type: str) -> None:
        """Measure a run."""
        self._runs.record(seconds, _attributes(topic, task_name, outcome, error_type))

    def completed(self, topic: str, task_name: str, outcome: str, seconds: float, error_type: str = "") -> None:
        """Measure a call that has got its outcome."""
        attributes = _attributes(topic, task_name, outcome, error_type)
        del attributes["messaging.operation.name"]
        self._calls.record(max(0.0, seconds), attributes)

    def buried(self, topic: str, error_type: str) -> None:
        """Count a dead letter."""
        self._dead.add(1, {**_topic_attributes(topic), "error.type": error_type})

    def lost(self, topic: str) -> None:
        """Count a lost lease."""
        self._lost.add(1, _topic_attributes(topic))

    def failed(self, topic: str, error_type: str) -> None:
        """Count a failure of a backend."""
        self._failures.add(1, {**_topic_attributes(topic), "error.type": error_type})

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        """Return the depths. A reader calls this in its own thread."""
        queue, loop = self._queue, self._loop
        if queue is None or loop is None or _runs_here(loop):
            return []
        reading = asyncio.run_coroutine_threadsafe(_stats(queue, self._depth_of), loop)
        try:
            found = reading.result(_STATS_TIMEOUT)
        finally:
            reading.cancel()
        return [
            Observation(number, {**_topic_attributes(topic), "brrr.message.state": state})
            for topic, stats in zip(self._depth_of, found, strict=True)
            for state, number in stats._asdict().items()
        ]


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this thread runs the loop, and so cannot wait for it."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _stats(queue: Queue, topics: Sequence[str]) -> list[QueueStats]:
    return [await queue.stats(topic) for topic in topics]


def _topic_attributes(topic: str) -> dict[str, str]:
    return {"messaging.system": SYSTEM, "messaging.destination.name": topic}


def _attributes(topic: str, task_name: str, outcome: str = "", error_type: str = "") -> dict[str, str]:
    attributes = {**_topic_attributes(topic), "messaging.operation.name": "run", "brrr.task.name": task_name}
    if outcome:
        attributes["brrr.outcome"] = outcome
    if error_type:
        attributes["error.type"] = error_type
    return attributes
