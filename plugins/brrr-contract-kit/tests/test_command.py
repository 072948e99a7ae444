"""`brrr contract` runs the contract kit from a command line."""

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest


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

    assert said.code == 0
    assert "CACHE-COUNT-01" in said.out
    assert said.out.rstrip().endswith(f"holds the contract: {report['counts']['passed']} passed, 3 not applicable")
    assert {rule["role"] for rule in report["rules"]} == {"cache"}
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


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
        ["memry:"],
    ],
)
def test_invalid_command_line_is_exit_code_2(command: Command, arguments: list[str]) -> None:
    said = command("contract", *arguments)

    assert said.code == 2, said.err
    assert said.out == ""
