"""Keyword arguments of a task that were perhaps meant as options of the command: `--wiat` for `--wait`."""

import re
from collections.abc import Sequence
from typing import Final

from cyclopts import App

__all__ = ["hint_of"]

TAKE_ARGUMENTS: Final = ("schedule", "result")
"""The commands to which an unknown option is an argument of the task."""

OPTION: Final = re.compile(r"(--[^\W\d][\w-]*)(?:=.*)?", re.DOTALL)


def hint_of(app: App, tokens: Sequence[str]) -> str:
    """A question for each keyword argument whose name is nearly that of an option; empty where there is none.

    What stands after `--` is meant as it is written.

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
    nearest = {each: next((option for option in options if _one_slip(each, option)), "") for each in written}
    return " ".join(
        f"Did you mean {near}? {each} is an argument of the task." for each, near in nearest.items() if near
    )


def _one_slip(one: str, other: str) -> bool:
    """Whether one letter is missing, too many or wrong, or two stand in the other's place."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[at:], other[at:]
    swapped = one[:2] == other[1::-1] and one[2:] == other[2:]
    return swapped or one[1:] == other or one == other[1:] or one[1:] == other[1:]
