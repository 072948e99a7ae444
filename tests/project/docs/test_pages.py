"""The documentation agrees with the code."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.hooks import Specifications

from .pages import PAGES, ROOT, blocks, name_of

README = (ROOT / "README.md").read_text()
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    lines = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_have_targets(page: Path) -> None:
    broken: list[str] = []
    for link in LINK.findall(page.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.is_file() and anchor not in headings(file.read_text())):
            broken.append(link)

    assert broken == []


def test_index_links_every_page() -> None:
    docs = ROOT / "docs"
    maps = (docs / "index.md", docs / "contract/README.md")  # the second maps the pages of rules
    mapped = {
        (page.parent / link.partition("#")[0]).resolve() for page in maps for link in LINK.findall(page.read_text())
    }

    assert docs / "decisions" in mapped  # as a folder; its pages are numbered
    pages = {page for page in PAGES if page.is_relative_to(docs) and page.parent.name != "decisions"}
    missing = pages - mapped - {docs / "index.md"}
    assert [name_of(page) for page in sorted(missing)] == []


def test_each_guarantee_names_a_test_that_exists_or_says_that_it_has_none() -> None:
    page = ROOT / "docs/explanation/guarantees.md"
    text = page.read_text()
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not re.match(r"\| (---|.*\| evidence \|$)", line)
    ]
    wrong = [row for row in rows if not (LINK.search(row) or "no test" in row or "as above" in row)]
    for name, path in re.findall(r"\[(test_\w+)\]\(([^)]+)\)", text):
        if f"def {name}(" not in (page.parent / path).read_text():
            wrong.append(f"{path} has no {name}")

    assert len(rows) > 40
    assert wrong == []


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [page.name[:4] for page in PAGES if page.parent.name == "decisions"]

    assert sorted(set(numbers)) == numbers


def test_readme_contains_seed_program() -> None:
    seed = (ROOT / "tests/system/packaging/seed.py").read_text()
    first = next(block.text for block in blocks(README) if block.language == "python")

    assert first.strip() == seed.replace(f'"""{ast.get_docstring(ast.parse(seed))}"""', "").strip()


def test_first_screen_of_readme_has_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:40])

    assert all(command in first_screen for command in ("make demo", "make test", "pip install brrr-core brrr-sqlite"))


def test_reference_has_exactly_public_names() -> None:
    page = (ROOT / "docs/reference/api.md").read_text()
    named = re.findall(r"^### `(\w+)", page, flags=re.MULTILINE)

    assert sorted(named) == sorted(brrr.__all__)


def test_policy_table_has_settings_and_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", README, flags=re.MULTILINE)
    defaults = {field.name: field.default for field in dataclasses.fields(brrr.Policy)}
    units = {"s": 1, "MiB": 1024 * 1024, "": 1}

    def value(text: str) -> object:
        if text in ("on", "off"):
            return text == "on"
        if text == "none":
            return None
        if text.startswith('"'):
            return text.strip('"')
        number, _, unit = text.replace(",", "").partition(" ")
        return float(number) * units[unit]

    assert {name: value(default) for name, default in rows if name in defaults} == defaults


def test_hooks_page_has_every_hook() -> None:
    page = (ROOT / "docs/how-to/hooks.md").read_text()
    hooks = {name for name in vars(Specifications) if name.startswith("brrr_")}

    assert set(re.findall(r"^\| `(brrr_\w+)`", page, flags=re.MULTILINE)) == hooks


def commands() -> list[str]:
    """Return every `brrr` command that a reader may copy."""
    fenced = [block.text for page in PAGES for block in blocks(page.read_text()) if block.language == "sh"]
    guides = [page.read_text() for page in PAGES if page.parent in (ROOT, ROOT / "docs/how-to")]
    lines = [*"".join(fenced).splitlines(), *(code for text in guides for code in re.findall(r"`(brrr [^`]+)`", text))]
    return sorted({line for line in lines if line.startswith("brrr ")} - {"brrr --help"})


@pytest.mark.parametrize("command", commands())
def test_commands_can_be_parsed(command: str) -> None:
    from brrr_cli.program import make_app, parse

    tokens = shlex.split(command, comments=True)[1:]
    parse(make_app(), tokens)
