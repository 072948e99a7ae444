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
    "BackendLost",
    "BackendRestored",
    "BackendWarned",
    "CallBuried",
    "CallDeferred",
    "CallFailed",
    "CallIsolated",
    "CallPostponed",
    "CallReturned",
    "CallStale",
    "CallStarted",
    "CallsMade",
    "Event",
    "LeaseLost",
    "LoopBlocked",
    "MadeCall",
    "Specifications",
    "ThreadsAbandoned",
    "TopicUnserved",
    "WorkerReported",
    "WorkerStarted",
    "WorkerStopped",
    "hookimpl",
]

PROJECT: Final = "brrr"
"""The name that pluggy gives to the hooks of brrr."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallStarted(NamedTuple):
    """A handler is about to run, or to continue after it was parked. `attempt` is 1 plus the number of failed attempts.

    Its hooks run with the context variables of the handler, and the handler sees the variables that they set.

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
    """A call that a handler makes. `size`: the bytes of its arguments. It may run after `delay` seconds.

    `done`: whether it is known to have an outcome already, perhaps for an earlier run of the handler.
    """

    topic: str
    call_hash: str
    task_name: str
    size: int
    delay: float
    done: bool = False


class CallsMade(NamedTuple):
    """A handler makes calls, which may have outcomes already. Those that have none are put afterwards.

    If this worker remembers the previous run of the call, the event leaves out the calls of that run. If a worker dies,
    the next worker that runs the call reports all of its calls again.
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

    If it has a `reason`, the handler did not run: its version does not fit the call, and another worker continues it.
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
    """A worker begins to receive from a topic of `queue`. The queue knows the depth of each topic."""

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
    """The event loop was blocked for at least `seconds`, more than a third of the `lease`, by one of `task_names`.

    A worker extends leases at each third. So messages lose their leases when this reaches two thirds. If the handler
    was found, `task_names` has only its task, and `where` is its place in the code: "tasks.py:41 in resize".

    If not `ended`, the loop has been blocked for a whole lease by now. Then the hook runs in another thread.
    """

    topic: str
    seconds: float
    lease: float
    task_names: tuple[str, ...]
    where: str = ""
    ended: bool = True


class ThreadsAbandoned(NamedTuple):
    """A worker stops receiving, because `abandoned` of its `limit` threads run sync handlers after their timeouts."""

    topic: str
    abandoned: int
    limit: int


class BackendLost(NamedTuple):
    """A backend does not answer. Its next event is `BackendRestored`, no matter how often operations are retried.

    `roles` names the backend by what it is used for, such as "queue" or "queue, store and cache".
    """

    roles: str
    error: BaseException
    reason: str


class BackendRestored(NamedTuple):
    """A lost backend answers again, after `seconds`."""

    roles: str
    seconds: float


class BackendWarned(NamedTuple):
    """A backend was opened, and `warning` says how it may lose data: for example, because its server evicts records."""

    roles: str
    warning: str


class TopicUnserved(NamedTuple):
    """Nothing seems to receive from a topic: for `seconds`, `ready` or fewer messages were ready and none was leased.

    A worker looks at the topics on which it puts calls, and a client at those of the calls that it waits for.
    """

    topic: str
    ready: int
    seconds: float


class CallStale(NamedTuple):
    """A call without an outcome was put `seconds` ago, which is longer than `Policy(stale_after=...)`.

    A worker notices it when it is about to run the call. A client that waits for the call notices it once, and knows
    neither `topic` nor `root_id` unless it has put the call.
    """

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    seconds: float


class WorkerReported(NamedTuple):
    """A worker counts its runs of the last `seconds`, each minute and when it stops.

    `failed` runs were the last of their calls. `retried` ones run again. `in_flight` is the number of deliveries now.
    """

    topic: str
    seconds: float
    returned: int
    deferred: int
    postponed: int
    failed: int
    retried: int
    in_flight: int


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
    | BackendLost
    | BackendRestored
    | BackendWarned
    | TopicUnserved
    | CallStale
    | WorkerReported
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

    def brrr_backend_lost(self, event: BackendLost) -> None:
        """A backend does not answer."""

    def brrr_backend_restored(self, event: BackendRestored) -> None:
        """A lost backend answers again."""

    def brrr_backend_warned(self, event: BackendWarned) -> None:
        """A backend was opened that may lose data."""

    def brrr_topic_unserved(self, event: TopicUnserved) -> None:
        """Nothing seems to receive from a topic."""

    def brrr_call_stale(self, event: CallStale) -> None:
        """A call waited for too long."""

    def brrr_worker_reported(self, event: WorkerReported) -> None:
        """A worker counts its runs of the last minute."""
