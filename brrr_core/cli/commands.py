"""The commands, each with the function that runs it. One that is added is added here, and in docs/reference/cli.md."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from brrr_core.cli.backends import backends
from brrr_core.cli.contract import contract
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
        name: What is typed; of a command in a group, the group's name first.
        function: Runs it. Its signature is the command's options, its docstring their help.
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
    Command("contract", contract),
)

GROUPS: Final = {"dead": "Look after the dead letters: messages that were given up."}
"""Names of groups of commands, and their summaries."""
