"""`python -m brrr_core`: the command `brrr`."""

import sys

from brrr_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
