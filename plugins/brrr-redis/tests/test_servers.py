"""Where a server for tests is missing, the test is skipped with the reason; on CI it fails."""

import pytest

from tests.support import redis_servers


def test_a_missing_server_is_a_skip_here_and_a_failure_on_ci(monkeypatch):
    monkeypatch.setattr(redis_servers.shutil, "which", lambda name: None)
    monkeypatch.setattr(redis_servers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither on PATH nor in an installed package"):
        redis_servers.valkey_program()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="on CI every server must be there"):
        redis_servers.valkey_program()
