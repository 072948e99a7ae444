"""Inspect callables of every kind, and explain why one cannot become a handler."""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace, UnionType
from typing import Any, Final, get_origin, get_type_hints

from brrr_core.errors import HandlerError

__all__ = ["accepted", "inner_function", "is_async", "name_of", "takes_worker", "visible_signature"]

_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_WORKER: Final = "ActiveWorker"


def accepted(function: Any, decorator: str) -> Callable[..., Any]:
    """Return the callable given to a decorator, without a `staticmethod` around it.

    Raises:
        HandlerError: It cannot be a handler.
    """
    if isinstance(function, staticmethod):
        function = function.__func__
    if function is None:
        raise HandlerError(
            f"`{decorator}` was called without a function", remedy=f"Write @brrr.{decorator}, without ()."
        )
    called = _called(function)
    if isinstance(function, classmethod):
        what, remedy = "is a classmethod", f"Below the class, write `brrr.{decorator}(Class.method)`."
    elif isinstance(function, type):
        what, remedy = "is a class", "Write a function that makes the object, and decorate that."
    elif not callable(function):
        what, remedy = "cannot be called", f"Decorate a function: @brrr.{decorator}, without arguments."
    elif inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        what, remedy = "is a generator", "Return the values as a list."
    else:
        known: Callable[..., Any] = function
        return known
    raise HandlerError(f"{name_of(function)} {what} and cannot be a handler", remedy=remedy)


def inner_function(function: Any) -> Any:
    """Return the function inside partials, handlers and other wrappers, or the `__call__` of an object."""
    while True:
        function = _within_partials(function)
        wrapped = None if inspect.isroutine(function) else getattr(function, "__wrapped__", None)
        if wrapped is None:
            return _called(function)
        function = wrapped


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_called(function))


def name_of(function: Any) -> str:
    """Return the name of a function, of the function inside a partial, or of the class of an object."""
    function = _within_partials(function)
    return str(getattr(function, "__name__", type(function).__name__))


def takes_worker(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated with the active worker."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    return bool(parameters) and _is_worker(parameters[0].annotation)


def visible_signature(function: Callable[..., Any], *, takes_app: bool) -> inspect.Signature:
    """Return the parameters that callers see.

    Raises:
        HandlerError: The parameters cannot be read, or do not match the decorator.
    """
    name = name_of(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise HandlerError(
            f"the parameters of {name} cannot be read", remedy="Write a function that calls it, and decorate that."
        ) from error
    parameters = list(signature.parameters.values())
    first = parameters[0] if parameters else None
    if (
        first is not None
        and first.name in ("self", "cls")
        and _is_in_class(function)
        and not _is_worker(first.annotation)
    ):
        raise HandlerError(
            f"{name} is a method, so callers would have to pass its parameter {first.name!r} as an argument",
            remedy="Decorate a bound method, `brrr.handler(thing.method)`, or a function outside the class.",
        )
    if not takes_app:
        for parameter in parameters:
            if _is_worker(parameter.annotation):
                raise HandlerError(
                    f"the parameter {parameter.name!r} of {name} is the active worker, which `handler_no_arg` does not "
                    "give",
                    remedy="Make it the first parameter, and decorate the function with `handler`.",
                )
        return signature
    if first is None or first.kind not in _BY_POSITION or _cannot_be_worker(function, first.annotation):
        what = "not positional" if first is None or first.kind not in _BY_POSITION else f"`{first}`"
        raise HandlerError(
            f"the first parameter of {name} is {what}, and `handler` gives it the active worker",
            remedy="Add one before it, `app: brrr.ActiveWorker`, or decorate the function with `handler_no_arg`.",
        )
    return signature.replace(parameters=parameters[1:])


def _within_partials(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return function  # pyright: ignore[reportUnknownVariableType]


def _called(function: Any) -> Any:
    """Return the function that runs when this one is called."""
    function = _within_partials(function)
    plain = inspect.isroutine(function) or isinstance(function, type) or not callable(function)
    return function if plain else type(function).__call__


def _is_in_class(function: Callable[..., Any]) -> bool:
    around = getattr(inner_function(function), "__qualname__", "").rpartition(".")[0]
    return bool(around) and not around.endswith("<locals>")


def _is_worker(annotation: object) -> bool:
    if isinstance(annotation, str):  # it may be imported for type checkers only
        return annotation.strip("'\" ").partition("[")[0].rpartition(".")[2] == _WORKER
    return any(base.__name__ == _WORKER for base in getattr(get_origin(annotation) or annotation, "__mro__", ()))


def _cannot_be_worker(function: Callable[..., Any], annotation: Any) -> bool:
    """Whether the annotation certainly rules out the active worker. An unclear annotation does not."""
    if _is_worker(annotation) or annotation is inspect.Parameter.empty:
        return False
    holder = SimpleNamespace(__annotations__={"first": annotation})
    try:
        kind = get_type_hints(holder, globalns=getattr(inner_function(function), "__globals__", {}))["first"]
    except Exception:  # noqa: BLE001 - a name for type checkers only, or anything that its evaluation raises
        return False
    kind = get_origin(kind) or kind
    if not isinstance(kind, type) or Any in kind.__mro__ or kind in (object, UnionType) or _is_worker(kind):
        return False
    return not getattr(kind, "_is_protocol", False) and not hasattr(kind, "call") and not hasattr(kind, "gather")
