"""Seven modules of the core are public: users and plugins import only these, and each of their names is documented."""

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
    "brrr_core.cli.api",
    "brrr_core.codec",
    "brrr_core.errors",
    "brrr_core.hooks",
    "brrr_core.sync",
)

USERS = ("README.md", "docs/**/*.md", "examples/**/*.py", "benchmarks/**/*.py", "templates/**/*.jinja")
PLUGINS = ("plugins/*/README.md", "plugins/*/src/**/*.py", "plugins/*/tests/**/*.py")
EXCEPTIONS = {
    ("plugins/brrr-sqlite/tests/test_model.py", "brrr_core.backend.memory"): "both backends share a clock of the test",
    ("plugins/brrr-contract-kit/tests/mutants/kit.py", "brrr_core.backend.memory"): "mutants break this backend",
    (
        "plugins/brrr-contract-kit/tests/mutants/kit.py",
        "brrr_core.plugins",
    ): "a test unregisters its mutants",
    ("plugins/brrr-contract-kit/tests/test_runner.py", "brrr_core.backend.memory"): "the test looks for leftovers",
    (
        "plugins/brrr-contract-kit/tests/test_runner.py",
        "brrr_core.backend.memory.space",
    ): "the test looks for leftovers",
    ("plugins/brrr-contract-kit/tests/test_runner.py", "brrr_core.plugins"): "the test installs a distribution",
}

IMPORT = re.compile(r"^\s*(?:from (brrr_core[\w.]*) import (.+)|import (brrr_core[\w.]*))", re.MULTILINE)


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of the core that a file imports; in pages and templates, by the look of their lines."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield from (source or name for source, _, name in IMPORT.findall(text))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "brrr_core")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "brrr_core":
            assert node.module is not None
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]
            yield from modules or [node.module]


def private_imports() -> set[tuple[str, str]]:
    files = [file for pattern in (*USERS, *PLUGINS) for file in ROOT.glob(pattern) if file.is_file()]
    assert len(files) > 200
    return {
        (str(file.relative_to(ROOT)), module) for file in files for module in imported(file) if module not in PUBLIC
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
    ],
)
def test_private_import_is_recognised(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / name).write_text(line)

    assert [module for module in imported(tmp_path / name) if module not in PUBLIC] != []


@pytest.fixture(scope="module")
def core() -> griffe.Module:
    """The core, as griffe reads it without importing it."""
    package = griffe.load("brrr_core", search_paths=[ROOT], resolve_aliases=True, allow_inspection=False)
    assert isinstance(package, griffe.Module)
    return package


@pytest.fixture(params=PUBLIC)
def public(request: pytest.FixtureRequest, core: griffe.Module) -> griffe.Module:
    module: griffe.Module = core if request.param == "brrr_core" else core[request.param.removeprefix("brrr_core.")]
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
