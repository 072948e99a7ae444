"""Report standstills that cause no error: topics from which nothing receives, and calls that wait for too long.

If no plugin has the hook, the logger `brrr.client` writes a line: clients have no plugins.
"""

import logging
from collections.abc import Callable
from typing import Final

from brrr_core.backend.contracts import QueueStats
from brrr_core.engine.hooks import Hooks
from brrr_core.hooks import CallStale, TopicUnserved
from brrr_core.wire import PendingReturns

__all__ = ["Silence"]

TOPICS: Final = 100
"""The most topics that a connection looks at."""

_log: Final = logging.getLogger("brrr.client")


class Silence:
    """The standstills that one connection has noticed.

    Args:
        hooks: The plugins.
        clock: Returns the time, in unix seconds.
        stale_after: See `Policy`.
    """

    def __init__(self, hooks: Hooks, clock: Callable[[], float], stale_after: float | None) -> None:
        self.stale_after = stale_after
        self._hooks = hooks
        self._clock = clock
        self._still: dict[str, tuple[float, int]] = {}
        """The time since which nothing receives from a topic, and its number of ready messages."""
        self._reported: set[str] = set()

    def observe(self, topic: str, stats: QueueStats, *, after: float) -> bool:
        """Note the counts of a topic. Return whether nothing receives; report it once if it has lasted `after` seconds.

        A worker leases what is ready. So a topic without a worker has ready messages, no leased ones, and never fewer.
        """
        since, ready = self._still.get(topic, (self._clock(), 0))
        if not stats.ready or stats.leased or stats.ready < ready:
            self._still.pop(topic, None)
            self._reported.discard(topic)
            return False
        if topic not in self._still and len(self._still) >= TOPICS:
            return False
        self._still[topic] = since, stats.ready
        seconds = self._clock() - since
        if seconds >= after and topic not in self._reported:
            self._reported.add(topic)
            if self._hooks.wants(TopicUnserved):
                self._hooks.emit(TopicUnserved(topic, stats.ready, seconds))
            else:
                _log.warning("nothing receives from the topic %s: for %.0f s, %d messages have been ready, and none "
                             "was leased. Start a worker, or check the name.", topic, seconds, stats.ready)  # fmt: skip
        return True

    def stale_in(self, pending: PendingReturns) -> float | None:
        """Return the seconds until a call is stale, 0 or less if it is; None if it never will be."""
        if self.stale_after is None or pending.scheduled_at is None:
            return None
        return pending.scheduled_at + self.stale_after - self._clock()

    def report_stale(self, topic: str, root_id: str, call_hash: str, task_name: str, pending: PendingReturns) -> None:
        """Report that a call without an outcome is stale."""
        seconds = self._clock() - (pending.scheduled_at or 0)
        if self._hooks.wants(CallStale):
            self._hooks.emit(CallStale(topic, root_id, call_hash, task_name, seconds))
        else:
            _log.warning("%s was put %.0f s ago, and still has no outcome (call %s)", task_name, seconds, call_hash)
