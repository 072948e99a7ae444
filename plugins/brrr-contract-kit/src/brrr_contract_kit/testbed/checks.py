"""Assertions of rules: each raises `RuleBrokenError` with the observed and the expected values."""

from collections.abc import Callable, Collection
from typing import Final, NoReturn

from brrr_core.errors import RuleBrokenError

__all__ = ["NotApplicableError", "broken", "check", "described", "equal", "refused", "same_bodies", "shown"]

LONGEST: Final = 200
LONGEST_MESSAGE: Final = 2000


class NotApplicableError(Exception):
    """The rule does not apply to this backend; the message says why."""


def broken(what: str, *, cause: BaseException | None = None) -> NoReturn:
    """Raise `RuleBrokenError`, because the rule does not hold."""
    raise RuleBrokenError(what, remedy="The page of the rule explains the demand.") from cause


def check(holds: bool, what: str) -> None:
    """Check that `holds` is true; `what` describes the problem if it is not."""
    if not holds:
        broken(what)


def equal(seen: object, wanted: object, what: str) -> None:
    """Check that `seen` equals `wanted` in value and type; `what` names the value."""
    if type(seen) is not type(wanted) or seen != wanted:
        broken(f"{what}: expected {shown(wanted)}, got {shown(seen)}")


def same_bodies(seen: Collection[bytes], wanted: Collection[bytes], what: str) -> None:
    """Check that both have the same bodies, equally often, in any order."""
    if sorted(seen) != sorted(wanted):
        lost = [body for body in set(wanted) if list(wanted).count(body) > list(seen).count(body)]
        extra = [body for body in set(seen) if list(seen).count(body) > list(wanted).count(body)]
        broken(f"{what}: expected {len(wanted)}, got {len(seen)}; missing {shown(lost)}, extra {shown(extra)}")


def refused(error: BaseException | None, kind: type[BaseException], what: str) -> None:
    """Check that `error`, the exception of an operation or None, is a `kind`."""
    if not isinstance(error, kind):
        got = "no exception" if error is None else f"{described(error)}"
        broken(f"{what} must raise {kind.__name__}, but raised {got}")


def described(error: BaseException) -> str:
    """Return the class and the message of an error."""
    return f"{type(error).__name__}: {shown(error, str, longest=LONGEST_MESSAGE)}"


def shown(value: object, show: Callable[[object], str] = repr, *, longest: int = LONGEST) -> str:
    """Return the text of any value for a message, cut if it is longer than `longest` characters. It never raises."""
    try:
        text = str.encode(show(value), errors="backslashreplace").decode()  # without lone surrogates
    except Exception:  # noqa: BLE001 - a foreign `__repr__` can raise anything
        return f"<a {type(value).__name__} that cannot be shown>"
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"
