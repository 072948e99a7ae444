"""The benchmarks start their servers, and show the log of one that does not start."""

import sys
from pathlib import Path

import pytest

from benchmarks import servers
from brrr_testkit.servers import redis as redis_servers


def test_benchmark_shows_the_log_of_a_server_that_did_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Python has no option --port.
    monkeypatch.setattr(redis_servers, "valkey_program", lambda: Path(sys.executable))

    with (
        pytest.raises(SystemExit, match=r"ended unexpectedly\s+(?i:unknown) option:? --port"),
        servers.valkey(str(tmp_path)),
    ):
        pass


def test_benchmark_starts_a_server(tmp_path: Path) -> None:
    redis_servers.valkey_program()
    with servers.valkey(str(tmp_path)) as url:
        assert url.startswith("redis://127.0.0.1:")
