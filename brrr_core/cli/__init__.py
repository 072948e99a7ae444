"""The command line `brrr`: workers, schedules and results, and operators' tools. It needs the extra `brrr-core[cli]`.

This package can be imported without the extra. Then the command prints one line that says how to install it.
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
        tokens: The arguments after `brrr`; by default those of this process.

    Returns:
        The exit code, one of `brrr_core.cli.errors.ExitCode`.
    """
    try:
        from brrr_core.cli.program import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write('brrr: the command line is an extra; install it: pip install "brrr-core[cli]"\n')
        return USAGE
    return run(sys.argv[1:] if tokens is None else tokens)
