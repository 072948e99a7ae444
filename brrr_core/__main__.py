"""`python -m brrr_core`: the command `brrr` of the distribution brrr-cli."""

import sys
from typing import Final

USAGE: Final = 2
"""The exit code of a command line that cannot run."""


def main() -> int:
    """Run the command, and return its exit code; without brrr-cli, say how to install it."""
    try:
        from brrr_cli.program import main as brrr
    except ModuleNotFoundError as error:
        if error.name != "brrr_cli":
            raise
        sys.stderr.write('brrr: the command line is an extra; install it: pip install "brrr-core[cli]"\n')
        return USAGE
    return brrr()


if __name__ == "__main__":
    sys.exit(main())
