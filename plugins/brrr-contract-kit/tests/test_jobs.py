"""Rules that run in several processes: the same outcomes, even if a backend ends or blocks a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mutants.doomed import MANIFESTS
from mutants.kit import applicable, registered, sound

from brrr_contract_kit import Outcome, Report, Status, jobs, run_contract
from brrr_contract_kit.registry import Rule
from brrr_contract_kit.rules import find
from brrr_core.errors import ContractError, RuleBrokenError


@pytest.fixture(autouse=True)
def schemes() -> Iterator[None]:
    with registered(*MANIFESTS):
        yield


def run_cache(scheme: str) -> Report:
    return run_contract(f"{scheme}:", roles=["cache"], preload=["mutants.registered"], jobs=2)


def failed(report: Report) -> Outcome:
    """Return the outcome of the only rule that failed."""
    (outcome,) = report.of(Status.FAILED)
    return outcome


def test_outcomes_are_those_of_a_run_in_one_process() -> None:
    alone, together = (run_contract("memory:", roles=["cache", "backend"], jobs=count) for count in (1, 3))

    def seen(report: Report) -> list[tuple[str, Status, str]]:
        return [(each.rule.id, each.status, each.reason) for each in report.outcomes]

    assert together.ok
    assert seen(together) == seen(alone)


def test_outcome_of_a_failed_rule_has_its_reason_remedy_and_traceback() -> None:
    report = run_contract("leaks:", rules=["CACHE-COUNT-02"], preload=["mutants.registered"], jobs=2)
    outcome = failed(report)

    assert "tasks are still pending after the backend was closed: ['left behind'" in outcome.reason
    assert outcome.remedy == "Let `stop` release it, and return only when it has ended."
    assert outcome.forbidden_by is find("BACKEND-CLEAN-01")
    assert "Traceback" in "".join(getattr(outcome.error, "__notes__", []))


def test_rule_that_ends_its_process_fails_and_the_others_run() -> None:
    report = run_cache("ends")

    assert failed(report).rule.id == "CACHE-COUNT-02"
    assert "the process of the rule ended with 3" in failed(report).reason
    assert len(report.of(Status.PASSED)) == applicable("cache") - 1


def test_rule_that_blocks_its_process_fails_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit_of(rule: Rule, target: object) -> float:
        del target
        return 0.5 if rule.id == "CACHE-COUNT-02" else 60

    monkeypatch.setattr(jobs, "KILL_MARGIN", 0)
    monkeypatch.setattr(jobs, "limit_of", limit_of)
    report = run_cache("blocks")

    assert failed(report).rule.id == "CACHE-COUNT-02"
    assert "the rule blocked its process for more than 1.5 s" in failed(report).reason
    assert len(report.of(Status.PASSED)) == applicable("cache") - 1


def test_output_of_a_backend_does_not_mix_with_the_outcomes(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cache("prints").ok
    assert "from the backend" in capfd.readouterr().err


def children() -> set[str]:
    """Return the process ids of the children of this process, as Linux lists them."""
    return {pid for listed in Path("/proc/self/task").glob("*/children") for pid in listed.read_text().split()}


def test_interrupted_run_leaves_no_process_behind() -> None:
    before = children()  # servers of other tests

    def interrupt(outcome: Outcome) -> None:
        del outcome
        raise RuleBrokenError("enough", remedy="")

    with pytest.raises(RuleBrokenError, match="enough"):
        run_contract("memory:", jobs=4, progress=interrupt)
    assert children() <= before


def test_several_jobs_need_a_url() -> None:
    with pytest.raises(ContractError, match="has no URL"):
        run_contract(sound(), jobs=2)
