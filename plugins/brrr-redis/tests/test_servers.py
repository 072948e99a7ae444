"""Missing test servers: the test is skipped with the reason; on CI it fails."""

import sys
from pathlib import Path

import pytest

from benchmarks import servers
from tests.support import redis_servers


def test_missing_server_skips_a_test_and_fails_it_on_ci(monkeypatch):
    monkeypatch.setattr(redis_servers.shutil, "which", lambda name: None)
    monkeypatch.setattr(redis_servers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither on PATH nor in an installed package"):
        redis_servers.valkey_program()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="on CI every program must be installed"):
        redis_servers.valkey_program()


def test_benchmark_shows_the_log_of_a_server_that_did_not_start(monkeypatch, tmp_path):
    monkeypatch.setattr(redis_servers, "valkey_program", lambda: Path(sys.executable))  # Python has no option --port

    with (
        pytest.raises(SystemExit, match=r"ended unexpectedly\s+unknown option --port"),
        servers.valkey(str(tmp_path)),
    ):
        pass


def test_benchmark_starts_a_server(tmp_path):
    redis_servers.valkey_program()
    with servers.valkey(str(tmp_path)) as url:
        assert url.startswith("redis://127.0.0.1:")
