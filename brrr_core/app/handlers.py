"""The decorators that make a handler of a function, and the helpers that only a running handler may call."""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from brrr_core.app.context import current
from brrr_core.app.functions import accepted
from brrr_core.app.tasks import TypedTask
from brrr_core.errors import NotInTaskError

if TYPE_CHECKING:
    from brrr_core.app.active import ActiveWorker

__all__ = ["Handler", "PlainHandler", "handler", "handler_no_arg", "only"]

P = ParamSpec("P")
T = TypeVar("T")
F_co = TypeVar("F_co", covariant=True)


class Handler(TypedTask[F_co]):
    """A handler whose function takes the active worker first. Called directly, it is that function."""

    def __call__(self: "Handler[Callable[P, Any]]", app: "ActiveWorker", *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function itself, for tests and helpers. This is not a durable call."""
        return self.function(app, *args, **kwargs)


class PlainHandler(TypedTask[F_co]):
    """A handler whose function does not take the active worker. Called directly, it is that function."""

    def __call__(self: "PlainHandler[Callable[P, Any]]", *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function itself. This is not a durable call."""
        return self.function(*args, **kwargs)


@overload
def handler(
    function: "Callable[Concatenate[ActiveWorker, P], Coroutine[Any, Any, T]]",
) -> Handler[Callable[P, T]]: ...
@overload
def handler(function: "Callable[Concatenate[ActiveWorker, P], T]") -> Handler[Callable[P, T]]: ...
def handler(function: Callable[..., Any] | None = None) -> Handler[Callable[..., Any]]:
    """Make a handler of a function whose first parameter is the active worker.

    An `async def` runs on the event loop of the worker, a `def` in a thread. The function may also be a partial, a
    bound method, or an object with `__call__`.

    Raises:
        HandlerError: The function cannot be a handler.
    """
    return Handler(accepted(function, "handler"), takes_app=True)


@overload
def handler_no_arg(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> PlainHandler[Callable[P, T]]: ...
@overload
def handler_no_arg(function: Callable[P, T]) -> PlainHandler[Callable[P, T]]: ...
def handler_no_arg(function: Callable[..., Any] | None = None) -> PlainHandler[Callable[..., Any]]:
    """Make a handler of a function that does not take the active worker.

    Raises:
        HandlerError: The function cannot be a handler.
    """
    return PlainHandler(accepted(function, "handler_no_arg"), takes_app=False)


def only(function: Callable[P, T]) -> Callable[P, T]:
    """Make a helper that may run only inside a running handler.

    Raises:
        NotInTaskError: Raised by the helper if it is called outside a running handler.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        if current.get(None) is None:
            raise NotInTaskError(
                f"{getattr(function, '__qualname__', function)} was called outside a running handler",
                remedy="Call it from a handler, or from a function that a handler calls.",
            )
        return function(*args, **kwargs)

    return guarded
