"""brrr: durable execution for Python without a server.

    import brrr_core as brrr

Write plain functions, decorate them with `handler`, and let any number of workers run them over a queue and a store
that you already own. README.md has the whole program.

Each public name is imported when it is first used. So a program that only defines handlers does not load the engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from brrr_core import sync as sync  # a module, so it is not in `__all__`
    from brrr_core.app.active import ActiveWorker
    from brrr_core.app.consumer import AppConsumer
    from brrr_core.app.events import Event
    from brrr_core.app.handlers import Handler, PlainHandler, current, handler, handler_no_arg, only
    from brrr_core.app.letters import Completed, LetterSelection
    from brrr_core.app.local import LocalBrrr
    from brrr_core.app.pending import PendingCall
    from brrr_core.app.serving import connect, serve
    from brrr_core.app.tasks import Task, TypedTask
    from brrr_core.app.worker import AppWorker
    from brrr_core.codec.added import Added
    from brrr_core.engine.calls import Again, Cancelled, Defer
    from brrr_core.engine.connection import Connection
    from brrr_core.engine.forgetting import Forgotten, ToForget
    from brrr_core.engine.letters import Letter
    from brrr_core.engine.policy import Policy
    from brrr_core.engine.schedules import RecurringSchedule
    from brrr_core.engine.starting import Scheduled
    from brrr_core.engine.status import CallStatus, Waiter
    from brrr_core.errors import BrrrError, CallFailedError, NotFoundError, TerminalError
    from brrr_core.hooks import hookimpl
    from brrr_core.plugins import load_codec, open_backend, register

__all__ = [
    "ActiveWorker",
    "Added",
    "Again",
    "AppConsumer",
    "AppWorker",
    "BrrrError",
    "CallFailedError",
    "CallStatus",
    "Cancelled",
    "Completed",
    "Connection",
    "Defer",
    "Event",
    "Forgotten",
    "Handler",
    "Letter",
    "LetterSelection",
    "LocalBrrr",
    "NotFoundError",
    "PendingCall",
    "PlainHandler",
    "Policy",
    "RecurringSchedule",
    "Scheduled",
    "Task",
    "TerminalError",
    "ToForget",
    "TypedTask",
    "Waiter",
    "connect",
    "current",
    "handler",
    "handler_no_arg",
    "hookimpl",
    "load_codec",
    "only",
    "open_backend",
    "register",
    "serve",
]

_HOMES: Final = {
    "app.active": ("ActiveWorker",),
    "app.consumer": ("AppConsumer",),
    "app.events": ("Event",),
    "app.handlers": ("Handler", "PlainHandler", "current", "handler", "handler_no_arg", "only"),
    "app.letters": ("Completed", "LetterSelection"),
    "app.local": ("LocalBrrr",),
    "app.pending": ("PendingCall",),
    "app.serving": ("connect", "serve"),
    "app.tasks": ("Task", "TypedTask"),
    "app.worker": ("AppWorker",),
    "codec.added": ("Added",),
    "engine.calls": ("Again", "Cancelled", "Defer"),
    "engine.connection": ("Connection",),
    "hooks": ("hookimpl",),
    "engine.forgetting": ("Forgotten", "ToForget"),
    "engine.letters": ("Letter",),
    "engine.starting": ("Scheduled",),
    "engine.status": ("CallStatus", "Waiter"),
    "engine.policy": ("Policy",),
    "engine.schedules": ("RecurringSchedule",),
    "errors": ("BrrrError", "CallFailedError", "NotFoundError", "TerminalError"),
    "plugins": ("load_codec", "open_backend", "register"),
}
"""The modules of the public names. They repeat the imports above, which only type checkers read."""

_HOME_OF: Final = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "sync":
        return import_module(f"{__name__}.sync")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "sync"})
