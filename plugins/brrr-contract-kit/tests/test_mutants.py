"""The rules that a mutant names catch it, and they pass on unbroken backends and codecs."""

from typing import Any

import pytest
from mutants import MUTANTS, Mutant, sound, tcp
from mutants.kit import MEMORY, NO_DELAY
from mutants.liars import known

from brrr_contract_kit.execution import run_rule
from brrr_contract_kit.report import Outcome, Status
from brrr_contract_kit.rules import all_rules, find
from brrr_contract_kit.runner import new_seed
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core.errors import RuleBrokenError

NAMED = sorted({rule for mutant in MUTANTS for rule in mutant.rules})

MORE_TRIES = 2
"""If this process stalls for longer than a lease, a broken backend may behave like a correct one."""


def tried(mutant: Mutant, rule: str) -> Outcome:
    with known():
        return run_rule(find(rule), mutant.target(), new_seed())


def named_first() -> set[str]:
    """Return the names of the mutants that are the first to name a rule of their family, such as QUEUE-ACK."""
    first: dict[str, str] = {}
    for mutant in MUTANTS:
        for rule in mutant.rules:
            first.setdefault(rule.rpartition("-")[0], mutant.name)
    return set(first.values())


QUICK = named_first()


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(each, marks=() if each.name in QUICK else pytest.mark.exhaustive, id=each.name) for each in MUTANTS],
)
def test_each_named_rule_catches_the_mutant(mutant: Mutant) -> None:
    for rule in mutant.rules:
        outcome = tried(mutant, rule)
        for _ in range(MORE_TRIES):
            if outcome.status is not Status.FAILED:
                outcome = tried(mutant, rule)

        assert outcome.status is Status.FAILED, f"{rule} {outcome.status.value} {outcome.reason}"
        assert isinstance(outcome.error, (RuleBrokenError, mutant.raises)), repr(outcome.error)


def unbroken(rule: str) -> Any:
    """Return the rule as a case. The tests of the core run all rules on the memory backend, too."""
    return pytest.param(rule, marks=() if find(rule).unless else pytest.mark.exhaustive)


@pytest.mark.parametrize("rule", [unbroken(rule) for rule in NAMED if not rule.startswith("CODEC")])
def test_rule_passes_on_an_unbroken_backend(rule: str) -> None:
    target = sound(NO_DELAY if find(rule).unless else MEMORY)

    outcome = run_rule(find(rule), target, new_seed())

    # Rules with several processes or servers need a URL. The tests of brrr-sqlite prove that those can pass.
    assert outcome.status in {Status.PASSED, Status.NOT_APPLICABLE}, outcome.reason


@pytest.mark.parametrize(
    "rule", [rule for rule in NAMED if "-SERVER-" in rule or "-ANSWER-" in rule or "WATCH" in rule]
)
def test_rule_passes_on_an_unbroken_backend_over_tcp(rule: str) -> None:
    with known():
        outcome = run_rule(find(rule), tcp.sound(), new_seed())

    declared = find(rule).needs is None  # the memory behind it is shared, and does not declare it
    assert outcome.status is (Status.PASSED if declared else Status.NOT_APPLICABLE), outcome.reason


@pytest.mark.parametrize("rule", [rule for rule in NAMED if rule.startswith("CODEC")])
def test_rule_passes_on_an_unbroken_codec(rule: str) -> None:
    outcome = run_rule(find(rule), CodecTarget.of("json"), new_seed())

    assert outcome.status is Status.PASSED, outcome.reason


def test_at_least_forty_mutants_with_different_names_exist() -> None:
    names = [mutant.name for mutant in MUTANTS]

    assert len(names) >= 40
    assert sorted(names) == sorted({*names})


def test_every_rule_catches_a_mutant() -> None:
    unproved = [rule.id for rule in all_rules() if rule.id not in NAMED]

    assert unproved == ["BACKEND-MANIFEST-02"]  # test_runner.py covers it, as it needs an installed distribution
