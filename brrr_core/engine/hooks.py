"""What a worker tells of itself: pluggy hook specifications, and the events that they carry.

Logging, metrics, tracing and alerts are brought by plugins (entry points of the group `brrr.hooks`, or objects handed
to `serve`); the core prints nothing. A hook that raises is reported once, through the logger `brrr.hooks`, and never
breaks a call or another plugin's hook. Where no plugin listens to an event, it is not even made.

An event's `error` is the exception as it was raised. Its `reason` is the message and the traceback of that exception,
with the secrets of the backends' URLs masked: write this one to logs.
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
    """A handler is about to run. `attempt` counts from 1: one more than the handler raised before."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int


class CallDeferred(NamedTuple):
    """A handler was aborted because `missing` children have no value yet; `watched` will wake it."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    missing: int
    watched: str


class CallReturned(NamedTuple):
    """A handler returned, and its value of `size` bytes is in the store. `first` tells whether it is the first one."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    size: int
    first: bool


class CallFailed(NamedTuple):
    """A handler raised `error` in this `attempt`. It runs again after `retry_in` seconds; None: it is given up."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    attempt: int
    error: BaseException
    retry_in: float | None
    reason: str


class CallIsolated(NamedTuple):
    """A call waits to run alone in its process: `deliveries` of its message ended with their worker or their lease."""

    topic: str
    root_id: str
    call_hash: str
    task_name: str
    deliveries: int


class CallBuried(NamedTuple):
    """A message went to the dead letters of its topic. `error` is why; `attempt` is the number of its deliveries."""

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
    """A worker has stopped; `released` deliveries that it had not finished went back to the topic."""

    topic: str
    released: int


class BackendFailed(NamedTuple):
    """A backend did not do what it was asked; the worker tries again."""

    topic: str
    error: BaseException
    reason: str


class LeaseLost(NamedTuple):
    """A worker holds a delivery whose lease surely ran out: another worker may have the message by now.

    `task_name` is its handler, empty where none has run yet. `seconds` have passed since the lease was last extended.
    """

    topic: str
    body: bytes
    task_name: str
    seconds: float
    lease: float


class LoopBlocked(NamedTuple):
    """The event loop stood still for at least `seconds`, more than a third of the `lease`. `task_names` ran then.

    Leases are extended at each third. So at two thirds of a lease and more, messages lose theirs.
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
    """Mark a method or function as the implementation of the hook whose name it bears."""
    import pluggy

    marked: FunctionT = pluggy.HookimplMarker(_PROJECT)(function)
    return marked


class Specifications:
    """The hooks. Each takes one argument, `event`, and what it returns is ignored."""

    def brrr_worker_started(self, event: WorkerStarted) -> None:
        """A worker begins to receive."""

    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        """A worker has stopped."""

    def brrr_call_started(self, event: CallStarted) -> None:
        """A handler is about to run."""

    def brrr_call_deferred(self, event: CallDeferred) -> None:
        """A handler was aborted, to be run again."""

    def brrr_call_returned(self, event: CallReturned) -> None:
        """A handler returned."""

    def brrr_call_failed(self, event: CallFailed) -> None:
        """A handler raised."""

    def brrr_call_isolated(self, event: CallIsolated) -> None:
        """A call is to run alone, as it may be what ends its workers."""

    def brrr_call_buried(self, event: CallBuried) -> None:
        """A message was given up."""

    def brrr_lease_lost(self, event: LeaseLost) -> None:
        """A lease ran out while its worker still held the delivery."""

    def brrr_loop_blocked(self, event: LoopBlocked) -> None:
        """The event loop stood still for a large part of the lease."""

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
    """The plugins of one connection, each behind a manager of its own so that one that raises stops no other.

    Args:
        plugins: Objects or modules with functions marked by `hookimpl`.

    Raises:
        BrokenPluginError: A plugin implements a hook that does not exist, or asks for other arguments.
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
        """Whether anybody listens to this kind of event; if not, do not make it."""
        return kind in self._listeners

    def emit(self, event: Event) -> None:
        """Tell every plugin that listens."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event=event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin's, and never a call's
                if id(listener) not in self._reported:
                    self._reported.add(id(listener))
                    name, trace = _NAMES[type(event)], format_traceback(error)
                    _log.error("a plugin's %s raised; reported once, its calls go on\n%s", name, trace)


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
            f"the hook plugin {safe_repr(plugin)} does not fit: {safe_str(error)}",
            remedy=f"The hooks are {', '.join(_NAMES.values())}, each with the one argument `event`.",
        ) from error
    return manager
