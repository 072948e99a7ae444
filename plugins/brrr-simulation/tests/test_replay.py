"""A seed decides everything: a history is the same each time, even if faults or calls are left out."""

import random

import pytest

from brrr_simulation import simulate
from brrr_simulation.story import tell


@pytest.mark.parametrize("seed", [9, 8])
def test_same_seed_is_the_same_history(seed: int) -> None:
    first, second = (simulate(seed, trace=True) for _ in range(2))
    assert tell(first) == tell(second)
    assert len(first.trace) > 100


def test_other_seed_is_another_history() -> None:
    assert tell(simulate(9, trace=True)) != tell(simulate(8, trace=True))


def test_history_does_not_change_the_random_state_of_the_program() -> None:
    random.seed(1)
    expected = random.random()
    random.seed(1)
    simulate(9)
    assert random.random() == expected


def test_fault_that_is_dropped_does_not_strike() -> None:
    report = simulate(9)
    again = simulate(9, dropped={report.faults[0].number})
    assert report.faults[0] not in again.faults


def test_history_without_faults_violates_nothing_and_repeats_no_work() -> None:
    report = simulate(9, kinds=())
    assert not report.faults
    assert not report.violations
