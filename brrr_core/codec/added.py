"""Parameters and fields that were added later: `Added` marks them, and codecs leave out those that have their default.

So a call that does not use the new parameter or field keeps the payload and the hash that it had before.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from brrr_core.safe_text import safe_repr

__all__ = ["Added", "AddedError", "added_fields", "added_parameters"]

T = TypeVar("T")


class _Mark:
    """The mark that `Added` puts on an annotation."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Added"


Added: TypeAlias = Annotated[T, _Mark()]
"""The annotation of a parameter or field that was added later: `limit: brrr.Added[int] = 0`."""

_ALL_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class AddedError(TypeError):
    """A parameter or field cannot be `Added`. The message is the reason. Callers raise an error of their layer."""


def added_parameters(signature: inspect.Signature, resolve: Callable[[str, Any], Any]) -> Mapping[str, object]:
    """Return the defaults of the parameters that are `Added`.

    Args:
        signature: The parameters that callers see.
        resolve: Returns the annotation of a parameter, given its name and an annotation that may be text.

    Raises:
        AddedError: A parameter cannot be `Added`.
    """
    found: dict[str, object] = {}
    for parameter in signature.parameters.values():
        if _is_added(parameter.name, parameter.annotation, resolve):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise AddedError(f"{parameter} is not one parameter that callers can name")
            if parameter.default is parameter.empty:
                raise AddedError(f"{parameter.name!r} has no default")
            found[parameter.name] = parameter.default
        elif found and parameter.kind in _ALL_BY_POSITION:
            raise AddedError(
                f"{parameter.name!r} follows it by position, so older calls would pass their arguments to it"
            )
    return found


def added_fields(kind: type[Any]) -> Mapping[str, object]:
    """Return the defaults of the fields of a class that are `Added`.

    Args:
        kind: A dataclass, a msgspec Struct or a pydantic model. Other classes have no such fields.

    Raises:
        AddedError: A field cannot be `Added`.
    """
    try:
        hints: Mapping[str, Any] = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - a name for type checkers only, or anything that its evaluation raises
        hints = {name: hint for base in reversed(kind.__mro__) for name, hint in inspect.get_annotations(base).items()}
    names = [name for name, hint in hints.items() if _is_added(name, hint, _unresolved)]
    if not names:
        return {}
    defaults = _defaults(kind)
    for name in names:
        if name not in defaults:
            raise AddedError(f"the field {name!r} has no default")
    return {name: defaults[name] for name in names}


def _is_added(name: str, annotation: Any, resolve: Callable[[str, Any], Any]) -> bool:
    if isinstance(annotation, str):
        try:
            annotation = resolve(name, annotation)
        except Exception as error:
            if "Added" in annotation:
                raise AddedError(f"the annotation of {name!r}, {safe_repr(annotation)}, does not resolve") from error
            return False
    annotation = getattr(annotation, "__value__", annotation)  # of a `type` statement
    if get_origin(annotation) is Annotated and any(isinstance(each, _Mark) for each in annotation.__metadata__):
        return True
    if _is_inside(annotation):
        raise AddedError(f"`Added` must be around the whole annotation of {name!r}: Added[int | None]")
    return False


def _is_inside(annotation: Any) -> bool:
    return isinstance(annotation, _Mark) or any(map(_is_inside, get_args(annotation)))


def _unresolved(name: str, annotation: Any) -> Any:
    raise NameError(f"{name}: {annotation}")


def _defaults(kind: Any) -> Mapping[str, object]:
    """Return the defaults of the fields of a class whose fields are written by name."""
    if hasattr(kind, "__pydantic_fields__"):
        return {
            name: field.get_default(call_default_factory=True)
            for name, field in kind.__pydantic_fields__.items()
            if not field.is_required()
        }
    if dataclasses.is_dataclass(kind):
        missing: object = dataclasses.MISSING
        fields: Any = dataclasses.fields(kind)
    elif hasattr(kind, "__struct_config__") and not kind.__struct_config__.array_like:
        from msgspec import NODEFAULT, structs  # here, because `brrr.Added` must not load msgspec

        missing, fields = NODEFAULT, structs.fields(kind)
    else:
        raise AddedError(
            "only dataclasses, pydantic models, and Structs that are not `array_like` can have such fields"
        )
    return {
        field.name: field.default_factory() if field.default is missing else field.default
        for field in fields
        if not (field.default is missing and field.default_factory is missing)
    }
