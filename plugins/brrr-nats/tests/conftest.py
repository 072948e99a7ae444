"""Servers for the tests of brrr-nats, and backends on them: each test has streams of its own."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import brrr_core as brrr
from tests.support.certificates import Certificates, certificates
from tests.support.nats_servers import GIVEN, Cluster, Server

_names = count()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nats")


@pytest.fixture(scope="session")
def shared_server(folder: Path) -> Iterator[Server]:
    """One server for all tests that do it no harm."""
    server = Server(folder / "alone").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    """One that is quick, as it does not wait for the disk: for stores and counters by themselves."""
    server = Server(folder / "quick", sync=False).start()
    yield server
    server.stop()


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own, on `server`."""
    return str(abs(hash(request.node.nodeid)))


@pytest.fixture(scope="session")
def shared_cluster(folder: Path) -> Iterator[Cluster]:
    """Three servers for all tests that do them no harm."""
    cluster = Cluster(folder / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may break."""
    server = Server(tmp_path / "own").start()
    yield server
    server.kill()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three servers that the test may break."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def names() -> str:
    """What the names of this test's streams begin with, as options of a URL."""
    return f"test{next(_names)}"


@pytest.fixture
def url(shared_server: Server, names: str) -> Iterator[str]:
    """The URL of a server, with streams that nobody else uses; they are deleted afterwards."""
    yield f"{shared_server.url}?stream={names}-q&bucket={names}-s"
    shared_server.forget(f"{names}-")


@pytest.fixture
async def backend(url: str):
    """An open backend on streams of its own."""
    async with brrr.open_backend(url) as backend:
        yield backend


@pytest.fixture(scope="session")
def any_url(request: pytest.FixtureRequest) -> str:
    """The server that `BRRR_TEST_NATS_URL` names, or one that is started here."""
    given = os.environ.get(GIVEN)
    return given or request.getfixturevalue("shared_server").url


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and certificates of it."""
    return certificates(tmp_path_factory.mktemp("tls"))
