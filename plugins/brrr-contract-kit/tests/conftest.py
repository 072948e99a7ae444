"""Make the modules of this folder importable here and in the processes that the kit starts, and the runs of pytest."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_runs import Run

HERE = str(Path(__file__).parent)

if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def run(tmp_path: Path) -> "Run":
    from pytest_runs import Run  # the path is set above

    return Run(tmp_path)
