"""Servers for the tests of brrr-nats, and backends on them. Each test has its own streams."""

import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_testkit.certificates import Certificates, certificates
from brrr_testkit.servers.nats import GIVEN, Cluster, Server

_names = count()

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)  # tests import nats_roles


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nats")


@pytest.fixture(scope="session")
def shared_server(folder: Path) -> Iterator[Server]:
    """One server for all tests that do not disturb it."""
    server = Server(folder / "alone").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    """A fast server that does not wait for the disk, for tests of stores and counters alone."""
    server = Server(folder / "quick", sync=False).start()
    yield server
    server.stop()


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket for one test, on `server`."""
    return str(abs(hash(request.node.nodeid)))


@pytest.fixture(scope="session")
def shared_cluster(folder: Path) -> Iterator[Cluster]:
    """Three servers for all tests that do not disturb them."""
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
    """The prefix of this test's streams."""
    return f"test{next(_names)}"


@pytest.fixture
def url(shared_server: Server, names: str) -> Iterator[str]:
    """The URL of a server, with streams of this test only; they are deleted afterwards."""
    yield f"{shared_server.url}?stream={names}-q&bucket={names}-s"
    shared_server.forget(f"{names}-")


@pytest.fixture
async def backend(url: str):
    """An open backend with its own streams."""
    async with brrr.open_backend(url) as backend:
        yield backend


@pytest.fixture(scope="session")
def any_url(request: pytest.FixtureRequest) -> str:
    """The server that `BRRR_TEST_NATS_URL` names, or one that is started here."""
    given = os.environ.get(GIVEN)
    return given or request.getfixturevalue("shared_server").url


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority, and certificates that it signed."""
    return certificates(tmp_path_factory.mktemp("tls"))
