"""How a rule says what is wrong: the demand, what was seen, what should have been."""

from collections.abc import Callable, Collection
from typing import Final, NoReturn

from brrr_core.errors import RuleBrokenError
from brrr_core.safe_text import safe_repr, safe_str

__all__ = ["broken", "check", "equal", "refused", "same_bodies", "shown"]

LONGEST: Final = 200


def broken(what: str, *, cause: BaseException | None = None) -> NoReturn:
    """The rule does not hold. Raises `RuleBrokenError`."""
    raise RuleBrokenError(what, remedy="The page of the rule says why it is demanded.") from cause


def check(holds: bool, what: str) -> None:
    """`holds` must be true; `what` says what is wrong otherwise."""
    if not holds:
        broken(what)


def equal(seen: object, wanted: object, what: str) -> None:
    """`seen` must be `wanted`, in type too; `what` names it."""
    if type(seen) is not type(wanted) or seen != wanted:
        broken(f"{what} should be {shown(wanted)}, and is {shown(seen)}")


def same_bodies(seen: Collection[bytes], wanted: Collection[bytes], what: str) -> None:
    """The same bodies, each as often, in any order."""
    if sorted(seen) != sorted(wanted):
        lost = [body for body in set(wanted) if list(wanted).count(body) > list(seen).count(body)]
        extra = [body for body in set(seen) if list(seen).count(body) > list(wanted).count(body)]
        broken(f"{what}: {len(wanted)} are due and {len(seen)} came; missing {shown(lost)}, too many {shown(extra)}")


def refused(error: BaseException | None, kind: type[BaseException], what: str) -> None:
    """`error`, what was raised if anything, must be a `kind`."""
    if not isinstance(error, kind):
        came = "nothing was raised" if error is None else f"a {type(error).__name__} came: {shown(safe_str(error))}"
        broken(f"{what} must be refused with {kind.__name__}, and {came}")


def shown(value: object, show: Callable[[object], str] = safe_repr) -> str:
    """A value in a message, cut where it is long."""
    text = show(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
