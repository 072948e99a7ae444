"""Every mutant is caught by the rules that name it, and those rules pass where nothing is broken."""

import pytest
from mutants import MUTANTS, Mutant, sound
from mutants.kit import NO_DELAY
from mutants.liars import known

from brrr_core.contract.codecs import CodecTarget
from brrr_core.contract.registry import all_rules, find
from brrr_core.contract.report import Outcome, Status
from brrr_core.contract.runner import new_seed, run_rule
from brrr_core.errors import RuleBrokenError
from brrr_core.plugins.builtin import MEMORY

NAMED = sorted({rule for mutant in MUTANTS for rule in mutant.rules})

MORE_TRIES = 2
"""A process that was not run for longer than a lease can see a broken backend do what a right one would."""


def tried(mutant: Mutant, rule: str) -> Outcome:
    with known():
        return run_rule(find(rule), mutant.target(), new_seed())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught_by_each_rule_that_is_named(mutant: Mutant) -> None:
    for rule in mutant.rules:
        outcome = tried(mutant, rule)
        for _ in range(MORE_TRIES):
            if outcome.status is not Status.FAILED:
                outcome = tried(mutant, rule)

        assert outcome.status is Status.FAILED, f"{rule} {outcome.status.value} {outcome.reason}"
        assert isinstance(outcome.error, (RuleBrokenError, mutant.raises)), repr(outcome.error)


@pytest.mark.parametrize("rule", [rule for rule in NAMED if not rule.startswith("CODEC")])
def test_the_rule_passes_where_nothing_is_broken(rule: str) -> None:
    target = sound(NO_DELAY if find(rule).unless else MEMORY)

    outcome = run_rule(find(rule), target, new_seed())

    # Rules of several processes, and of servers, need a URL: brrr-sqlite's own tests are the proof that those can pass.
    assert outcome.status in {Status.PASSED, Status.NOT_APPLICABLE}, outcome.reason


@pytest.mark.parametrize("rule", [rule for rule in NAMED if rule.startswith("CODEC")])
def test_the_rule_passes_for_a_sound_codec(rule: str) -> None:
    outcome = run_rule(find(rule), CodecTarget.of("json"), new_seed())

    assert outcome.status is Status.PASSED, outcome.reason


def test_there_are_forty_mutants_at_least_and_no_two_of_one_name() -> None:
    names = [mutant.name for mutant in MUTANTS]

    assert len(names) >= 40
    assert sorted(names) == sorted({*names})


def test_every_rule_is_named_by_a_mutant() -> None:
    unproved = [rule.id for rule in all_rules() if rule.id not in NAMED]

    assert unproved == ["BACKEND-MANIFEST-02"]  # needs an installed distribution, which test_runner.py makes
