"""Arguments at and beyond the ends of their ranges."""

from collections.abc import Awaitable
from typing import Any, Final

from brrr_contract_kit.testbed.checks import refused
from brrr_contract_kit.testbed.context import raised
from brrr_core.backend import LONGEST_NAME
from brrr_core.errors import ArgumentError

__all__ = ["NOT_BYTES", "all_refused", "long_names", "with_nul", "wrong_names"]

HALF_PAIRS: Final = ("\ud800", "a\udfff", "\ud83ea")
"""Texts with half of a surrogate pair, which UTF-8 cannot encode."""

NOT_BYTES: Final[list[Any]] = ["text", 1, bytearray(b"x"), memoryview(b"x"), ["x"]]


def long_names(prefix: str) -> list[str]:
    """Return names of the greatest length that differ in their last or in their first character."""
    ascii_ = prefix.ljust(LONGEST_NAME - 1, "x")
    wide = prefix + "🦆" * ((LONGEST_NAME - len(prefix)) // 4 - 1)
    return [
        *(ascii_ + last for last in "abA"),
        *(wide + last for last in "🦆🦉"),
        "a" + ascii_[::-1],
        "b" + ascii_[::-1],
    ]


def with_nul(prefix: str) -> list[str]:
    """Return names that differ in their NULs, or behind one."""
    return [f"{prefix}{end}" for end in ("a\0b", "ab", "a", "a\0", "a\0c", "a\0\0b", "\0a")]


def wrong_names(prefix: str) -> list[Any]:
    """Return names that are empty, too long, not UTF-8 or not text."""
    long = [prefix.ljust(LONGEST_NAME + 1, "x"), prefix + "🦆" * (LONGEST_NAME // 4)]
    return ["", *HALF_PAIRS, *(prefix + half for half in HALF_PAIRS), *long, b"bytes", 1, None]


async def all_refused(operations: dict[str, Awaitable[Any]]) -> None:
    """Check that each operation raises `ArgumentError`."""
    errors = {name: await raised(operation) for name, operation in operations.items()}
    for name, error in errors.items():
        refused(error, ArgumentError, name)
