"""The hooks of a worker: pluggy hook specifications, and the events that they receive.

Plugins add logging, metrics, tracing and alerts. They are entry points of the group `brrr.hooks`, or objects given to
`serve`. The core itself prints nothing. A hook that raises is reported once, by the logger `brrr.hooks`. It never
breaks a call or the hook of another plugin. An event is created only if a plugin listens to it.

An event's `error` is the raised exception. Its `reason` is the message and the traceback of that exception, without
the secrets of the backends' URLs: write the reason to logs.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from brrr_core.errors import BrokenPluginError
from brrr_core.safe_text import format_traceback, safe_repr, safe_str

if TYPE_CHECKING:
    import pluggy

__all__ = [
    "BackendFailed",
    "CallBuried",
    "CallDeferred",
    "CallFailed",
    "CallIsolated",
    "CallReturned",
    "CallStarted",
    "Hooks",
    "LeaseLost",
    "LoopBlocked",
    "WorkerStarted",
    "WorkerStopped",
    "hookimpl",
]

_PROJECT: Final = "brrr"
_log: Final = logging.getLogger("brrr.hooks")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallStarted(NamedTuple):
    """A handler is about to run. `attempt` is 1 plus the number of failed attempts."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int


class CallDeferred(NamedTuple):
    """A handler was aborted because `missing` children have no value yet. The child `watched` will wake it."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    missing: int
    watched: str


class CallReturned(NamedTuple):
    """A handler returned, and the store has a value. `size`: its bytes. `first`: whether this run wrote the value."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    size: int
    first: bool


class CallFailed(NamedTuple):
    """A handler raised `error` in this `attempt`. It runs again after `retry_in` seconds; never if that is None."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int
    error: BaseException
    retry_in: float | None
    reason: str


class CallIsolated(NamedTuple):
    """A call waits to run alone in its process: `deliveries` of its message ended in a crash or with a lost lease."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    deliveries: int


class CallBuried(NamedTuple):
    """A message was dead-lettered because of `error`. `attempt` is the number of its deliveries."""

    topic: str
    body: bytes
    attempt: int
    reason: str
    error: BaseException


class WorkerStarted(NamedTuple):
    """A worker begins to receive from a topic."""

    topic: str
    concurrency: int


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


Event = (
    CallStarted
    | CallDeferred
    | CallReturned
    | CallFailed
    | CallIsolated
    | CallBuried
    | WorkerStarted
    | WorkerStopped
    | BackendFailed
    | LeaseLost
    | LoopBlocked
)


def hookimpl(function: FunctionT) -> FunctionT:
    """Mark a method or function as the implementation of the hook of the same name."""
    import pluggy

    marked: FunctionT = pluggy.HookimplMarker(_PROJECT)(function)
    return marked


class Specifications:
    """The hooks. Each takes one argument, `event`. Its return value is ignored."""

    def brrr_worker_started(self, event: WorkerStarted) -> None:
        """A worker begins to receive."""

    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        """A worker stopped."""

    def brrr_call_started(self, event: CallStarted) -> None:
        """A handler is about to run."""

    def brrr_call_deferred(self, event: CallDeferred) -> None:
        """A handler was aborted, and will run again."""

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

    def brrr_backend_failed(self, event: BackendFailed) -> None:
        """A backend operation failed."""


_NAMES: Final[dict[type, str]] = {
    WorkerStarted: "brrr_worker_started",
    WorkerStopped: "brrr_worker_stopped",
    CallStarted: "brrr_call_started",
    CallDeferred: "brrr_call_deferred",
    CallReturned: "brrr_call_returned",
    CallFailed: "brrr_call_failed",
    CallIsolated: "brrr_call_isolated",
    CallBuried: "brrr_call_buried",
    LeaseLost: "brrr_lease_lost",
    LoopBlocked: "brrr_loop_blocked",
    BackendFailed: "brrr_backend_failed",
}


class Hooks:
    """The plugins of one connection. Each has its own manager, so that a plugin that raises does not stop the others.

    Args:
        plugins: Objects or modules with functions marked by `hookimpl`.

    Raises:
        BrokenPluginError: A plugin implements an unknown hook, or a hook with other arguments.
    """

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        managers = [_manager(plugin) for plugin in plugins]
        self._listeners: dict[type, list[Callable[..., object]]] = {}
        for kind, name in _NAMES.items():
            callers = [getattr(manager.hook, name) for manager in managers]
            listeners = [caller for caller in callers if caller.get_hookimpls()]
            if listeners:
                self._listeners[kind] = listeners
        self._reported: set[int] = set()

    def wants(self, kind: type) -> bool:
        """Whether a plugin listens to this kind of event. Create the event only then."""
        return kind in self._listeners

    def emit(self, event: Event) -> None:
        """Call every hook that listens to this kind of event."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event=event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin must not break a call
                if id(listener) not in self._reported:
                    self._reported.add(id(listener))
                    name, trace = _NAMES[type(event)], format_traceback(error)
                    _log.error(
                        "the hook %s of a plugin raised; further errors of this hook are not logged\n%s", name, trace
                    )


def _manager(plugin: object) -> "pluggy.PluginManager":
    import pluggy

    manager = pluggy.PluginManager(_PROJECT)
    marker = pluggy.HookspecMarker(_PROJECT)
    for name in _NAMES.values():
        marker(getattr(Specifications, name))
    manager.add_hookspecs(Specifications)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise BrokenPluginError(
            f"the hook plugin {safe_repr(plugin)} does not match the hooks: {safe_str(error)}",
            remedy=f"The hooks are {', '.join(_NAMES.values())}, each with the one argument `event`.",
        ) from error
    return manager
