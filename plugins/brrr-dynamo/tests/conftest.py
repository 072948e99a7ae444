"""Tables and backends for the tests of brrr-dynamo."""

import asyncio
from secrets import token_hex

import pytest

import brrr_core as brrr
from brrr_testkit.faults.aws import proxied
from brrr_testkit.servers import aws as aws_servers
from brrr_testkit.servers.aws import dynamo_url, is_moto

aws_environment = aws_servers.aws_environment
aws_prefix = aws_servers.aws_prefix
aws_run = aws_servers.aws_run
dynamo_endpoint = aws_servers.dynamo_endpoint
moto_endpoint = aws_servers.moto_endpoint


@pytest.fixture(scope="session")
def table(dynamo_endpoint, aws_prefix) -> str:
    """A table for all tests, created by `brrr setup`. Each test uses keys of its own."""
    name = f"{aws_prefix}table"
    asyncio.run(brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup())
    return name


@pytest.fixture(scope="session")
def shared_url(table, dynamo_endpoint) -> str:
    return dynamo_url(table, dynamo_endpoint)


@pytest.fixture
def url(shared_url) -> str:
    return shared_url


@pytest.fixture
async def backend(url):
    async with brrr.open_backend(url) as backend:
        yield backend


@pytest.fixture(scope="session")
def dynamo(dynamo_endpoint):
    """A boto3 client, in place of an SDK in another language."""
    return aws_servers.client("dynamodb", dynamo_endpoint)


@pytest.fixture
def item_of(dynamo, table):
    """Read the item under a primary key, or None."""

    def get(pk: str, sk: str) -> dict | None:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        return dynamo.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    return get


@pytest.fixture
async def proxy(dynamo_endpoint):
    """A proxy between a backend and the emulator, which injects faults."""
    async with proxied(dynamo_endpoint) as proxy:
        yield proxy


@pytest.fixture
def prefix() -> str:
    """Prefix of the keys of one test."""
    return f"{token_hex(6)}-"


@pytest.fixture
def _not_moto(dynamo_endpoint):
    """Skip on moto, which differs from DynamoDB in units, full items and numbers of 39 digits."""
    if dynamo_endpoint is not None and is_moto(dynamo_endpoint):
        pytest.skip("moto differs from DynamoDB here")
