"""Keyword arguments of a task that were perhaps meant as options of the command: `--wiat` for `--wait`."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from cyclopts import App

__all__ = ["hint_of"]

TAKE_ARGUMENTS: Final = ("schedule", "result")
"""The commands to which an unknown option is an argument of the task."""

LIKENESS: Final = 0.7
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
    nearest = {each: get_close_matches(each, options, n=1, cutoff=LIKENESS) for each in dict.fromkeys(written)}
    return " ".join(
        f"Did you mean {near[0]}? {each} is an argument of the task." for each, near in nearest.items() if near
    )
