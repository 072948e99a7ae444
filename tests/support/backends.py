"""The backends for tests of workflows: memory, a SQLite file, Redis, NATS, and queues combined with DynamoDB."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend.memory import space
from brrr_testkit.servers import aws as aws_servers

_names = count()

KINDS = ("memory", "sqlite", "redis", "nats")
"""The backends that a workflow runs on."""
ONCE = {"memory", "redis"}
EXPENSIVE = pytest.mark.parametrize(
    "url",
    [pytest.param(kind, marks=() if kind in ONCE else pytest.mark.exhaustive) for kind in KINDS],
    indirect=True,
)
"""For an expensive test: a quick run takes one backend in this process and one with a server."""


@contextmanager
def memory_url() -> Iterator[str]:
    """Yield the URL of a new memory space; afterwards forget it and all spaces that `beside` derived from it."""
    name = f"tests-{next(_names)}."
    yield f"memory:{name}"
    for each in [each for each in space._spaces if each.startswith(name)]:
        space.forget(each)


def beside(url: str) -> str:
    """Return the URL of a second backend of the same kind, which shares nothing with the first."""
    if url.startswith("sqlite"):
        return url.replace("brrr.db", "beside.db")
    if url.startswith("nats"):
        return url.replace("stream=", "stream=beside-").replace("bucket=", "bucket=beside-")
    return f"{url}beside"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a backend for one test. The test may open it several times."""
    if request.param == "memory":
        with memory_url() as address:
            yield address
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        yield f"{server.url}?lease=30s&prefix={next(_names)}."
    elif request.param == "nats":
        server = request.getfixturevalue("nats_server")
        name = f"w{next(_names)}-"
        yield f"{server.url}?lease=30s&stream={name}&bucket={name}"
        for start in (name, f"KV_{name}", f"beside-{name}", f"KV_beside-{name}"):
            server.forget(start)
    else:
        yield f"sqlite:///{tmp_path}/brrr.db?synchronous=off&lease=30s"


@pytest.fixture
def dynamo_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new DynamoDB table, since tests that make equal calls would see each other's values."""
    endpoint, prefix = request.getfixturevalue("dynamo_endpoint"), request.getfixturevalue("aws_prefix")
    address = aws_servers.dynamo_url(f"{prefix}{next(_names)}", endpoint)
    asyncio.run(brrr.open_backend(address).setup())
    return address


@pytest.fixture(
    params=[pytest.param("sqlite+dynamo", marks=pytest.mark.exhaustive), "redis+dynamo", "sqs+dynamo"],
)
def places(request: pytest.FixtureRequest, tmp_path: Path, dynamo_url: str) -> list[str]:
    """Return the URLs of a queue for one test, and of a store of another kind."""
    if request.param.startswith("redis"):
        server = request.getfixturevalue("redis_server")
        queue = f"{server.url}?lease=30s&prefix={next(_names)}."
    elif request.param.startswith("sqs"):
        endpoint, prefix = request.getfixturevalue("sqs_endpoint"), request.getfixturevalue("aws_prefix")
        queue = aws_servers.sqs_url(f"{prefix}{next(_names)}", endpoint, lease="30s")
    else:
        queue = f"sqlite:///{tmp_path}/queue.db?synchronous=off&lease=30s"
    return [queue, dynamo_url]


@pytest.fixture
def memory() -> Iterator[str]:
    """Yield the URL of a memory space, for tests that do not depend on the backend."""
    with memory_url() as address:
        yield address
