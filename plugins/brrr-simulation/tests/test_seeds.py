"""Seeds whose histories must violate nothing: some fixed ones, and every seed that ever failed."""

import gc
from collections.abc import Iterator

import pytest

from brrr_simulation import simulate
from brrr_simulation.story import tell

PARTS = 4
"""Tests that share the fixed seeds, so that several processes can take them."""
FIXED = 40

FAILED: dict[tuple[int, str | None], str] = {
    (127, None): "a bound of the simulation itself was too low for records with few parents",
    (100580050, None): "a frozen worker marked a call after its retry, so that no run put it",
    (10109, None): "a call without a mark kept a spawn limit from removing the marks above it",
    (9001, "cancels"): "a call that slept relied on the timer of a cancelled schedule",
    (9065, "cancels"): "a failure of a backend left marks above a call of a cancelled schedule",
    (261, "cancels"): "a worker marked a call whose message had been dropped with its schedule, and died",
    (30383, "cancels"): "the same, and another cancelled schedule had put the call in between",
    (30258, "cancels"): "a worker that had lost its leases deleted the record in which its calls waited",
    (927852430, ""): "a worker put a message again, and the put arrived after another worker had acknowledged it",
    (341, "letters"): "a lost answer left marks above a dead-lettered call",
    (20137, "letters"): "a failure of a backend left marks above a dead-lettered call",
}
"""Seeds that failed once, with their special parts if they were asked for, and why.

A change of the simulation gives another history to a seed.
"""


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Each history makes many cycles that end with it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.exhaustive if part else ()) for part in range(PARTS)]
)
def test_fixed_seeds_violate_no_invariant(part: int) -> None:
    reports = [simulate(seed) for seed in range(part + 100, FIXED + 100, PARTS)]
    assert {report.seed: report.violations for report in reports if report.violations} == {}
    assert all(report.calls >= 30 and report.workers >= 3 for report in reports)
    faults = sorted(len(report.faults) for report in reports)
    kinds = sorted(len(report.kinds) for report in reports)
    assert faults[len(faults) // 4] >= 5
    assert kinds[len(kinds) // 4] >= 3


@pytest.mark.parametrize(("seed", "theme"), FAILED, ids=[f"{seed}: {why}" for (seed, _), why in FAILED.items()])
def test_seeds_that_failed_before_violate_no_invariant(seed: int, theme: str | None) -> None:
    report = simulate(seed, theme=theme, trace=True)
    assert not report.violations, tell(report, {"theme": theme})
