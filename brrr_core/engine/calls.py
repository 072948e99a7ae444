"""The words that engine and application share: a child call, and the signal that aborts a parent."""

from typing import NamedTuple

from brrr_core.wire import Call

__all__ = ["Child", "Defer"]


class Child(NamedTuple):
    """A call that a handler waits for, and the topic to put it on."""

    call: Call
    topic: str


class Defer(BaseException):
    """Aborts a handler that reached a call without a value; the handler is run again once there is one.

    A BaseException, so that a handler's `except Exception` does not swallow it. A handler that swallows it all the same
    is deferred nevertheless: the run itself knows what it missed.
    """
