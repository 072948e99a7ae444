"""brrr: durable execution for Python without a server.

    import brrr_core as brrr

Write plain functions, decorate them with `handler`, and let any number of workers run them over a queue and a store
that you already own. README.md has the whole programme.
"""

from typing import TYPE_CHECKING, Any

from brrr_core.app.active import ActiveWorker, PendingCall
from brrr_core.app.consumer import AppConsumer, Scheduled
from brrr_core.app.handlers import Handler, PlainHandler, Task, TypedTask, handler, handler_no_arg, only
from brrr_core.app.serving import connect, serve
from brrr_core.app.worker import AppWorker
from brrr_core.engine.calls import Defer
from brrr_core.engine.connection import Connection
from brrr_core.engine.hooks import hookimpl
from brrr_core.engine.policy import Policy
from brrr_core.errors import BrrrError, NotFoundError
from brrr_core.plugins import open_backend, register

if TYPE_CHECKING:
    from brrr_core.app.local import LocalBrrr

__all__ = [
    "ActiveWorker",
    "AppConsumer",
    "AppWorker",
    "BrrrError",
    "Connection",
    "Defer",
    "Handler",
    "LocalBrrr",
    "NotFoundError",
    "PendingCall",
    "PlainHandler",
    "Policy",
    "Scheduled",
    "Task",
    "TypedTask",
    "connect",
    "handler",
    "handler_no_arg",
    "hookimpl",
    "only",
    "open_backend",
    "register",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name == "LocalBrrr":  # for tests only; a worker need not load the memory backend
        from brrr_core.app.local import LocalBrrr

        return LocalBrrr
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
