"""Six modules of the core and `brrr_cli.api` are public: others import only these, and their names are documented."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = (
    "brrr_core",
    "brrr_core.backend",
    "brrr_cli.api",
    "brrr_core.codec",
    "brrr_core.errors",
    "brrr_core.hooks",
    "brrr_core.sync",
)

USERS = ("README.md", "docs/**/*.md", "examples/**/*.py", "benchmarks/**/*.py", "templates/**/*.jinja")
PLUGINS = ("plugins/*/README.md", "plugins/*/src/**/*.py", "plugins/*/tests/**/*.py")
COMMAND_LINE = ROOT / "plugins/brrr-cli"
INSIDERS = (COMMAND_LINE / "src", ROOT / "plugins/brrr-explain/src", ROOT / "plugins/brrr-simulation")
"""Distributions that use private names of the core, as import rules say."""
EXCEPTIONS = {
    ("plugins/brrr-board/src/brrr_board/rendering.py", "brrr_core.safe_text"): "pages show bytes",
    ("plugins/brrr-cli/tests/conftest.py", "brrr_core.backend.memory"): "each test has a space of its own",
    ("plugins/brrr-cli/tests/test_calls.py", "brrr_core.engine.roots"): "the test reads a root id",
    ("plugins/brrr-cli/tests/test_help.py", "brrr_core.plugins.scanning"): "the page has the known commands too",
    ("plugins/brrr-cli/tests/test_installed.py", "brrr_core.plugins"): "the test compares known and installed commands",
    ("plugins/brrr-cli/tests/test_installed.py", "brrr_core.plugins.scanning"): "the test adds a known command",
    ("plugins/brrr-cli/tests/test_operators.py", "brrr_core.backend.memory"): "a queue without a store is made of it",
    ("plugins/brrr-cli/tests/test_operators.py", "brrr_core.plugins"): "the test unregisters that queue",
    ("plugins/brrr-cli/tests/test_operators.py", "brrr_core.plugins.scanning"): "the test adds a known backend",
    ("plugins/brrr-cli/tests/test_secrets.py", "brrr_core.plugins"): "the test unregisters a scheme",
    ("plugins/brrr-testkit/src/brrr_testkit/sites.py", "brrr_core.plugins"): "the registry must see what is installed",
    ("plugins/brrr-sqlite/tests/test_model.py", "brrr_core.backend.memory"): "both backends share a clock of the test",
    (
        "plugins/brrr-contract-kit/src/brrr_contract_kit/target.py",
        "brrr_core.plugins.masking",
    ): "no report shows a secret",
    ("plugins/brrr-contract-kit/src/brrr_contract_kit/completeness.py", "brrr_core.plugins.masking"): "as above",
    ("plugins/brrr-contract-kit/tests/mutants/kit.py", "brrr_core.backend.memory"): "mutants break this backend",
    (
        "plugins/brrr-contract-kit/tests/mutants/kit.py",
        "brrr_core.plugins",
    ): "a test unregisters its mutants",
    ("plugins/brrr-contract-kit/tests/mutants/tcp.py", "brrr_core.backend.memory"): "it is the server of mutants",
    ("plugins/brrr-contract-kit/tests/test_runner.py", "brrr_core.backend.memory"): "the test looks for leftovers",
    (
        "plugins/brrr-contract-kit/tests/test_runner.py",
        "brrr_core.backend.memory.space",
    ): "the test looks for leftovers",
    ("plugins/brrr-contract-kit/tests/test_runner.py", "brrr_core.plugins"): "the test installs a distribution",
}

MODULE = r"(brrr_(?:core|cli)[\w.]*)"
IMPORT = re.compile(rf"^\s*(?:from {MODULE} import (.+)|import {MODULE})", re.MULTILINE)
SOURCES = {"brrr_core": ROOT, "brrr_cli": COMMAND_LINE / "src"}


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of both packages that a file imports; in pages and templates, by the look of their lines."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield from (source or name for source, _, name in IMPORT.findall(text))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in SOURCES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in SOURCES:
            assert node.module is not None
            source = SOURCES[node.module.partition(".")[0]]
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if (source / name.replace(".", "/")).with_suffix(".py").exists()]
            yield from modules or [node.module]


def private_imports() -> set[tuple[str, str]]:
    """Return each private import with its file. Import rules list those of the sources of INSIDERS."""
    files = [file for pattern in (*USERS, *PLUGINS) for file in ROOT.glob(pattern) if file.is_file()]
    files = [file for file in files if not any(file.is_relative_to(folder) for folder in INSIDERS)]
    assert len(files) > 200
    return {
        (str(file.relative_to(ROOT)), module)
        for file in files
        for module in imported(file)
        if module not in PUBLIC and not (module.startswith("brrr_cli.") and file.is_relative_to(COMMAND_LINE))
    }


def test_users_and_plugins_import_public_modules_only() -> None:
    assert private_imports() - set(EXCEPTIONS) == set()


def test_every_exception_is_still_needed() -> None:
    assert set(EXCEPTIONS) - private_imports() == set()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("page.md", "from brrr_core.backend.checks import check_topic"),
        ("store.py.jinja", "import brrr_core.engine"),
        ("test_it.py", "def f():\n    from brrr_core.plugins import open_backend"),
        ("test_it.py", "from brrr_core import wire"),
        ("test_it.py", "from brrr_cli import output"),
        ("page.md", "from brrr_cli.output import write_line"),
    ],
)
def test_private_import_is_recognised(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / name).write_text(line)

    assert [module for module in imported(tmp_path / name) if module not in PUBLIC] != []


@pytest.fixture(scope="module")
def modules() -> griffe.ModulesCollection:
    """The core and brrr-cli, as griffe reads them without importing them."""
    found = griffe.ModulesCollection()
    for package in SOURCES:
        griffe.load(
            package,
            search_paths=list(SOURCES.values()),
            modules_collection=found,
            resolve_aliases=True,
            allow_inspection=False,
        )
    return found


@pytest.fixture(params=PUBLIC)
def public(request: pytest.FixtureRequest, modules: griffe.ModulesCollection) -> griffe.Module:
    module: griffe.Module = modules[request.param]
    return module


def test_all_names_of_a_public_module_exist(public: griffe.Module) -> None:
    module = importlib.import_module(public.path)

    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_public_module_lists_each_name_that_it_offers(public: griffe.Module) -> None:
    """The `__all__` has what the module defines, and what a package takes from its modules."""
    taken = "brrr_core." if public.is_init_module else "(none)"
    offered = {
        name
        for name, member in public.members.items()
        if (
            member.target_path.startswith(taken)
            if isinstance(member, griffe.Alias)
            else member.is_class or member.is_function
        )
        and not name.startswith("_")
    }

    assert offered - set(public.exports or ()) == set()


def undocumented(item: griffe.Object | griffe.Alias) -> Iterator[str]:
    if item.docstring is None:
        yield item.path
    if item.is_class:
        for name, member in item.members.items():
            if not name.startswith("_") and member.is_function and not member.inherited and member.docstring is None:
                yield member.path


def test_every_public_name_is_documented(public: griffe.Module) -> None:
    assert public.exports
    assert [path for name in public.exports for path in undocumented(public[str(name)])] == []
