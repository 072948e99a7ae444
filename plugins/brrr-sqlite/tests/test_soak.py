"""kill -9 of worker processes at random moments, on one SQLite file, for many rounds of a workflow."""

from pathlib import Path

import pytest

from brrr_testkit.workloads.soak import soak_part

ROUNDS = 16
"""In a usual run; `BRRR_SOAK_ROUNDS=100` makes it longer."""
PARTS = 4
"""Tests that share the rounds, each with a file and two workers of its own, so that they can run in parallel."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_workers_lose_nothing(tmp_path: Path, part: int) -> None:
    await soak_part(f"sqlite:///{tmp_path}/soak.db?lease=1s", part=part, parts=PARTS, rounds=ROUNDS)
