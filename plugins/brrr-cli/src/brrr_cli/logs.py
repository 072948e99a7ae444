"""The log of `brrr worker`: hooks that write one line for each event to the standard error."""

import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Literal, TypeAlias

from brrr_cli.errors import one_line
from brrr_cli.json_logs import JsonFormatter
from brrr_cli.secrets import Secrets
from brrr_core.errors import BackendUnavailableError, BrrrError, MalformedRecordError
from brrr_core.hooks import (
    BackendFailed,
    BackendLost,
    BackendRestored,
    BackendWarned,
    CallBuried,
    CallDeferred,
    CallFailed,
    CallIsolated,
    CallPostponed,
    CallReturned,
    CallStale,
    CallStarted,
    LeaseLost,
    LoopBlocked,
    ThreadsAbandoned,
    TopicUnserved,
    WorkerReported,
    WorkerStarted,
    WorkerStopped,
    hookimpl,
)
from brrr_core.safe_text import Mask, describe, format_traceback, safe_str
from brrr_core.wire import decode_message

__all__ = ["LOG", "EveryCallLog", "MaskingFormatter", "WorkerLog", "log_to_stderr"]

LOG: Final = logging.getLogger("brrr.worker")
ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
FORMAT: Final = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


_logged_failure: Final[ContextVar[BaseException | None]] = ContextVar("logged_failure", default=None)
"""The error of the current delivery, if its last attempt is already logged. The dead letter then omits it."""


class MaskingFormatter(logging.Formatter):
    """Formats log records and tracebacks, even those of client libraries, without the secrets of the process' URLs.

    Args:
        secrets: The secrets to mask.
    """

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(FORMAT)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole text of a record."""
        return self._secrets.mask(super().format(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the name that `logging` calls
        """Return the traceback of an error, even if Python cannot format it."""
        if ei[1] is None:
            return super().formatException(ei)
        return format_traceback(ei[1], mask=self._secrets.mask).rstrip()


def log_to_stderr(
    tokens: Sequence[str], *, quiet: bool, verbose: bool, style: Literal["text", "json"] = "text"
) -> None:
    """Send log records to the standard error: warnings only when quiet, details when verbose.

    If a module of handlers configures logging later, its configuration wins.

    Args:
        tokens: The command line, for the URLs whose secrets are masked.
        quiet: Show only warnings.
        verbose: Show details too.
        style: The form of a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((JsonFormatter if style == "json" else MaskingFormatter)(Secrets(tokens)))
    logging.basicConfig(handlers=[handler], level=logging.WARNING if quiet else logging.INFO)
    LOG.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


class WorkerLog:
    """Logs starts, stops and failures.

    Args:
        tracebacks: Log failures with their tracebacks.
        mask: Masks the secrets in the messages of errors.
    """

    def __init__(self, *, tracebacks: bool = False, mask: Mask = str) -> None:
        self._tracebacks = tracebacks
        self._mask = mask
        self._lost: set[str] = set()
        """The backends that do not answer."""
        self._busy: set[str] = set()
        """The topics that were not idle in the last report."""

    @hookimpl
    def brrr_worker_started(self, event: WorkerStarted) -> None:
        """Log the start of a loop."""
        LOG.info("working on %s, up to %d calls at a time", event.topic, event.concurrency)

    @hookimpl
    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        """Log the end of a loop."""
        LOG.info("stopped working on %s; %d unfinished calls went back to it", event.topic, event.released)

    @hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        """Log a failed attempt. A failure that is the outcome of the call has a dead letter only if it is exhausted."""
        if event.final:
            _logged_failure.set(event.error)
            self._log(logging.WARNING, event.error, "%s failed for good in attempt %d: %s (call %s on %s)",
                      event.task_name, event.attempt, self._said(event.error), event.call_hash,
                      event.topic)  # fmt: skip
        elif event.retry_in is None:
            _logged_failure.set(event.error)
            self._log(logging.ERROR, event.error, "%s failed in attempt %d and is dead-lettered: %s (call %s on %s)",
                      event.task_name, event.attempt, self._said(event.error), event.call_hash,
                      event.topic)  # fmt: skip
        else:
            self._log(logging.WARNING, event.error,
                      "%s failed in attempt %d, and runs again in %.1f s: %s (call %s on %s)",
                      event.task_name, event.attempt, event.retry_in, self._said(event.error), event.call_hash,
                      event.topic)  # fmt: skip

    @hookimpl
    def brrr_call_isolated(self, event: CallIsolated) -> None:
        """Log that a message runs alone."""
        LOG.warning("%s will run alone: %d deliveries ended because a worker died or lost the lease (call %s on %s)",
                    event.task_name, event.deliveries, event.call_hash, event.topic)  # fmt: skip

    @hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        """Log a dead letter: without the error if `brrr_call_failed` already logged it."""
        if event.error is _logged_failure.get():
            LOG.error("a dead letter on %s (call %s, delivery %d)",
                      event.topic, _call_hash(event.body), event.attempt)  # fmt: skip
            return
        self._log(logging.ERROR, event.error, "a dead letter on %s: %s (call %s, delivery %d)",
                  event.topic, self._said(event.error), _call_hash(event.body), event.attempt)  # fmt: skip

    @hookimpl
    def brrr_lease_lost(self, event: LeaseLost) -> None:
        """Log a lost lease, once per delivery."""
        LOG.error("a lease on %s expired while %s: it was not extended for %.1f s, and lasts %.1f s (call %s)",
                  event.topic, f"{event.task_name} ran" if event.task_name else "its message waited", event.seconds,
                  event.lease, _call_hash(event.body))  # fmt: skip

    @hookimpl
    def brrr_loop_blocked(self, event: LoopBlocked) -> None:
        """Log a blocked event loop, once per topic and block."""
        LOG.log(logging.WARNING if event.ended else logging.ERROR,
                "the event loop %s for %.1f s while %s ran%s; a lease on %s lasts %.1f s",
                "was blocked" if event.ended else "has been blocked", event.seconds,
                ", ".join(event.task_names) or "no handler", f" at {event.where}" if event.where else "",
                event.topic, event.lease)  # fmt: skip

    @hookimpl
    def brrr_threads_abandoned(self, event: ThreadsAbandoned) -> None:
        """Log that a worker stops receiving for lack of threads."""
        LOG.warning("receiving from %s stops: %d of %d threads still run handlers after their timeouts",
                    event.topic, event.abandoned, event.limit)  # fmt: skip

    @hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        """Log a failed backend operation, unless the outage of a backend explains it: then only with details."""
        away = bool(self._lost) and isinstance(event.error, BackendUnavailableError)
        self._log(logging.DEBUG if away else logging.WARNING, event.error, "a backend failed while working on %s: %s",
                  event.topic, self._said(event.error))  # fmt: skip

    @hookimpl
    def brrr_backend_lost(self, event: BackendLost) -> None:
        """Log the start of an outage."""
        self._lost.add(event.roles)
        LOG.error("the backend of the %s does not answer, and is retried: %s",
                  event.roles, self._said(event.error))  # fmt: skip

    @hookimpl
    def brrr_backend_restored(self, event: BackendRestored) -> None:
        """Log the end of an outage."""
        self._lost.discard(event.roles)
        LOG.warning("the backend of the %s answers again, after %.1f s", event.roles, event.seconds)

    @hookimpl
    def brrr_backend_warned(self, event: BackendWarned) -> None:
        """Log a warning of a backend, once per start."""
        LOG.warning("the backend of the %s may lose data: %s", event.roles, event.warning)

    @hookimpl
    def brrr_topic_unserved(self, event: TopicUnserved) -> None:
        """Log once that nothing receives from a topic."""
        LOG.warning("nothing receives from the topic %s: for %.0f s, %d messages have been ready, and none was leased",
                    event.topic, event.seconds, event.ready)  # fmt: skip

    @hookimpl
    def brrr_call_stale(self, event: CallStale) -> None:
        """Log a stale call, once per run."""
        LOG.warning("%s was put %.0f s ago, and still has no outcome (call %s on %s)",
                    event.task_name, event.seconds, event.call_hash, event.topic or "an unknown topic")  # fmt: skip

    @hookimpl
    def brrr_worker_reported(self, event: WorkerReported) -> None:
        """Log what a worker did. Of idle times in a row, log only the first."""
        busy = any(event[2:])
        if busy or event.topic in self._busy:
            LOG.info("%s, in %.0f s: %d calls returned, %d deferred, %d failed, %d retried, %d postponed; %d in flight",
                     event.topic, event.seconds, event.returned, event.deferred, event.failed, event.retried,
                     event.postponed, event.in_flight)  # fmt: skip
        (self._busy.add if busy else self._busy.discard)(event.topic)

    def _said(self, error: BaseException) -> str:
        return one_line((safe_str if isinstance(error, BrrrError) else describe)(error, mask=self._mask))

    def _log(self, level: int, error: BaseException, message: str, *values: object) -> None:
        LOG.log(level, message, *values, exc_info=error if self._tracebacks else None)


class EveryCallLog(WorkerLog):
    """Also logs each run of each call."""

    @hookimpl
    def brrr_call_started(self, event: CallStarted) -> None:
        """Log the start of a run."""
        LOG.debug("running %s, attempt %d (call %s on %s)",
                  event.task_name, event.attempt, event.call_hash, event.topic)  # fmt: skip

    @hookimpl
    def brrr_call_deferred(self, event: CallDeferred) -> None:
        """Log a deferred run."""
        LOG.debug("%s waits for %d calls (call %s on %s)",
                  event.task_name, event.missing, event.call_hash, event.topic)  # fmt: skip

    @hookimpl
    def brrr_call_postponed(self, event: CallPostponed) -> None:
        """Log a run that ended with `Again`, or that did not begin."""
        if event.reason:
            LOG.info("%s (call %s on %s)", event.reason, event.call_hash, event.topic)
            return
        LOG.debug("%s runs again after %g s (call %s on %s)",
                  event.task_name, event.delay, event.call_hash, event.topic)  # fmt: skip

    @hookimpl
    def brrr_call_returned(self, event: CallReturned) -> None:
        """Log a run that returned."""
        LOG.debug("%s returned %d bytes (call %s on %s)",
                  event.task_name, event.size, event.call_hash, event.topic)  # fmt: skip


def _call_hash(body: bytes) -> str:
    try:
        return decode_message(body).call_hash
    except MalformedRecordError:
        return "unknown"
