"""What runs now: the task whose handler the current context belongs to."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from brrr_core.app.active import ActiveWorker

__all__ = ["current"]

current: Final["ContextVar[ActiveWorker]"] = ContextVar("brrr_active_worker")
"""The active worker of the handler that runs; unset outside of handlers."""
