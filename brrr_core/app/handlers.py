"""The decorators that turn a function into a handler, and the helpers that only a running handler may call."""

import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from brrr_core.app.functions import accepted
from brrr_core.app.tasks import TypedTask, active_worker
from brrr_core.durations import DurationLike, seconds
from brrr_core.engine.policy import OnExhausted, TaskPolicy
from brrr_core.errors import HandlerError, NotInTaskError

if TYPE_CHECKING:
    from brrr_core.app.active import ActiveWorker

__all__ = ["Handler", "PlainHandler", "current", "handler", "handler_no_arg", "only"]

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


class HandlerDecorator(Protocol):
    """Makes a handler of a function whose first parameter is the active worker."""

    @overload
    def __call__(
        self, function: "Callable[Concatenate[ActiveWorker, P], Coroutine[Any, Any, T]]", /
    ) -> Handler[Callable[P, T]]: ...
    @overload
    def __call__(self, function: "Callable[Concatenate[ActiveWorker, P], T]", /) -> Handler[Callable[P, T]]: ...


class PlainHandlerDecorator(Protocol):
    """Makes a handler of a function that does not take the active worker."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> PlainHandler[Callable[P, T]]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> PlainHandler[Callable[P, T]]: ...


@overload
def handler(
    function: "Callable[Concatenate[ActiveWorker, P], Coroutine[Any, Any, T]]",
) -> Handler[Callable[P, T]]: ...
@overload
def handler(function: "Callable[Concatenate[ActiveWorker, P], T]") -> Handler[Callable[P, T]]: ...
@overload
def handler(
    *,
    max_attempts: int | None = None,
    backoff: DurationLike | None = None,
    on_exhausted: OnExhausted | None = None,
    timeout: DurationLike | None = None,
    retry_on: tuple[type[BaseException], ...] | None = None,
    fail_on: tuple[type[BaseException], ...] = (),
    park: bool = True,
    replay: bool = False,
    version: int | None = None,
    oldest_version: int | None = None,
    old_topics: Mapping[int, str] = ...,
) -> HandlerDecorator: ...
def handler(function: Callable[..., Any] | None = None, **settings: Any) -> Any:  # noqa: D417 - the settings are named
    """Make a handler of a function whose first parameter is the active worker.

    An `async def` runs on the event loop of the worker, a `def` in a thread. The function may also be a partial, a
    bound method, or an object with `__call__`. `@handler` needs no parentheses; with settings, write
    `@handler(max_attempts=3)`.

    Args:
        function: The function.
        max_attempts: The most attempts of a call whose function raises; the policy's number by default.
        backoff: The time before the second attempt; the policy's by default. Times are seconds, a `timedelta`, or a
            text such as `"30s"`.
        on_exhausted: How to handle a call without attempts left. `"bury"` dead-letters its message, and its callers
            wait for a redrive. `"fail"` also gives the callers a `CallFailedError`. The policy's by default.
        timeout: The longest time of one run. A run that takes longer is cancelled, and counts as a failed attempt. The
            thread of a `def` cannot be ended: it continues, and if half of its threads do, the worker stops receiving.
        retry_on: Only these errors are retried. Any other error uses up all attempts immediately.
        fail_on: These errors fail the call immediately, as `TerminalError` does.
        park: Whether a worker may keep the function suspended for a second at a call without a value. If not, or if it
            has a `timeout`, it is aborted there, and runs again from its start.
        replay: Whether `client.explain` may run the function to find which calls it makes. Set it if the function
            itself has no effects: side effects belong in calls that make no calls.
        version: The version of the code. Raise it if the handler makes other calls than before: 1, 2, 3. This code
            does not continue unfinished calls that began with another version, except for those below.
        oldest_version: The oldest version whose unfinished calls this code continues, because it looks at
            `app.version`.
        old_topics: The topics whose workers still run older code, by version. They continue the calls that began with
            it: `{1: "billing-v1"}`.

    Raises:
        HandlerError: The function cannot be a handler.
        PolicyError: A setting is not valid.
    """
    policy = _task_policy("handler", settings)

    def decorate(decorated: Any) -> Handler[Callable[..., Any]]:
        return Handler(accepted(decorated, "handler"), takes_app=True, policy=policy)

    return decorate if function is None and settings else decorate(function)


@overload
def handler_no_arg(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> PlainHandler[Callable[P, T]]: ...
@overload
def handler_no_arg(function: Callable[P, T]) -> PlainHandler[Callable[P, T]]: ...
@overload
def handler_no_arg(
    *,
    max_attempts: int | None = None,
    backoff: DurationLike | None = None,
    on_exhausted: OnExhausted | None = None,
    timeout: DurationLike | None = None,
    retry_on: tuple[type[BaseException], ...] | None = None,
    fail_on: tuple[type[BaseException], ...] = (),
    park: bool = True,
    version: int | None = None,
    oldest_version: int | None = None,
    old_topics: Mapping[int, str] = ...,
) -> PlainHandlerDecorator: ...
def handler_no_arg(function: Callable[..., Any] | None = None, **settings: Any) -> Any:
    """Make a handler of a function that does not take the active worker. The settings are those of `handler`.

    Raises:
        HandlerError: The function cannot be a handler.
        PolicyError: A setting is not valid.
    """
    policy = _task_policy("handler_no_arg", settings)

    def decorate(decorated: Any) -> PlainHandler[Callable[..., Any]]:
        return PlainHandler(accepted(decorated, "handler_no_arg"), takes_app=False, policy=policy)

    return decorate if function is None and settings else decorate(function)


def current() -> "ActiveWorker":
    """Return the active worker of the running handler, for handlers and helpers that do not take it.

    Raises:
        NotInTaskError: No handler runs in this context.
    """
    active = active_worker.get(None)
    if active is None:
        raise NotInTaskError(
            "`current` was called outside a running handler",
            remedy="Call it from a handler, or from a function that a handler calls.",
        )
    return cast("ActiveWorker", active)


def only(function: Callable[P, T]) -> Callable[P, T]:
    """Make a helper that may run only inside a running handler.

    Raises:
        NotInTaskError: Raised by the helper if it is called outside a running handler.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        if active_worker.get(None) is None:
            raise NotInTaskError(
                f"{getattr(function, '__qualname__', function)} was called outside a running handler",
                remedy="Call it from a handler, or from a function that a handler calls.",
            )
        return function(*args, **kwargs)

    return guarded


def _task_policy(decorator: str, settings: Mapping[str, Any]) -> TaskPolicy:
    given = dict(settings)
    for name in ("backoff", "timeout"):
        if isinstance(given.get(name), str | timedelta):
            given[name] = seconds(given[name], name)
    try:
        return TaskPolicy(**given)
    except TypeError as error:
        known = ", ".join(setting.name for setting in fields(TaskPolicy))
        raise HandlerError(
            f"`{decorator}` was called with {', '.join(settings)}", remedy=f"Its settings are {known}."
        ) from error
