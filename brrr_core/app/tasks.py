"""Tasks: functions that workers can run, and how callers and codecs see them."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from typing import Any, Final, Generic, Never, NoReturn, Protocol, TypeVar, cast, get_args, get_origin

from brrr_core.app.functions import accepted, inner_function, is_async, name_of, takes_worker, visible_signature
from brrr_core.app.pending import check_result
from brrr_core.codec.added import AddedError, added_parameters
from brrr_core.engine.policy import NO_SETTINGS, TaskPolicy
from brrr_core.errors import HandlerError, SignatureError

__all__ = ["Task", "TypedTask", "active_worker"]

F_co = TypeVar("F_co", covariant=True)
T = TypeVar("T")

_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class HandlerRunner(Protocol):
    """The active worker, as the runner of a handler sees it."""

    async def run_handler(self, function: Callable[[], T]) -> T:
        """Run a sync handler in a thread."""
        ...


active_worker: Final[ContextVar[HandlerRunner]] = ContextVar("brrr_active_worker")
"""The active worker of the running handler; unset outside of handlers."""


class Task:
    """A function that a worker can run. The decorators make it.

    Attributes:
        function: The decorated function.
        takes_app: Whether the first parameter of the function is the active worker.
        policy: Its settings, for example its number of attempts.
        signature: The parameters that callers see, without the active worker.
        run: The async callable that a codec invokes. It is one object for all calls, so that codecs can cache by it.
    """

    def __init__(self, function: Callable[..., Any], *, takes_app: bool, policy: TaskPolicy = NO_SETTINGS) -> None:
        if isinstance(function, Task):
            raise HandlerError(f"{function.name} is a handler already", remedy="Decorate it once.")
        self.function = function
        self.policy = policy
        self.signature = visible_signature(function, takes_app=takes_app)
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())
        self.takes_app = takes_app
        self.run = self._shown(_runner(function, takes_app=takes_app))
        parameters = self.signature.parameters.values()
        positional = [parameter for parameter in parameters if parameter.kind in _BY_POSITION]
        self._most = len(positional) if len(positional) == len(parameters) else -1
        self._least = sum(parameter.default is parameter.empty for parameter in positional)

    @property
    def name(self) -> str:
        """Name of the function."""
        return name_of(self.function)

    @property
    def place(self) -> tuple[str, int]:
        """File and first line of the function, or of the code that runs it if it has none."""
        code = getattr(inner_function(self.function), "__code__", self.run.__code__)
        return code.co_filename, code.co_firstlineno

    @functools.cached_property
    def returns(self) -> Any:
        """Annotated type of the result; `Any` without an annotation, or if the handler never returns.

        Raises:
            HandlerError: The annotation does not resolve.
        """
        from brrr_core.codec.signatures import resolve_annotation  # here, so that decorating does not load msgspec

        returns = resolve_annotation(self.run, "return", self.signature.return_annotation)
        if get_origin(returns) in (Awaitable, Coroutine) and not is_async(self.function):
            returns = get_args(returns)[-1]  # a `def` that returns an awaitable, which brrr awaits
        return Any if returns in (NoReturn, Never) else returns

    @functools.cached_property
    def added(self) -> Mapping[str, object]:
        """Defaults of the parameters that are `Added`.

        Raises:
            HandlerError: A parameter cannot be `Added`.
        """
        from brrr_core.codec.signatures import resolve_annotation  # as above

        try:
            return added_parameters(self.signature, functools.partial(resolve_annotation, self.run))
        except AddedError as error:
            raise HandlerError(
                f"a parameter of the handler {self.name!r} cannot be `Added`: {error}",
                remedy="Put such parameters last or after a `*`, with defaults that never change.",
            ) from error

    def arrange(
        self,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        *,
        keyword_only: bool = False,
        is_default: Callable[[str, object], bool] | None = None,
    ) -> tuple[Sequence[object], Mapping[str, object]]:
        """Return the arguments in canonical form, so that `f(1)` and `f(n=1)` are one call.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.
            keyword_only: Pass all arguments by name. Otherwise pass as many as possible by position.
            is_default: Whether an `Added` parameter gets its default, and is left out. None if no parameter is `Added`.

        Raises:
            SignatureError: The arguments do not match the parameters.
        """
        most = self._most if is_default is None else self._most - len(self.added)  # `Added` parameters come last
        if not kwargs and not keyword_only and self._least <= len(args) <= most:
            return args, kwargs
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise SignatureError(
                f"the arguments do not fit the handler {self.name!r}: {error}",
                remedy=f"Its parameters are {self.signature}.",
            ) from error
        if is_default is not None:
            for name in self.added:
                if name in bound.arguments and is_default(name, bound.arguments[name]):
                    del bound.arguments[name]
        if not keyword_only:
            return bound.args, bound.kwargs
        return (), self._named(bound)

    def replaced_by(self, fake: "Callable[..., Any] | Task") -> "Task":
        """Return a copy of this task that runs another function, for unit tests. Callers and codecs see no difference.

        Args:
            fake: A handler, or a function. A function gets the active worker only if its first parameter is annotated
                with it.

        Raises:
            HandlerError: It cannot be called.
        """
        if isinstance(fake, Task):
            inner = _runner(fake.function, takes_app=fake.takes_app)
        else:
            inner = _runner(accepted(fake, "handler_no_arg"), takes_app=takes_worker(fake))

        async def run(*args: Any, **kwargs: Any) -> Any:
            bound = self.signature.bind(*args, **kwargs)  # the parameters of the fake may have other names
            return await inner(*bound.args, **bound.kwargs)

        stand_in = copy(self)
        stand_in.run = self._shown(run)
        return stand_in

    def _shown(self, run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Give a runner the name, the annotations and the parameters of this task."""
        functools.update_wrapper(run, self.function, updated=())
        run.__signature__ = self.signature  # type: ignore[attr-defined] # what inspect.signature reads
        return run

    def _named(self, bound: inspect.BoundArguments) -> dict[str, object]:
        named: dict[str, object] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            elif kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                raise SignatureError(
                    f"the parameter {name!r} of the handler {self.name!r} takes no keyword, but this codec needs one",
                    remedy="Use a parameter that can be passed by name, or the codec `json`.",
                )
            else:
                named[name] = value
        return named

    def __repr__(self) -> str:
        return f"<brrr handler {self.name}{self.signature}>"


class TypedTask(Task, Generic[F_co]):
    """A task with types, so that type checkers know the parameters and results of calls.

    `TypedTask[Callable[[int], str]]` takes an int and returns a str. The type is covariant, so that one dict can hold
    handlers of several types.
    """


def _runner(function: Callable[..., Any], *, takes_app: bool) -> Callable[..., Awaitable[Any]]:
    if is_async(function):

        async def run(*args: Any, **kwargs: Any) -> Any:
            result = await (function(active_worker.get(), *args, **kwargs) if takes_app else function(*args, **kwargs))
            check_result(result)
            return result
    else:

        async def run(*args: Any, **kwargs: Any) -> Any:
            active = active_worker.get()
            given = (active, *args) if takes_app else args
            result = await active.run_handler(functools.partial(function, *given, **kwargs))
            if inspect.isawaitable(result):  # an async function behind a plain one
                result = await result
            check_result(result)
            return result

    return run
