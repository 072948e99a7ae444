"""`python -m brrr_cli`: the command `brrr`."""

import sys

from brrr_cli.program import main

if __name__ == "__main__":
    sys.exit(main())
