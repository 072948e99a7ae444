"""The help, the reference page and the exit codes agree."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brrr_cli.commands import BUILT_IN
from brrr_cli.errors import ExitCode
from brrr_cli.program import HELP
from brrr_core.plugins.scanning import KNOWN_COMMANDS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(
    re.findall(r"^### `brrr ([\w ]+?)(?: [A-Z\[][^\n]*)?`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
)
NAMES = [*(command.name for command in BUILT_IN), *KNOWN_COMMANDS]

Command = Callable[..., Any]


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def test_page_has_exactly_all_commands() -> None:
    assert list(SECTIONS) == NAMES


def test_help_lists_every_command(command: Command) -> None:
    said = command("--help")

    assert said.code == 0
    assert {name.split()[0] for name in NAMES} <= set(re.findall(r"^│ (\w+)", said.out, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_help_and_page_name_same_options(command: Command, name: str) -> None:
    said = command(*name.split(), "--help")
    shared = options(PAGE.split("## Commands")[0])

    assert said.code == 0
    assert options(said.out) - shared - options(SECTIONS[name]) == set()
    assert options(SECTIONS[name]) - options(said.out) == set()


def test_help_and_page_list_exit_codes() -> None:
    assert re.findall(r"\b(\d) [a-z]", HELP) == [str(int(code)) for code in ExitCode]
    assert re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE) == [str(int(code)) for code in ExitCode]


def test_help_and_page_name_same_variables(command: Command) -> None:
    said = command("worker", "--help")

    assert set(re.findall(r"BRRR_[A-Z]+", PAGE)) == set(re.findall(r"BRRR_[A-Z]+", said.out))


def test_version_is_printed(command: Command) -> None:
    assert re.fullmatch(r"brrr-core \d+\.\d+\.\d+\n", command("--version").out)
