"""The command line `brrr`: workers, schedules and results, and operators' tools. The extra `brrr-core[cli]`.

Importing this package needs nothing of the extra: without it, the command says in one line how to get it.
"""

import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["main"]

EXTRA: Final = {"cyclopts", "rich"}
USAGE: Final = 2


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        tokens: What follows `brrr` on the command line; that of this process where it is left out.

    Returns:
        The exit code, one of `brrr_core.cli.exits.ExitCode`.
    """
    try:
        from brrr_core.cli.program import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write('brrr: the command line is an extra; install it: pip install "brrr-core[cli]"\n')
        return USAGE
    return run(sys.argv[1:] if tokens is None else tokens)
