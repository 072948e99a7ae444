"""The active worker of the handler that the current context belongs to."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

__all__ = ["current"]

T = TypeVar("T")


class HandlerThreads(Protocol):
    """The active worker, as the runner of a handler sees it."""

    async def run_handler(self, function: Callable[[], T]) -> T:
        """Run a sync handler in a thread."""
        ...


current: Final[ContextVar[HandlerThreads]] = ContextVar("brrr_active_worker")
"""The active worker of the running handler; unset outside of handlers."""
