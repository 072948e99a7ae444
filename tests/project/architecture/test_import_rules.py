"""The import rules of pyproject.toml hold, and each of them catches an import that breaks it."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


class Violation(NamedTuple):
    """A forbidden import: the module that gets it, its line, and the beginning of the rule that forbids it."""

    module: str
    line: str
    rule: str


LAYERS = "The core's layers"
VIOLATIONS = [
    Violation("brrr_core/errors.py", "import brrr_core.wire", LAYERS),
    Violation("brrr_core/wire.py", "import brrr_core.backend", LAYERS),
    Violation("brrr_core/backend/contracts.py", "from brrr_core.wire import Call", LAYERS),
    Violation("brrr_core/backend/contracts.py", "import brrr_core.plugins.registry", LAYERS),
    Violation("brrr_core/codec/contracts.py", "import brrr_core.engine", LAYERS),
    Violation("brrr_core/engine/__init__.py", "import brrr_core.plugins", LAYERS),
    Violation("brrr_core/plugins/registry.py", "import brrr_core.engine", LAYERS),
    Violation("brrr_core/unplaced.py", "", LAYERS),
    Violation("brrr_core/app/catalogue.py", "import brrr_core.app.active", "The modules of the application"),
    Violation("brrr_cli/output.py", "import brrr_cli.options", "The modules of the command line"),
    Violation("brrr_cli/unplaced.py", "", "The modules of the command line"),
    Violation("brrr_cli/output.py", "import brrr_core.engine.run", "The command line knows"),
    Violation("brrr_cli/commands/worker.py", "import brrr_cron", "The command line knows"),
    Violation("brrr_core/app/worker.py", "import brrr_cli", "No other distribution imports the command line"),
    Violation("brrr_contract_kit/command.py", "import brrr_cli.output", "No other distribution imports the command"),
    Violation("brrr_testkit/waiting.py", "import brrr_cli.api", "No other distribution imports the command"),
    Violation("brrr_core/plugins/registry.py", "import brrr_core as brrr", "No module of the core imports the public"),
    Violation("brrr_core/codec/contracts.py", "import brrr_core.backend", "A codec knows no backend"),
    Violation("brrr_core/plugins/registry.py", "import brrr_core.backend.memory", "The memory backend"),
    Violation("brrr_core/backend/__init__.py", "import brrr_core.backend.memory", "The memory backend"),
    Violation("brrr_core/engine/__init__.py", "import brrr_core.codec.json", "The engine knows the codec contract"),
    Violation("brrr_core/plugins/registry.py", "import brrr_core.wire", "Discovery knows contracts"),
    Violation("brrr_aws/__init__.py", "import brrr_core", "A backend plugin"),
    Violation("brrr_aws/location.py", "import brrr_core.wire", "A backend plugin"),
    Violation("brrr_dynamo/__init__.py", "import brrr_core", "A backend plugin"),
    Violation("brrr_dynamo/__init__.py", "import brrr_core.wire", "A backend plugin"),
    Violation("brrr_dynamo/__init__.py", "import botocore", "Only brrr-aws"),
    Violation("brrr_nats/client/messages.py", "import brrr_nats.queue", "The rooms of brrr-nats"),
    Violation("brrr_nats/store/records.py", "import brrr_nats.queue", "The rooms of brrr-nats"),
    Violation("brrr_nats/unplaced.py", "", "The rooms of brrr-nats"),
    Violation("brrr_nats/queue/layout.py", "import brrr_nats.queue.queue", "The modules in each room of brrr-nats"),
    Violation("brrr_pydantic/__init__.py", "import brrr_core", "A codec plugin"),
    Violation("brrr_pydantic/__init__.py", "import brrr_core.backend", "A codec plugin"),
    Violation("brrr_pydantic/__init__.py", "import brrr_core.codec.json", "A codec plugin"),
    Violation("brrr_cron/cursor.py", "import brrr_core.engine", "brrr-cron knows"),
    Violation("brrr_board/calls.py", "import brrr_core.engine.status", "brrr-board knows"),
    Violation("brrr_board/guard.py", "import brrr_board.views", "The modules of brrr-board"),
    Violation("brrr_explain/drawing.py", "import brrr_core.engine.deferring", "brrr-explain knows"),
    Violation("brrr_explain/graph.py", "import brrr_explain.replay", "The modules of brrr-explain"),
    Violation("brrr_otel/plugin.py", "import brrr_core.engine.hooks", "brrr-otel knows"),
    Violation("brrr_otel/ids.py", "import brrr_otel.spans", "The modules of brrr-otel"),
    Violation("brrr_simulation/model.py", "import brrr_core.engine.run", "brrr-simulation knows"),
    Violation("brrr_simulation/loop.py", "import brrr_simulation.model", "The modules of brrr-simulation"),
    Violation("brrr_cron/times.py", "import brrr_sqlite", "brrr-cron knows"),
    Violation("brrr_cron/times.py", "import brrr_cron.schedule", "The modules of brrr-cron"),
    Violation("brrr_redis/__init__.py", "import brrr_core", "A backend plugin"),
    Violation("brrr_redis/layout.py", "import brrr_core.wire", "A backend plugin"),
    Violation("brrr_sqlite/__init__.py", "import brrr_core", "A backend plugin"),
    Violation("brrr_sqlite/__init__.py", "import brrr_core.wire", "A backend plugin"),
    Violation("brrr_sqlite/__init__.py", "import brrr_core.engine", "A backend plugin"),
    Violation("brrr_sqlite/__init__.py", "import brrr_core.codec", "A backend plugin"),
    Violation("brrr_sqlite/schema.py", "import brrr_core.backend.memory", "A backend plugin"),
    Violation("brrr_sqlite/schema.py", "import brrr_core.backend.checks", "A backend plugin"),
    Violation("brrr_sqs/__init__.py", "import brrr_core", "A backend plugin"),
    Violation("brrr_sqs/queues.py", "import brrr_core.wire", "A backend plugin"),
    Violation("brrr_sqs/__init__.py", "import aiobotocore", "Only brrr-aws"),
    Violation("brrr_contract_kit/target.py", "import brrr_core.plugins", "The contract kit knows"),
    Violation("brrr_contract_kit/runner.py", "import brrr_core.engine", "The contract kit knows"),
    Violation("brrr_contract_kit/runner.py", "import brrr_sqlite", "The contract kit knows"),
    Violation(
        "brrr_contract_kit/completeness.py", "import brrr_contract_kit.classes", "The modules of the contract kit"
    ),
    Violation(
        "brrr_contract_kit/testbed/context.py", "import brrr_contract_kit.rules", "The modules of the contract kit"
    ),
    Violation(
        "brrr_core/plugins/urls.py", "import brrr_contract_kit", "No other distribution imports the contract kit"
    ),
    Violation("brrr_sqlite/errors.py", "import brrr_contract_kit", "No other distribution imports"),
    Violation("brrr_testkit/waiting.py", "import brrr_core.wire", "The test kit knows"),
    Violation("brrr_testkit/workloads/fleet.py", "import brrr_redis", "The test kit knows"),
    Violation("brrr_testkit/waiting.py", "import brrr_testkit.processes", "The modules of the test kit"),
    Violation("brrr_core/engine/__init__.py", "import bencode2", "Only the wire"),
    Violation("brrr_core/engine/__init__.py", "import msgspec", "Only codecs"),
    Violation("brrr_core/engine/__init__.py", "import pluggy", "Only hooks"),
    Violation("brrr_core/engine/__init__.py", "import rich.console", "Only the command line"),
    Violation("brrr_core/plugins/registry.py", "from cyclopts import App", "Only the command line"),
    Violation("brrr_core/backend/contracts.py", "import sqlite3", "The core knows no other"),
    Violation("brrr_core/backend/contracts.py", "import hiredis", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_aws", "The core knows no other"),
    Violation("brrr_core/engine/schedules.py", "import brrr_cron", "The core knows no other"),
    Violation("brrr_core/engine/schedules.py", "import cronsim", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_dynamo", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_redis", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_sqlite", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_sqs", "The core knows no other"),
    Violation("brrr_core/plugins/registry.py", "import brrr_testkit", "The core knows no other"),
    Violation("brrr_core/codec/json.py", "import pydantic", "The core knows no other"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the linted files, which a test may change."""
    for package in (ROOT / "brrr_core", *ROOT.glob("plugins/*/src/*")):
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_rules(folder: Path) -> dict[str, str]:
    """Return the names of the contracts that lint-imports reports as broken, each with its report."""
    ran = subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=folder,
        env={"COLUMNS": "500", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = re.findall(r"^(.+) BROKEN\b", ran.stdout, re.MULTILINE)
    assert f"{len(broken)} broken" in ran.stdout, ran.stdout + ran.stderr
    assert (ran.returncode != 0) == bool(broken)
    _, *parts = re.split(r"^(.+)\n-+\n", ran.stdout, flags=re.MULTILINE)
    said = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: said[name] for name in broken}


def test_code_keeps_every_rule(copy: Path) -> None:
    assert broken_rules(copy) == {}


def rounds() -> Iterator[Any]:
    """Yield lists of violations with at most one of each rule. A quick run tries the first list."""
    left, marks = list(VIOLATIONS), list[pytest.MarkDecorator]()
    while left:
        first = {each.rule: each for each in reversed(left)}
        yield pytest.param([*first.values()], id=f"{len(first)} imports", marks=marks)
        left, marks = [each for each in left if each not in first.values()], [pytest.mark.exhaustive]


@pytest.mark.parametrize("violations", list(rounds()))
def test_forbidden_import_breaks_its_rule(copy: Path, violations: list[Violation]) -> None:
    for each in violations:
        with (copy / each.module).open("a") as module:
            module.write(f"\n{each.line}\n")

    broken = broken_rules(copy)

    unseen = [
        each
        for each in violations
        if not any(rule.startswith(each.rule) and names(said, each) for rule, said in broken.items())
    ]
    assert unseen == [], broken


def names(said: str, violation: Violation) -> bool:
    """Whether lint-imports names the module and its import."""
    importer = violation.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = re.match(r"(?:from|import) (brrr\S+|[^.\s]+)", violation.line)  # of others it knows the package
    if found is None:
        return bool(re.search(rf"\b{importer}\b", said))
    if "No cycles" in said:
        return f" .{importer.rpartition('.')[2]} -> .{found[1].rpartition('.')[2]} " in said
    return bool(re.search(rf"\b{importer}\b.* -> {found[1]}\b", said))


def test_every_rule_is_proved_by_a_violation() -> None:
    unproved = [
        contract["name"]
        for contract in CONTRACTS
        if not any(contract["name"].startswith(violation.rule) for violation in VIOLATIONS)
    ]

    assert unproved == []


REPOSITORY = {"tests", "benchmarks", "examples", "tools"}
"""Packages that only this repository has, so that the tests of a plugin must not need them."""


def foreign_imports(source: str) -> set[str]:
    """Return the modules of this repository that a test imports."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {
        *(node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module),
        *(alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names),
    }
    return {module for module in found if module.partition(".")[0] in REPOSITORY}


def test_tests_of_plugins_need_only_distributions() -> None:
    files = [*ROOT.glob("plugins/*/tests/**/*.py")]
    found = {path.name: foreign_imports(path.read_text()) for path in files}

    assert len(files) > 60
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize("line", ["import tests.support", "def f():\n    from benchmarks.servers import nats"])
def test_import_of_this_repository_is_recognised(line: str) -> None:
    assert foreign_imports(line)
