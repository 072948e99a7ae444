"""Seeds that must hold: some fixed ones, and every one that ever failed."""

import gc
from collections.abc import Iterator

import pytest

from brrr_simulation import simulate
from brrr_simulation.story import tell

PARTS = 4
"""Tests that share the fixed seeds, so that several processes can take them."""
FIXED = 60

FAILED: dict[int, str] = {}
"""Seeds that failed once, and why."""

OVERLAP = "two runs of one cancelled call overlap, and the older one goes on"


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Each history makes many cycles that end with it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("part", range(PARTS))
def test_fixed_seeds_hold(part: int) -> None:
    reports = [simulate(seed) for seed in range(part + 100, FIXED + 100, PARTS)]
    assert {report.seed: report.violations for report in reports if report.violations} == {}
    assert all(report.calls >= 30 and report.workers >= 3 for report in reports)
    faults = sorted(len(report.faults) for report in reports)
    kinds = sorted(len(report.kinds) for report in reports)
    assert faults[1] >= 5
    assert kinds[1] >= 3


@pytest.mark.parametrize("seed", FAILED, ids=[f"{seed}: {why}" for seed, why in FAILED.items()])
def test_seeds_that_failed_hold(seed: int) -> None:
    report = simulate(seed, trace=True)
    assert not report.violations, tell(report)
