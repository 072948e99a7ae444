"""The hooks of a worker: pluggy hook specifications, and the events that they receive.

Plugins add logging, metrics, tracing and alerts. They are entry points of the group `brrr.hooks`, or objects given to
`serve`. The core itself prints nothing. A hook that raises is reported once, by the logger `brrr.hooks`. It never
breaks a call or the hook of another plugin. An event is created only if a plugin listens to it.

An event's `error` is the raised exception. Its `reason` is the message and the traceback of that exception, without
the secrets of the backends' URLs: write the reason to logs.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from brrr_core.backend.contracts import Queue

__all__ = [
    "BackendFailed",
    "CallBuried",
    "CallDeferred",
    "CallFailed",
    "CallIsolated",
    "CallPostponed",
    "CallReturned",
    "CallStarted",
    "CallsMade",
    "Event",
    "LeaseLost",
    "LoopBlocked",
    "MadeCall",
    "Specifications",
    "ThreadsAbandoned",
    "WorkerStarted",
    "WorkerStopped",
    "hookimpl",
]

PROJECT: Final = "brrr"
"""The name that pluggy gives to the hooks of brrr."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallStarted(NamedTuple):
    """A handler is about to run, or to go on after it was parked. `attempt` is 1 plus the number of failed attempts.

    Its hooks run with the context variables of the handler, which sees what they set.

    `size`: the bytes of the arguments. `again`: whether this worker has run the call before, and remembers it.
    `is_root`: whether the call is the one that a client scheduled; False if the root id is that of another SDK.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int
    size: int = 0
    again: bool = False
    is_root: bool = False


class MadeCall(NamedTuple):
    """A call that a handler makes. `size`: the bytes of its arguments. It may run after `delay` seconds."""

    topic: str
    call_hash: str
    task_name: str
    size: int
    delay: float


class CallsMade(NamedTuple):
    """A handler makes calls, which may have outcomes already. Those that have none are put afterwards.

    A run leaves out the calls of the run before it, if this worker remembers that one. If a worker dies, the next
    worker that runs the call reports all of its calls again.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    calls: tuple[MadeCall, ...]


class CallDeferred(NamedTuple):
    """A run ended, or was parked, because `missing` children have no value yet. The child `watched` will wake it."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    missing: int
    watched: str


class CallPostponed(NamedTuple):
    """A handler raised `Again`: the call runs again after `delay` seconds.

    If there is a `reason`, the handler did not run: its version does not fit the call, and another worker continues it.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    delay: float
    reason: str = ""


class CallReturned(NamedTuple):
    """A handler returned, and the store has a value. `size`: its bytes. `first`: whether this run wrote the value.

    `scheduled_at`: the unix time, in whole seconds, at which the call was last put; None if it has no mark.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    size: int
    first: bool
    scheduled_at: int | None = None


class CallFailed(NamedTuple):
    """A handler raised `error` in this `attempt`. It runs again after `retry_in` seconds; never if that is None.

    If `final`, the failure is the outcome of the call, and wakes its callers. Then `scheduled_at` is that of
    `CallReturned`.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int
    error: BaseException
    retry_in: float | None
    reason: str
    final: bool = False
    scheduled_at: int | None = None


class CallIsolated(NamedTuple):
    """A call waits to run alone in its process: `deliveries` of its message ended in a crash or with a lost lease."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    deliveries: int


class CallBuried(NamedTuple):
    """A message was dead-lettered because of `error`. `attempt` is the number of its deliveries.

    If `final`, the failure is the outcome of the call, and its callers do not wait for a redrive.
    """

    topic: str
    body: bytes
    attempt: int
    reason: str
    error: BaseException
    final: bool = False


class WorkerStarted(NamedTuple):
    """A worker begins to receive from a topic of `queue`, which can tell the depth of each topic."""

    topic: str
    concurrency: int
    queue: Queue


class WorkerStopped(NamedTuple):
    """A worker stopped. It released `released` unfinished deliveries to the topic."""

    topic: str
    released: int


class BackendFailed(NamedTuple):
    """A backend operation failed. The worker retries it."""

    topic: str
    error: BaseException
    reason: str


class LeaseLost(NamedTuple):
    """A worker holds a delivery whose lease has certainly expired. Another worker may have the message by now.

    `task_name` is empty if no handler has run yet. The lease was last extended `seconds` ago.
    """

    topic: str
    body: bytes
    task_name: str
    seconds: float
    lease: float


class LoopBlocked(NamedTuple):
    """The event loop was blocked for at least `seconds`, more than a third of the `lease`, while `task_names` ran.

    A worker extends leases at each third. So messages lose their leases when this reaches two thirds.
    """

    topic: str
    seconds: float
    lease: float
    task_names: tuple[str, ...]


class ThreadsAbandoned(NamedTuple):
    """A worker stops receiving, because `abandoned` of its `limit` threads run sync handlers after their timeouts."""

    topic: str
    abandoned: int
    limit: int


Event: TypeAlias = (
    CallStarted
    | CallsMade
    | CallDeferred
    | CallPostponed
    | CallReturned
    | CallFailed
    | CallIsolated
    | CallBuried
    | WorkerStarted
    | WorkerStopped
    | BackendFailed
    | LeaseLost
    | LoopBlocked
    | ThreadsAbandoned
)
"""An event of a worker."""


def hookimpl(function: FunctionT) -> FunctionT:
    """Mark a method or function as the implementation of the hook of the same name."""
    import pluggy

    marked: FunctionT = pluggy.HookimplMarker(PROJECT)(function)
    return marked


class Specifications:
    """The hooks. Each takes one argument, `event`. Its return value is ignored."""

    def brrr_worker_started(self, event: WorkerStarted) -> None:
        """A worker begins to receive."""

    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        """A worker stopped."""

    def brrr_call_started(self, event: CallStarted) -> None:
        """A handler is about to run."""

    def brrr_calls_made(self, event: CallsMade) -> None:
        """A handler makes calls."""

    def brrr_call_deferred(self, event: CallDeferred) -> None:
        """A handler was aborted, and will run again."""

    def brrr_call_postponed(self, event: CallPostponed) -> None:
        """A handler raised `Again`."""

    def brrr_call_returned(self, event: CallReturned) -> None:
        """A handler returned."""

    def brrr_call_failed(self, event: CallFailed) -> None:
        """A handler raised."""

    def brrr_call_isolated(self, event: CallIsolated) -> None:
        """A call waits to run alone, because it may crash its workers."""

    def brrr_call_buried(self, event: CallBuried) -> None:
        """A message was dead-lettered."""

    def brrr_lease_lost(self, event: LeaseLost) -> None:
        """A lease expired while its worker still held the delivery."""

    def brrr_loop_blocked(self, event: LoopBlocked) -> None:
        """The event loop was blocked for a large part of the lease."""

    def brrr_threads_abandoned(self, event: ThreadsAbandoned) -> None:
        """A worker stops receiving, because handlers occupy its threads after their timeouts."""

    def brrr_backend_failed(self, event: BackendFailed) -> None:
        """A backend operation failed."""
