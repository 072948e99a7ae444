"""`import brrr_core` stays light: it loads no library but its own, and looks at no installed distribution."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import brrr_core
from brrr_core import backend
from brrr_testkit.processes import unmeasured

HEAVY = {
    *("msgspec", "pluggy", "importlib.metadata", "brrr_cli", "cyclopts", "rich"),
    *("brrr_sqlite", "sqlite3", "brrr_redis", "redis", "hiredis", "nats", "boto3"),
    *("brrr_aws", "brrr_dynamo", "brrr_sqs", "brrr_pydantic", "pydantic", "brrr_cron", "cronsim"),
    *("brrr_otel", "opentelemetry"),
    *("aiobotocore", "botocore", "aiohttp"),
}

MOST_MODULES = 109  # of all public names, beside those of asyncio, which a program that uses brrr loads anyway

PROGRAM = """
import asyncio, json, sys
before = set(sys.modules)
opened = []
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        opened.append(str(arguments[0]))
sys.addaudithook(watch)
import brrr_core
lazy = sorted(set(sys.modules) - before)
for name in brrr_core.__all__:
    if name != "LocalBrrr":  # for tests only; it brings the memory backend
        getattr(brrr_core, name)
print(json.dumps({"lazy": lazy, "modules": sorted(set(sys.modules) - before), "opened": opened}))
"""


def after_import(folder: Path) -> dict[str, list[str]]:
    """Return the modules and files that a fresh interpreter loads for the import, and then for all public names."""
    command = [sys.executable, "-I", "-c", PROGRAM]
    ran = subprocess.run(command, cwd=folder, env=unmeasured(), capture_output=True, text=True, check=True)
    result: dict[str, list[str]] = json.loads(ran.stdout)
    return result


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return after_import(tmp_path_factory.mktemp("elsewhere"))


def test_import_alone_loads_no_module_of_the_core(imported: dict[str, list[str]]) -> None:
    assert [name for name in imported["lazy"] if name.startswith("brrr_core")] == ["brrr_core"]


def test_every_public_name_is_there_and_listed() -> None:
    assert set(dir(brrr_core)) >= set(brrr_core.__all__)
    assert set(brrr_core._HOME_OF) == set(brrr_core.__all__)
    for name in brrr_core.__all__:
        assert getattr(brrr_core, name).__module__.startswith(brrr_core._HOME_OF[name])
    with pytest.raises(AttributeError, match="nothing"):
        brrr_core.nothing  # noqa: B018


def test_helpers_of_backends_are_there_and_load_only_when_they_are_used(imported: dict[str, list[str]]) -> None:
    for home in backend._HELPERS:
        assert f"brrr_core.backend.{home}" not in imported["modules"]
    assert all(hasattr(backend, name) for name in backend.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        backend.nothing  # noqa: B018


def test_it_loads_no_heavy_library(imported: dict[str, list[str]]) -> None:
    assert HEAVY & set(imported["modules"]) == set()


def test_it_loads_few_modules(imported: dict[str, list[str]]) -> None:
    assert len(imported["modules"]) <= MOST_MODULES


def test_it_reads_no_metadata(imported: dict[str, list[str]]) -> None:
    assert [path for path in imported["opened"] if ".dist-info" in path] == []


def test_start_of_command_line_loads_neither_it_nor_rest_of_core(tmp_path: Path) -> None:
    program = "import sys, brrr_core.__main__; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, env=unmeasured(), capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())

    assert HEAVY & loaded == set()
    assert {name for name in loaded if name.startswith("brrr_core")} == {"brrr_core", "brrr_core.__main__"}
