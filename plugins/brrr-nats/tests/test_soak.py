"""kill -9 of worker processes at random moments, on one server, for twenty rounds of a workflow."""

import os
import random

import pytest

from tests.support.soak import soak

ROUNDS = int(os.environ.get("BRRR_SOAK_ROUNDS", "20"))
PARTS = 2
"""Tests that share the rounds, each with workers of its own, so that they can run side by side."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_is_lost_however_workers_are_killed(url, part: int) -> None:
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    rounds = len(range(part, ROUNDS, PARTS))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown where the test fails
    report = await soak(f"{url}&lease=1s", rounds=rounds, seed=seed)
    assert report.rounds == rounds
    assert report.kills >= rounds
    print(f"{report.kills} kills, the longest round {max(report.seconds):.1f} s")  # noqa: T201
