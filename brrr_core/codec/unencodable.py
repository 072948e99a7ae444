"""Finds the part of a value that cannot be encoded, for the error message. Runs only after an encoder has failed."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

from brrr_core.codec.canonical import PLAIN, field_names
from brrr_core.safe_text import safe_str

__all__ = ["Culprit", "find_culprit", "shown", "type_name"]

MAX_KEY_CHARACTERS = 40


class Culprit(NamedTuple):
    """The innermost value that the encoder refuses.

    Attributes:
        path: The path to it, in Python's notation: `[0].name['key']`. Empty for the outer value itself.
        type_name: The name of its class, with the module if it is not builtin.
        reason: Why the encoder refuses it.
    """

    path: str
    type_name: str
    reason: str


def find_culprit(value: object, encode: Callable[[object], object]) -> Culprit:
    """Return the innermost value inside `value` for which `encode` raises.

    Args:
        value: A value for which `encode` raises. It may be deeply nested, or contain itself.
        encode: The encoder; called with the values inside.
    """
    path = ""
    error = _failure(value, encode)
    while not isinstance(error, RecursionError):
        for step, child in _children(value):
            inner = _failure(child, encode)
            if inner is not None:
                path, value, error = path + step, child, inner
                break
        else:
            return Culprit(path, type_name(type(value)), safe_str(error))
    return Culprit(path, type_name(type(value)), "it is nested too deeply, or contains itself")


def type_name(kind: type) -> str:
    """Return the name of a class as readers know it: `int`, `pathlib.PosixPath`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _failure(value: object, encode: Callable[[object], object]) -> Exception | None:
    try:
        encode(value)
    except Exception as error:  # noqa: BLE001 - every error is reported
        return error
    return None


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, member in cast("dict[object, object]", value).items():
            yield f"[{shown(key)}]", member
    elif isinstance(value, (list, tuple, set, frozenset)):
        for position, element in enumerate(cast("Iterable[object]", value)):
            yield f"[{position}]", element
    else:
        for name in field_names(type(value)):
            try:
                member = getattr(value, name)
            except Exception:  # noqa: BLE001, S112 - then the object itself is reported
                continue
            yield f".{name}", member


def shown(key: object) -> str:
    """Return a short text for a key in a path. The repr of other types may be long, or raise."""
    if type(key) not in PLAIN:
        return f"a {type_name(type(key))}"
    shown = repr(key)
    return shown if len(shown) <= MAX_KEY_CHARACTERS else f"{shown[:MAX_KEY_CHARACTERS]}…"
