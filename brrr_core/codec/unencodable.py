"""Finds what within a value cannot be encoded, for the error that says so. Runs only after an encoder has refused."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

from brrr_core.codec.canonical import PLAIN, field_names
from brrr_core.safe_text import safe_str

__all__ = ["Culprit", "find_culprit", "shown", "type_name"]

LONGEST_KEY = 40


class Culprit(NamedTuple):
    """The innermost value that is refused.

    Attributes:
        path: Where it is, written as Python reaches it: `[0].name['key']`; empty for the value itself.
        type_name: Its class, with the module unless it is builtin.
        reason: Why it is refused.
    """

    path: str
    type_name: str
    reason: str


def find_culprit(value: object, encode: Callable[[object], object]) -> Culprit:
    """The innermost value within `value` that `encode` raises for.

    Args:
        value: Something that `encode` raises for, however deep or self-containing.
        encode: Called with values from within.
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
    return Culprit(path, type_name(type(value)), "it is nested too deep, or contains itself")


def type_name(kind: type) -> str:
    """The class as a reader knows it: `int`, `pathlib.PosixPath`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _failure(value: object, encode: Callable[[object], object]) -> Exception | None:
    try:
        encode(value)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
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
            except Exception:  # noqa: BLE001, S112 - then the object itself is to blame
                continue
            yield f".{name}", member


def shown(key: object) -> str:
    """A key in a path; not the repr of anything, which may be long, or raise."""
    if type(key) not in PLAIN:
        return f"a {type_name(type(key))}"
    shown = repr(key)
    return shown if len(shown) <= LONGEST_KEY else f"{shown[:LONGEST_KEY]}…"
