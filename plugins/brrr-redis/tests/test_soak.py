"""Workflows whose worker processes are killed at random moments, on one server."""

import pytest

from brrr_testkit.workloads.soak import soak_part

ROUNDS = 16
"""Rounds of a usual run; `BRRR_SOAK_ROUNDS=100` makes it longer."""
PARTS = 4
"""Tests that share the rounds. Each has its own workers, so that they can run in parallel."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_workers_lose_no_call(valkey, part: int) -> None:
    await soak_part(f"{valkey.url}?lease=1s&sweep=100ms", part=part, parts=PARTS, rounds=ROUNDS)
