"""Servers for the tests of brrr-redis, and backends on them."""

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Steps
from brrr_testkit.certificates import Certificates, certificates
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import GIVEN, Cluster, Server, redis_program, valkey_program


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="session")
def valkey_server(folder: Path) -> Iterator[Server]:
    """A Valkey server for the tests."""
    server = Server(valkey_program(), folder / "valkey").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def old_server(folder: Path) -> Iterator[Server]:
    """The oldest Redis that is supported, 6.2."""
    server = Server(redis_program(), folder / "redis").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def whole_cluster(folder: Path) -> Iterator[Cluster]:
    """Three Valkey servers with a third of the slots each."""
    cluster = Cluster(valkey_program(), folder / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a cluster."""
    for item in items:
        if "whole_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture
def valkey(valkey_server: Server) -> Server:
    """The Valkey server, empty."""
    valkey_server.do("FLUSHALL")
    valkey_server.do("CONFIG", "RESETSTAT")
    return valkey_server


@pytest.fixture
def url(valkey: Server) -> str:
    """The URL of an empty server."""
    return valkey.url


@pytest.fixture
async def backend(url: str) -> AsyncIterator[Backend]:
    """An open backend on an empty server."""
    async with brrr.open_backend(url) as backend:
        yield backend


@pytest.fixture
def steps(backend: Backend) -> Steps:
    """The steps of a backend on an empty server."""
    assert backend.steps is not None
    return backend.steps


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[RedisProxy]:
    """A proxy in front of an empty server."""
    async with relayed(RedisProxy(valkey.port)) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and its certificate for 127.0.0.1, which servers and clients use."""
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def tls_port(tls: Certificates, valkey: Server) -> AsyncIterator[int]:
    """The port of a TLS proxy in front of a real server: the test servers are built without TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    context.verify_mode = ssl.CERT_REQUIRED
    async with relayed(RedisProxy(valkey.port), context=context) as proxy:
        yield proxy.port


@pytest.fixture(scope="session")
def any_valkey_url(request: pytest.FixtureRequest) -> str:
    """The URL of the server that `BRRR_TEST_REDIS_URL` names, or of a Valkey server for the tests."""
    given = os.environ.get(GIVEN)
    return given or request.getfixturevalue("valkey_server").url
