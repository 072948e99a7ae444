"""Ports are given once, and a missing server skips a test or fails it on CI."""

import importlib.util
import shutil

import pytest

from brrr_testkit.processes import free_port
from brrr_testkit.servers import redis as redis_servers


def test_no_port_is_given_twice() -> None:
    """The servers of a cluster get theirs before the first of them listens."""
    ports = [free_port() for _ in range(300)]

    assert len({*ports}) == len(ports)


def test_missing_server_skips_a_test_and_fails_it_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither on PATH nor in an installed package"):
        redis_servers.valkey_program()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="on CI every program must be installed"):
        redis_servers.valkey_program()
