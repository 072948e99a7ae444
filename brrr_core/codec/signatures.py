"""The signature of a task: reads the parameters once, and decodes the arguments of a call to their types.

This module binds arguments to parameters, not Python's call. So a surplus argument is a `DecodeError` that names the
task and the parameter, not a bare `TypeError`.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn, Optional, get_type_hints
from weakref import WeakKeyDictionary

from msgspec import Raw

from brrr_core.codec.decoders import Decode, Decoders, UnsupportedTypeError
from brrr_core.codec.unencodable import type_name
from brrr_core.errors import DecodeError, HandlerError
from brrr_core.safe_text import safe_repr, safe_str

__all__ = ["Parameter", "Signatures", "TaskSignature", "check_result", "resolve_annotation"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_REMEDY = (
    "Compare the caller's arguments with the handler's parameters, and the worker's version with the caller's. "
    "A scheduled call keeps its arguments, even if the handler changes later."
)
_ANNOTATE = (
    "Annotate it with a builtin type, a dataclass, a msgspec Struct or a union of tagged Structs, or leave the "
    "annotation out. The codec `pydantic` of brrr-pydantic decodes more types."
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a task.

    Attributes:
        name: The name of the parameter.
        decode: Decodes an argument to the annotation, or to builtin types if there is no annotation.
        required: Whether the parameter has no default.
    """

    name: str
    decode: Decode
    required: bool


class TaskSignature:
    """The parameters of one task.

    Args:
        task: The task, or any callable with the same signature.
        decoders: The decoding functions of the codec.

    Raises:
        HandlerError: An annotation cannot be resolved, or is a type that cannot be decoded.
    """

    def __init__(self, task: Callable[..., Any], decoders: Decoders) -> None:
        read = partial(_parameter, task, decoders)
        parameters = inspect.signature(task).parameters.values()
        self._untyped = decoders.untyped
        self._positional = tuple(read(p) for p in parameters if p.kind in _POSITIONAL)
        self._named = {p.name: read(p) for p in parameters if p.kind in _NAMED}
        self._variadic = next((read(p) for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._extra = next((read(p) for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._only_named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        self._only_positional = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self._decodes = tuple(parameter.decode for parameter in self._positional)
        self._required = sum(parameter.required for parameter in self._positional)

    def bind(
        self, task_name: str, args: Sequence[Raw], kwargs: Mapping[str, Raw]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the positional and the keyword arguments to pass to the task.

        Raises:
            DecodeError: Arguments are missing, surplus or unknown, or one does not fit its parameter.
        """
        if not kwargs and not self._only_named and self._required <= len(args) <= len(self._decodes):
            try:
                return [decode(raw) for decode, raw in zip(self._decodes, args, strict=False)], {}
            except Exception:  # noqa: BLE001, S110 - the slower code below finds the same error and names the parameter
                pass
        positional = [
            self._decode_argument(task_name, self._positional_parameter(task_name, i, args), raw)
            for i, raw in enumerate(args)
        ]
        taken = {parameter.name for parameter in self._positional[: len(args)]}
        named: dict[str, Any] = {}
        for name, raw in kwargs.items():
            named[name] = self._decode_argument(task_name, self._named_parameter(task_name, name, raw, taken), raw)
        required = [parameter.name for parameter in self._positional[len(args) :] if parameter.required]
        for name in (*required, *self._only_named):
            if name not in named or name in self._only_positional:
                _reject(f"a call of task {task_name!r} has no argument for parameter {name!r}")
        return positional, named

    def _positional_parameter(self, task_name: str, position: int, args: Sequence[Raw]) -> Parameter:
        if position < len(self._positional):
            return self._positional[position]
        if self._variadic is None:
            surplus = ", ".join(self._type_of(raw) for raw in args[position:])
            _reject(
                f"task {task_name!r} takes at most {len(self._positional)} positional arguments, "
                f"but a call passes {len(args)}, the surplus of type {surplus}"
            )
        return self._variadic

    def _named_parameter(self, task_name: str, name: str, raw: Raw, taken: set[str]) -> Parameter:
        parameter = self._named.get(name)
        if parameter is None:
            if self._extra is None:
                kind = self._type_of(raw)
                _reject(f"task {task_name!r} accepts no argument named {name!r}, but a call passes one of type {kind}")
            return self._extra
        if name in taken:
            _reject(f"a call of task {task_name!r} passes parameter {name!r} by position and by name")
        return parameter

    def _decode_argument(self, task_name: str, parameter: Parameter, raw: Raw) -> Any:
        try:
            return parameter.decode(raw)
        except Exception as error:  # the class of the annotation can raise anything
            raise DecodeError(
                f"a call of task {task_name!r} passes a value of type {self._type_of(raw)} "
                f"to parameter {parameter.name!r}: {safe_str(error)}",
                remedy=_REMEDY,
            ) from error

    def _type_of(self, raw: Raw) -> str:
        try:
            value: object = self._untyped(raw)
            return type_name(type(value))
        except Exception:  # noqa: BLE001 - it is only a detail of another error message
            return "unknown"


class Signatures:
    """Reads the signature of each task once.

    Tasks are kept by weak references. A partial such as `partial(handler, app)`, which is new for each call, is kept
    by the function that it wraps.
    """

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders
        self._known: WeakKeyDictionary[Callable[..., Any], dict[Hashable, TaskSignature]] = WeakKeyDictionary()

    def of(self, task: Callable[..., Any]) -> TaskSignature:
        """Return the signature of the task, as `inspect.signature` gives it.

        Raises:
            HandlerError: The signature cannot be read, or one of its annotations cannot be used.
        """
        owner, bound = _identity(task)
        try:
            return self._known[owner][bound]
        except KeyError:
            signature = self._read(task)
            self._known.setdefault(owner, {})[bound] = signature
            return signature
        except TypeError:  # neither hashable nor weakly referable
            return self._read(task)

    def _read(self, task: Callable[..., Any]) -> TaskSignature:
        try:
            return TaskSignature(task, self._decoders)
        except (TypeError, ValueError) as error:
            raise HandlerError(
                f"the signature of handler {_handler_name(task)} cannot be read: {safe_str(error)}",
                remedy="Write the handler as a plain function.",
            ) from error


def check_result(task: Callable[..., Any], returns: Any, decoders: Decoders) -> None:
    """Refuse a task if its result cannot be decoded to its annotation.

    Raises:
        HandlerError: `returns` cannot be decoded.
    """
    try:
        decoders.to(returns)
    except UnsupportedTypeError as error:
        raise HandlerError(
            f"the result of handler {_handler_name(task)} is annotated with {safe_repr(returns)}, "
            f"a type that results cannot be decoded to: {safe_str(error)}",
            remedy=_ANNOTATE,
        ) from error


def resolve_annotation(task: Callable[..., Any], name: str, annotation: Any) -> Any:
    """Resolve one annotation alone. Others, such as that of `app`, may be names that only type checkers import.

    Raises:
        HandlerError: The annotation does not resolve.
    """
    if annotation is inspect.Signature.empty:
        return Any
    namespace = getattr(_underlying(task), "__globals__", {})
    holder = SimpleNamespace(__annotations__={name: annotation})
    try:
        return get_type_hints(holder, globalns=namespace, include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        subject = "the result" if name == "return" else f"parameter {name!r}"
        raise HandlerError(
            f"{subject} of handler {_handler_name(task)} is annotated with {safe_repr(annotation)}, "
            f"which does not resolve ({safe_str(error)})",
            remedy="Import the type in the handler's module, outside of `if TYPE_CHECKING`, "
            "or leave the annotation out.",
        ) from error


def _parameter(task: Callable[..., Any], decoders: Decoders, parameter: inspect.Parameter) -> Parameter:
    kind = resolve_annotation(task, parameter.name, parameter.annotation)
    if parameter.default is None:
        kind = Optional[kind]  # noqa: UP045 - `|` does not support every annotation
    try:
        decode = decoders.strictly(kind)
    except UnsupportedTypeError as error:
        raise HandlerError(
            f"parameter {parameter.name!r} of handler {_handler_name(task)} is annotated with "
            f"{safe_repr(parameter.annotation)}, a type that arguments cannot be decoded to: {safe_str(error)}",
            remedy=_ANNOTATE,
        ) from error
    return Parameter(parameter.name, decode, parameter.default is parameter.empty)


def _underlying(task: Any) -> Any:
    """Return the plain function inside partials, wrappers and callable objects. A bound method is returned as it is."""
    while True:
        if isinstance(task, partial):
            task = task.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        elif hasattr(task, "__wrapped__"):
            task = task.__wrapped__
        elif not inspect.isroutine(task) and not isinstance(task, type) and inspect.isroutine(type(task).__call__):
            return type(task).__call__
        else:
            return task


def _identity(task: Callable[..., Any]) -> tuple[Callable[..., Any], Hashable]:
    """Return the cache key of a task: for a partial, its function and the number of bound arguments."""
    wrapper: Any = task
    if type(wrapper) is partial and not wrapper.keywords and not wrapper.__dict__:  # it has no `__signature__` either
        return wrapper.func, len(wrapper.args)
    return task, None


def _handler_name(task: Callable[..., Any]) -> str:
    inner = _underlying(task)
    return f"{inner.__module__}.{inner.__qualname__}"


def _reject(what: str) -> NoReturn:
    raise DecodeError(what, remedy=_REMEDY)
