"""The built-in commands with their functions. Add a new command here and in docs/reference/cli.md."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from brrr_core.cli.backends import backends
from brrr_core.cli.dead import drop, list_dead, redrive
from brrr_core.cli.queue import queue
from brrr_core.cli.result import result
from brrr_core.cli.schedule import schedule
from brrr_core.cli.setup import setup
from brrr_core.cli.worker import worker

__all__ = ["COMMANDS", "GROUPS", "Command"]


class Command(NamedTuple):
    """One command.

    Attributes:
        name: The words to type; a command in a group begins with the group's name.
        function: Runs the command. Its signature gives the options, its docstring the help.
    """

    name: str
    function: Callable[..., Any]


COMMANDS: Final = (
    Command("worker", worker),
    Command("schedule", schedule),
    Command("result", result),
    Command("queue", queue),
    Command("dead list", list_dead),
    Command("dead redrive", redrive),
    Command("dead drop", drop),
    Command("backends", backends),
    Command("setup", setup),
)

GROUPS: Final = {"dead": "Show, redrive or drop dead letters: messages that are not delivered any more."}
"""The help of each command group, by its name."""
