"""Queues and backends for the tests of brrr-sqs."""

from secrets import token_hex

import pytest

import brrr_core as brrr
from brrr_testkit.faults.aws import proxied
from brrr_testkit.servers import aws as aws_servers
from brrr_testkit.servers.aws import sqs_url

aws_environment = aws_servers.aws_environment
aws_prefix = aws_servers.aws_prefix
aws_run = aws_servers.aws_run
dynamo_endpoint = aws_servers.dynamo_endpoint
moto_endpoint = aws_servers.moto_endpoint
sqs_endpoint = aws_servers.sqs_endpoint


@pytest.fixture(scope="session")
def shared_url(aws_prefix, sqs_endpoint) -> str:
    """One prefix for all tests of a process. Each test uses topics of its own."""
    return sqs_url(aws_prefix, sqs_endpoint)


@pytest.fixture
def url(shared_url) -> str:
    return shared_url


@pytest.fixture
async def backend(url):
    async with brrr.open_backend(url) as backend:
        yield backend


@pytest.fixture
async def queue(backend):
    return backend.queue


@pytest.fixture
def topic() -> str:
    """A topic for one test."""
    return f"topic-{token_hex(6)}"


@pytest.fixture(scope="session")
def sqs(sqs_endpoint):
    """A boto3 client, as an operator would use."""
    return aws_servers.client("sqs", sqs_endpoint)


@pytest.fixture
async def proxy(sqs_endpoint):
    """A proxy between a backend and the emulator, which injects faults."""
    async with proxied(sqs_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(proxy, aws_prefix):
    """Build the URL of the same queues through the proxy."""

    def make(**options):
        return sqs_url(aws_prefix, proxy.endpoint, **options)

    return make


@pytest.fixture
def lease() -> str:
    """Lease of the queue behind the proxy. It outlasts a test; tests that wait for its end override it."""
    return "60s"


@pytest.fixture
async def faulty(proxied_url, lease):
    """A queue behind the proxy."""
    async with brrr.open_backend(proxied_url(lease=lease, timeout="1s", retry_for="20s")) as backend:
        yield backend.queue


@pytest.fixture
def drained():
    """Receive and acknowledge messages until none comes for `wait` seconds, and return their bodies."""

    async def drain(queue, topic, *, wait=0.0):
        found = []
        while got := await queue.receive(topic, limit=100, wait=wait):
            found += [each.body for each in got]
            await queue.ack(got)
        return sorted(found)

    return drain
