"""Find misspelt options among the keyword arguments of a task: `--wiat` for `--wait`."""

import re
from collections.abc import Sequence
from typing import Final

from cyclopts import App

__all__ = ["suggest_options"]

TAKE_ARGUMENTS: Final = ("schedule", "result")
"""The commands that take an unknown option as an argument of the task."""

OPTION: Final = re.compile(r"(--[^\W\d][\w-]*)(?:=.*)?", re.DOTALL)


def suggest_options(app: App, tokens: Sequence[str]) -> str:
    """Return a question for each keyword argument that is nearly an option of the command, or an empty text.

    Arguments after `--` are never questioned.

    Args:
        app: All commands.
        tokens: The command line.
    """
    if not tokens or tokens[0] not in TAKE_ARGUMENTS:
        return ""
    options = sorted({name for each in app[tokens[0]].assemble_argument_collection() for name in each.names})
    options = [option for option in options if option.startswith("--")]
    ours = tokens[1 : tokens.index("--")] if "--" in tokens else tokens[1:]
    written = [match[1] for match in map(OPTION.fullmatch, ours) if match is not None and match[1] not in options]
    nearest = {each: next((option for option in options if _differ_by_one_typo(each, option)), "") for each in written}
    return " ".join(
        f"Did you mean {near}? {each} is an argument of the task." for each, near in nearest.items() if near
    )


def _differ_by_one_typo(one: str, other: str) -> bool:
    """Whether two words differ by one missing, extra or wrong letter, or by two swapped letters."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[at:], other[at:]
    swapped = one[:2] == other[1::-1] and one[2:] == other[2:]
    return swapped or one[1:] == other or one == other[1:] or one[1:] == other[1:]
