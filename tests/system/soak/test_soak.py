"""Twenty seconds of real faults on each backend loses nothing. `make soak` runs them for longer."""

import os
import random
from pathlib import Path

import pytest

from tests.system.soak.places import PLACES
from tests.system.soak.run import soak

SECONDS = 20.0


@pytest.mark.soak
@pytest.mark.parametrize("backend", PLACES)
async def test_real_faults_lose_nothing(backend: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown if the test fails

    report = await soak(backend, tmp_path, seconds=SECONDS, seed=seed)

    assert report.workflows > 0
    assert sum(report.faults.values()) >= 3, report.text()
    print(report.text())  # noqa: T201
