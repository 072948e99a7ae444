"""`brrr contract` runs the contract kit from a command line."""

import json
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest
from mutants import doomed
from mutants.kit import applicable, registered

from brrr_contract_kit.rules import rules_of


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command."""

    (script,) = entry_points(group="console_scripts", name="brrr")
    main = script.load()

    def run(*tokens: str) -> Ended:
        code = main(tokens)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


def test_backend_is_tested_and_report_is_written(command: Command, tmp_path: Path) -> None:
    files = ("--json", f"{tmp_path}/x.json", "--badge", f"{tmp_path}/x.svg")
    said = command("contract", "memory:", "--role", "cache", *files)
    report = json.loads((tmp_path / "x.json").read_text())
    passed = applicable("cache")
    others = len(rules_of("cache")) - passed

    assert said.code == 0
    assert "CACHE-COUNT-01" in said.out
    assert report["counts"]["passed"] == passed
    assert said.out.rstrip().endswith(f"obeys the contract: {passed} passed, {others} not applicable")
    assert {rule["role"] for rule in report["rules"]} == {"cache"}
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


def test_each_rule_has_a_line_and_the_end_has_the_slowest_rules_and_the_counts(command: Command) -> None:
    rules = ["QUEUE-LEASE-02", "CACHE-COUNT-01", "CACHE-RACE-03"]
    said = command("contract", "memory:", *(f"--rule={rule}" for rule in rules), "--seed", "abc", "--jobs", "1")
    lines = said.out.splitlines()

    assert lines[0] == "memory:, seed abc"
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["QUEUE-LEASE-02", "passed"],
        ["CACHE-COUNT-01", "passed"],
        ["CACHE-RACE-03", "not"],
    ]
    assert "; the slowest: QUEUE-LEASE-02 " in lines[-3]
    assert lines[-1] == "partial run: no rule is broken: 2 passed, 1 not applicable"


def test_backend_that_cannot_be_opened_is_one_error_and_a_failed_report(command: Command, tmp_path: Path) -> None:
    url, report = f"sqlite:///{tmp_path}/new/x.db", tmp_path / "x.json"
    said = command("contract", url, "--json", str(report))
    set_up = command("contract", url, "--setup", "--rule", "CACHE-COUNT-01", "--jobs", "1")

    assert (said.code, said.out) == (1, "")
    assert "create them first: `brrr contract --setup`" in said.err
    assert json.loads(report.read_text())["ok"] is False
    assert json.loads(report.read_text())["error"]["code"] == "BRRR-BACKEND-01"
    assert set_up.code == 0, set_up.err


def test_repetitions_have_new_seeds_and_end_with_the_first_that_fails(command: Command, tmp_path: Path) -> None:
    doomed.Flaky.cache_kind.runs = 0
    with registered(*doomed.MANIFESTS):
        said = command(
            *("contract", "flaky:", "--rule", "CACHE-COUNT-02", "--repeat", "5", "--jobs", "1"),
            *("--json", f"{tmp_path}/x.json"),
        )
    runs = re.findall(r"^repetition (\d) of 5, seed (\w+): 1 (\w+) in", said.out, re.MULTILINE)

    assert said.code == 1
    assert [(number, status) for number, _, status in runs] == [("1", "passed"), ("2", "passed"), ("3", "failed")]
    assert len({seed for _, seed, _ in runs}) == 3
    assert "CACHE-COUNT-02 failed in repetition 3: " in said.out
    assert said.out.rstrip().endswith("partial run: some rules are broken: 1 failed in repetition 3")
    assert json.loads((tmp_path / "x.json").read_text())["repetitions"] == 3


def test_repetitions_that_all_succeed_say_so(command: Command) -> None:
    said = command("contract", "memory:", "--rule", "CACHE-COUNT-01", "--repeat", "2", "--jobs", "1")

    assert said.out.rstrip().endswith("no rule is broken: 1 passed in each of 2 repetitions")
    assert said.out.count("CACHE-COUNT-01       passed") == 1


def test_failed_rule_shows_its_demand_link_and_remedy_and_the_rule_that_forbids_a_leak(command: Command) -> None:
    with registered(*doomed.MANIFESTS):
        said = command("contract", "leaks:", "--rule", "CACHE-COUNT-02", "--jobs", "1", "-v")

    assert re.search("^CACHE-COUNT-02 failed: tasks are still pending .*left behind", said.out, re.MULTILINE)
    assert "    BACKEND-CLEAN-01 forbids this: A closed backend leaves no task" in said.out
    assert "/docs/contract/backend-clean.md#backend-clean-01\n" in said.out
    assert "    It was found after CACHE-COUNT-02: One operation increments many counters" in said.out
    assert "    Let `stop` release it, and return only when it has ended.\n" in said.out
    assert "Traceback" in said.out


def test_failed_rule_is_exit_code_1(command: Command) -> None:
    said = command("contract", "memory:", "--rule", "CACHE-COUNT-01", "--expect-failure", "CACHE-COUNT-01=known")

    assert said.code == 1
    assert "expected to fail (known), but passed" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["memory:", "--codec", "json"],
        ["memory:", "--role", "qeue"],
        ["memory:", "--rule", "CACHE-COUNT-1"],
        ["memory:", "--skip", "CACHE-RACE-03"],
        ["memory:", "--skip", "CACHE-COUNT-01=slow"],
        ["memory:", "--jobs", "0"],
        ["memry:"],
    ],
)
def test_invalid_command_line_is_exit_code_2(command: Command, arguments: list[str]) -> None:
    said = command("contract", *arguments)

    assert said.code == 2, said.err
    assert said.out == ""
