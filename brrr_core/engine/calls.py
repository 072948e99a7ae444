"""A child call, and the exception that defers its parent."""

from typing import NamedTuple

from brrr_core.wire import Call

__all__ = ["Child", "Defer"]


class Child(NamedTuple):
    """A call that a handler waits for, and the topic of its messages."""

    call: Call
    topic: str


class Defer(BaseException):
    """Raised in a handler that reached a call without a value. The handler runs again when the value exists.

    It is a BaseException, so that `except Exception` in a handler does not swallow it. If a handler swallows it anyway,
    the run is still deferred, because the run records its missing calls.
    """
