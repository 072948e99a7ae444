"""kill -9 of worker processes at random moments, on one server, for many rounds of a workflow."""

import pytest

from tests.support.soak import soak_part

ROUNDS = 40
"""In a usual run; `BRRR_SOAK_ROUNDS=100` makes it longer."""
PARTS = 4
"""Tests that share the rounds, each with workers of its own, so that they can run side by side."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_is_lost_however_workers_are_killed(valkey, part: int) -> None:
    await soak_part(f"{valkey.url}?lease=1s&sweep=100ms", part=part, parts=PARTS, rounds=ROUNDS)
