"""The commands: those built in, and those of installed distributions, from the entry-point group `brrr.commands`.

Add a new built-in command here and in docs/reference/cli.md. An installed command is imported only when it is called.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from cyclopts import App

from brrr_cli.commands import backends, calls, control, dead, topics, worker
from brrr_core.errors import BrokenPluginError, ClashError, NotInstalledError
from brrr_core.plugins.loading import load_claim
from brrr_core.plugins.registry import REGISTRY
from brrr_core.plugins.scanning import COMMANDS, KNOWN_COMMANDS, Claim
from brrr_core.safe_text import describe

__all__ = ["BUILT_IN", "GROUPS", "Command", "InstalledCommand", "installed_commands", "unusable_commands"]


class Command(NamedTuple):
    """One command.

    Attributes:
        name: The words to type; a command in a group begins with the group's name.
        function: Runs the command. Its signature gives the options, its docstring the help.
    """

    name: str
    function: Callable[..., Any]


BUILT_IN: Final = (
    Command("worker", worker.worker),
    Command("schedule", calls.schedule),
    Command("result", calls.result),
    Command("status", calls.status),
    Command("show", calls.show),
    Command("complete", calls.complete),
    Command("cancel", control.cancel),
    Command("retry", control.retry),
    Command("topics", topics.topics),
    Command("queue", topics.queue),
    Command("peek", topics.peek),
    Command("purge", topics.purge),
    Command("dead list", dead.list_dead),
    Command("dead show", dead.show),
    Command("dead redrive", dead.redrive),
    Command("dead drop", dead.drop),
    Command("dead complete", dead.complete),
    Command("backends", backends.backends),
    Command("setup", backends.setup),
    Command("gc", backends.gc),
)

GROUPS: Final = {"dead": "Show, redrive, drop or complete dead letters: messages that are no longer delivered."}
"""The help of each command group, by its name."""

TAKEN: Final = {command.name.split()[0] for command in BUILT_IN}
"""The names that no distribution can claim."""

NAME: Final = re.compile(r"[a-z][a-z0-9-]*")


class InstalledCommand(NamedTuple):
    """A command that distributions claim. A command of this project has no claim if it is not installed."""

    name: str
    claims: list[Claim]

    @property
    def summary(self) -> str:
        """The line of `brrr --help`, which does not import the command."""
        if len(self.claims) != 1:
            return f"Claimed by {_origins(self.claims)}: uninstall all but one."
        origin = self.claims[0].origin
        return f"A command of {origin}: {origin.summary or 'it has no summary'}"

    def load(self) -> Callable[..., Any]:
        """Import the function of the command.

        Raises:
            NotInstalledError: The distribution of the command is not installed.
            ClashError: Several distributions claim the name.
            BrokenPluginError: The function cannot be imported, or its parameters cannot be options.
        """
        if not self.claims:
            wanted = KNOWN_COMMANDS[self.name]
            raise NotInstalledError(
                f"the command {self.name!r} comes with {wanted}, which is not installed",
                remedy=f"Install it: pip install {wanted}.",
            )
        if len(self.claims) > 1:
            raise ClashError(
                f"the command {self.name!r} is claimed by {_origins(self.claims)}",
                remedy="Keep one of them, and uninstall the others.",
            )
        claim = self.claims[0]
        function = load_claim(claim)
        if not inspect.isroutine(function):
            raise _broken(claim, f"is a {type(function).__name__}, not a function")
        try:
            App(default_command=function).assemble_argument_collection()
        except Exception as error:
            raise _broken(claim, f"has parameters that cannot be options: {describe(error)}") from error
        return function


def installed_commands() -> list[InstalledCommand]:
    """Return the installed commands, and those of this project that are not installed, sorted by name."""
    usable = [claim for claim in _claims() if NAME.fullmatch(claim.name) and claim.name not in TAKEN]
    names = sorted({claim.name for claim in usable} | KNOWN_COMMANDS.keys())
    return [InstalledCommand(name, [claim for claim in usable if claim.name == name]) for name in names]


def unusable_commands() -> Iterator[str]:
    """Yield a sentence for each claim whose name is built in or cannot be typed."""
    for claim in _claims():
        if claim.name in TAKEN:
            yield f"The command {claim.name!r} of {claim.origin} is not used: brrr has its own."
        elif not NAME.fullmatch(claim.name):
            yield f"The command {claim.name!r} of {claim.origin} is not used: its name is not of the form a-b-1."


def _claims() -> list[Claim]:
    return sorted(REGISTRY.metadata().claims[COMMANDS], key=lambda claim: (claim.name, claim.origin.distribution))


def _origins(claims: list[Claim]) -> str:
    return " and ".join(f"{claim.origin} ({claim.entry.value})" for claim in claims)


def _broken(claim: Claim, what: str) -> BrokenPluginError:
    return BrokenPluginError(
        f"the command {claim.name!r} of {claim.origin} is broken: {claim.entry.value} {what}",
        remedy="Try another version, or report the problem to its authors.",
    )
