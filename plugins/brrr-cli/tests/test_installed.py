"""Installed distributions add commands. One that cannot be used says why, and disturbs no other."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brrr_cli import api
from brrr_cli.commands import BUILT_IN
from brrr_core.plugins import REGISTRY
from brrr_core.plugins.scanning import KNOWN_COMMANDS
from brrr_testkit.sites import Site

PAGE = (Path(__file__).resolve().parents[3] / "docs/how-to/add-a-command.md").read_text(encoding="utf-8")
GREET = '''
def greet(name: str, /, *, loud: bool = False) -> None:
    """Greet someone."""
    print(name.upper() if loud else name)
'''

Command = Callable[..., Any]


def install(site: Site, module: str, source: str, entry: str, *, distribution: str = "acme", summary: str = "") -> None:
    site.module(module, source)
    site.metadata(distribution, f"[brrr.commands]\n{entry}\n", summary=summary)


def error_of(said: Any) -> Any:
    return json.loads(said.err)["error"]


def test_installed_command_runs_with_its_options(command: Command, site: Site) -> None:
    install(site, "acme", GREET, "greet = acme:greet")

    assert command("greet", "bob", "--loud").out == "BOB\n"


def test_page_shows_a_command_that_works(command: Command, site: Site) -> None:
    source = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    group = re.findall(r'^\[project.entry-points."brrr.commands"\]\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)[0]
    install(site, "tasks_alive", source, group.replace('"', ""))

    said = command("alive", "demo")
    assert (said.code, said.out) == (0, "demo has 0 dead letters\n")
    assert command("alive", "demo", "--json").json == {"topic": "demo", "dead": 0}


def test_page_names_all_of_the_public_surface() -> None:
    assert {
        name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    } == set(api.__all__)


def test_return_value_of_installed_command_is_exit_code(command: Command, site: Site) -> None:
    install(site, "acme", "async def five() -> int:\n    return 5\n", "five = acme:five")

    assert command("five").code == 5


def test_help_lists_installed_command_without_import(command: Command, site: Site) -> None:
    install(site, "acme", GREET, "greet = acme:greet", summary="Greets *people* [/bold] of_ `any kind")
    said = command("--help")

    assert said.code == 0
    assert "A command of acme 1.0: Greets people [/bold] of_ `any kind" in re.sub(r"[\s│]+", " ", said.out)
    assert "acme" not in sys.modules


@pytest.mark.parametrize("tokens", [("backends",), ("gret",), ("schedule", "greet", "--topic", "demo")])
def test_other_command_lines_do_not_import_it(command: Command, site: Site, tokens: tuple[str, ...]) -> None:
    install(site, "acme", GREET, "greet = acme:greet")
    command(*tokens)

    assert "acme" not in sys.modules


def test_misspelt_installed_command_is_suggested(command: Command, site: Site) -> None:
    install(site, "acme", GREET, "greet = acme:greet")

    assert 'Did you mean "greet"?' in command("gret").err


@pytest.mark.parametrize("tokens", [("greet", "--help"), ("--help", "greet")])
def test_help_of_installed_command_is_its_own(command: Command, site: Site, tokens: tuple[str, ...]) -> None:
    install(site, "acme", GREET, "greet = acme:greet")
    said = command(*tokens)

    assert "Greet someone." in said.out
    assert "--loud" in said.out


def test_wrong_option_of_installed_command_names_its_help(command: Command, site: Site) -> None:
    install(site, "acme", GREET, "greet = acme:greet")
    said = command("greet", "bob", "--lout")

    assert said.code == 2
    assert said.err.endswith("See brrr greet --help.\n")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        pytest.param("import missing_of_acme", "ModuleNotFoundError: No module named 'missing_of_acme'", id="import"),
        pytest.param("raise SystemExit(7)", "SystemExit: 7", id="system-exit"),
        pytest.param("import sys; sys.exit('leave')", "SystemExit: leave", id="sys-exit"),
        pytest.param("1 / 0", "ZeroDivisionError", id="exception"),
        pytest.param("def (", "SyntaxError", id="syntax"),
        pytest.param("", "AttributeError", id="missing-name"),
        pytest.param("greet = 3", "is a int, not a function", id="no-function"),
        pytest.param("def greet(name: 'Nothing'): ...", "has parameters that cannot be options", id="annotation"),
    ],
)
def test_broken_command_fails_alone(command: Command, site: Site, source: str, cause: str) -> None:
    install(site, "acme", source, "greet = acme:greet")
    site.module("other", "def other() -> None:\n    print('works')\n")
    site.metadata("other", "[brrr.commands]\nother = other:other\n")

    for tokens in (("greet", "--json"), ("greet", "--help", "--json")):
        said = command(*tokens)
        error = error_of(said)
        assert (said.code, error["code"]) == (1, "BRRR-PLUGIN-03")
        assert "acme 1.0" in error["what"]
        assert cause in error["what"]
        assert error["remedy"]
    assert command("--help").code == 0
    assert command("other").out == "works\n"
    assert command("backends").code == 0


@pytest.mark.parametrize("name", sorted({each.name.split()[0] for each in BUILT_IN}))
def test_built_in_command_keeps_its_name(command: Command, site: Site, name: str) -> None:
    install(site, "acme", GREET, f"{name} = acme:greet")
    said = command("--help")

    assert f"The command '{name}' of acme 1.0 is not used: brrr has its own." in re.sub(r"\s+", " ", said.out)
    assert "Greet someone." not in command(name, "--help").out
    assert "acme" not in sys.modules


@pytest.mark.parametrize("name", ["--help", "-h", "--version", "Greet", "two words", "9", "grüße"])
def test_name_that_cannot_be_a_command_is_not_used(command: Command, site: Site, name: str) -> None:
    install(site, "acme", GREET, f"{name} = acme:greet")
    said = command("--help")

    assert said.code == 0
    assert f"The command '{name}' of acme 1.0 is not used" in re.sub(r"\s+", " ", said.out)


def test_name_claimed_by_two_distributions_is_refused(command: Command, site: Site) -> None:
    install(site, "acme", GREET, "greet = acme:greet")
    site.module("rival", GREET)
    site.metadata("rival", "[brrr.commands]\ngreet = rival:greet\n")

    said = command("greet", "bob", "--json")
    assert (said.code, error_of(said)["code"]) == (1, "BRRR-PLUGIN-05")
    assert "acme 1.0 (acme:greet) and rival 1.0 (rival:greet)" in error_of(said)["what"]
    assert "Claimed by acme 1.0" in re.sub(r"[\s│]+", " ", command("--help").out)
    assert not {"acme", "rival"} & set(sys.modules)


def test_known_command_that_is_not_installed_says_how_to_install_it(
    command: Command, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN_COMMANDS, "greet", "acme")

    said = command("greet", "bob", "--json")
    assert (said.code, error_of(said)["code"]) == (2, "BRRR-PLUGIN-02")
    assert error_of(said)["remedy"] == "Install it: pip install acme."
    assert "greet" not in command("--help").out


def test_known_commands_are_those_that_the_distributions_of_this_project_claim() -> None:
    claims = REGISTRY.metadata().claims["brrr.commands"]

    assert {claim.name: claim.origin.distribution for claim in claims} == KNOWN_COMMANDS


def test_secrets_are_masked_in_errors_of_installed_commands(command: Command, site: Site) -> None:
    install(site, "acme", "def fail(url: str) -> None:\n    raise ValueError(url)\n", "fail = acme:fail")
    said = command("fail", "redis://user:hunter2@localhost")

    assert said.code == 1
    assert "hunter2" not in said.err
