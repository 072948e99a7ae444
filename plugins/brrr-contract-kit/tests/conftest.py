"""Make `mutants` importable here and in the processes that the kit starts, which inherit the import path."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)

if HERE not in sys.path:
    sys.path.insert(0, HERE)
