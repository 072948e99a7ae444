"""The archives that the packaging tests look at."""

from pathlib import Path

import pytest

from tools.dist import build
from tools.distributions import read_distributions


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a source archive of every distribution and a wheel from each archive, in one folder."""
    folder = tmp_path_factory.mktemp("dist")
    build(read_distributions().values(), folder)
    return folder
