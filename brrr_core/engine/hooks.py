"""The delivery of events to the hook plugins of a connection."""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from brrr_core.errors import BrokenPluginError
from brrr_core.hooks import (
    PROJECT,
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
    CallsMade,
    CallStale,
    CallStarted,
    Event,
    LeaseLost,
    LoopBlocked,
    Specifications,
    ThreadsAbandoned,
    TopicUnserved,
    WorkerReported,
    WorkerStarted,
    WorkerStopped,
)
from brrr_core.safe_text import Mask, format_traceback, safe_repr, safe_str

if TYPE_CHECKING:
    import pluggy

__all__ = ["Hooks"]

_log: Final = logging.getLogger("brrr.hooks")

_NAMES: Final[dict[type, str]] = {
    WorkerStarted: "brrr_worker_started",
    WorkerStopped: "brrr_worker_stopped",
    CallStarted: "brrr_call_started",
    CallsMade: "brrr_calls_made",
    CallDeferred: "brrr_call_deferred",
    CallPostponed: "brrr_call_postponed",
    CallReturned: "brrr_call_returned",
    CallFailed: "brrr_call_failed",
    CallIsolated: "brrr_call_isolated",
    CallBuried: "brrr_call_buried",
    LeaseLost: "brrr_lease_lost",
    LoopBlocked: "brrr_loop_blocked",
    ThreadsAbandoned: "brrr_threads_abandoned",
    BackendFailed: "brrr_backend_failed",
    BackendLost: "brrr_backend_lost",
    BackendRestored: "brrr_backend_restored",
    BackendWarned: "brrr_backend_warned",
    TopicUnserved: "brrr_topic_unserved",
    CallStale: "brrr_call_stale",
    WorkerReported: "brrr_worker_reported",
}


class Hooks:
    """The plugins of one connection. Each has its own manager, so that a plugin that raises does not stop the others.

    Args:
        plugins: Objects or modules with functions marked by `hookimpl`.
        mask: Masks the secrets of the backends in the errors of plugins.

    Raises:
        BrokenPluginError: A plugin implements an unknown hook, or a hook with other arguments.
    """

    def __init__(self, plugins: Iterable[object] = (), *, mask: Mask = str) -> None:
        managers = [_manager(plugin) for plugin in plugins]
        self._listeners: dict[type, list[Callable[..., object]]] = {}
        for kind, name in _NAMES.items():
            callers = [getattr(manager.hook, name) for manager in managers]
            listeners = [caller for caller in callers if caller.get_hookimpls()]
            if listeners:
                self._listeners[kind] = listeners
        self._reported: set[int] = set()
        self._mask = mask

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
                    name, trace = _NAMES[type(event)], format_traceback(error, mask=self._mask)
                    _log.error(
                        "the hook %s of a plugin raised; further errors of this hook are not logged\n%s", name, trace
                    )


def _manager(plugin: object) -> "pluggy.PluginManager":
    import pluggy

    manager = pluggy.PluginManager(PROJECT)
    marker = pluggy.HookspecMarker(PROJECT)
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
