"""The types of options, and the conversion of a text or a Python value to them."""

import math
import re
from enum import Enum
from types import NoneType, UnionType
from typing import Final, Literal, Union, cast, get_args, get_origin

from brrr_core.backend.options import Duration, Secret, Size
from brrr_core.durations import parse_duration

__all__ = ["convert", "describe", "is_supported", "split_optional"]

KILO: Final = {"k": 1, "m": 2, "g": 3, "t": 4}
SIZE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:([kmgt])(i?)b|b|)", re.IGNORECASE)

FORMS: Final[dict[object, tuple[str, str]]] = {
    str: ("a text", "main"),
    int: ("a whole number", "8"),
    float: ("a finite number", "0.5"),
    bool: ("true or false", "true"),
    Duration: ("a duration: a number of seconds, or one with a unit of ms, s, m, h or d", "30s"),
    Size: ("a size: a number of bytes, or one with a unit like KiB, MiB, kB or GB", "16MiB"),
    Secret: ("a text", "****"),
    object: ("an object of the program", "…"),
}


def split_optional(kind: object) -> tuple[object, bool]:
    """Return the type without `| None`, and whether it had one."""
    if get_origin(kind) in {Union, UnionType}:
        rest = [part for part in get_args(kind) if part is not NoneType]
        if len(rest) == 1:
            return rest[0], True
    return kind, False


def is_supported(kind: object) -> bool:
    """Whether an option can have this type. Pass it without `| None`."""
    if get_origin(kind) is Literal:
        return all(type(choice) in {str, int} for choice in get_args(kind))
    return kind in FORMS or (isinstance(kind, type) and issubclass(kind, Enum))


def describe(kind: object) -> tuple[str, str]:
    """Return a description of the values of a type, and an example as written in a URL."""
    choices: list[object] = []
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, Enum):
        choices = [member.value for member in kind]
    if choices:
        return f"one of {', '.join(map(str, choices))}", str(choices[0])
    return FORMS[kind]


def convert(kind: object, value: object) -> object:
    """Convert `value`, a text of a URL or a keyword argument, to `kind`.

    Raises:
        ValueError: The value cannot be converted.
    """
    if kind is Secret:
        return _secret(value)
    if kind is object:
        return _object(value)
    # Imported here, so that listing plugins stays fast.
    import msgspec

    converted = msgspec.convert(value, cast("type[object]", kind), strict=False, dec_hook=_with_unit)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError("not a finite number")
    if isinstance(converted, Duration | Size) and converted < 0:
        raise ValueError("negative")
    return converted


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise ValueError("not a text")


def _object(value: object) -> object:
    if not isinstance(value, str):
        return value
    raise ValueError("a text, as in a URL")


def _with_unit(kind: type, value: object) -> object:
    if isinstance(value, str):
        return Duration(parse_duration(value)) if kind is Duration else _size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return kind(value)
    if isinstance(value, float) and kind is Duration:
        return Duration(value)
    raise ValueError("neither a text nor a number")


def _size(text: str) -> Size:
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a size")
    whole, fraction, prefix, binary = match.groups(default="")
    unit = (1024 if binary else 1000) ** KILO[prefix.lower()] if prefix else 1
    # Use integers, because a float such as 0.1 is not exact. A size is exact, or it is refused.
    number, rest = divmod(int(whole + fraction) * unit, 10 ** len(fraction))
    if rest:
        raise ValueError("not a whole number of bytes")
    return Size(number)
