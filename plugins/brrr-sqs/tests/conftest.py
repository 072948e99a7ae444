"""Queues for the tests of brrr-sqs, and backends on them."""

from secrets import token_hex

import pytest

import brrr_core as brrr
from tests.support import aws_servers
from tests.support.aws_servers import sqs_url

aws_environment = aws_servers.aws_environment
aws_prefix = aws_servers.aws_prefix
aws_run = aws_servers.aws_run
moto_endpoint = aws_servers.moto_endpoint
sqs_endpoint = aws_servers.sqs_endpoint


@pytest.fixture(scope="session")
def shared_url(aws_prefix, sqs_endpoint) -> str:
    """One prefix for all tests of a process: they keep apart by their topics."""
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
    """A topic that nobody else uses."""
    return f"topic-{token_hex(6)}"


@pytest.fixture(scope="session")
def sqs(sqs_endpoint):
    """A client of another library, as an operator would use."""
    return aws_servers.client("sqs", sqs_endpoint)
