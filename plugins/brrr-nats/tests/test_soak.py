"""`kill -9` of worker processes at random moments, on one server, for eight rounds of a workflow."""

import pytest

from brrr_testkit.workloads.soak import soak_part

ROUNDS = 8
PARTS = 2
"""Tests that share the rounds, each with its own workers, so that they can run in parallel."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_workers_lose_nothing(url, part: int) -> None:
    await soak_part(f"{url}&lease=1s", part=part, parts=PARTS, rounds=ROUNDS)
