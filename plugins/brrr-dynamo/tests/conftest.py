"""Tables for the tests of brrr-dynamo, and backends on them."""

import asyncio
import http.client
from secrets import token_hex

import pytest

import brrr_core as brrr
from tests.support import aws_servers
from tests.support.aws_proxy import proxied
from tests.support.aws_servers import dynamo_url

aws_environment = aws_servers.aws_environment
aws_prefix = aws_servers.aws_prefix
aws_run = aws_servers.aws_run
dynamo_endpoint = aws_servers.dynamo_endpoint
moto_endpoint = aws_servers.moto_endpoint


@pytest.fixture(scope="session")
def table(dynamo_endpoint, aws_prefix) -> str:
    """A table that `brrr setup` made, for all tests: they keep apart by their keys."""
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
    """A client of another library, as another SDK would use."""
    return aws_servers.client("dynamodb", dynamo_endpoint)


@pytest.fixture
def item_of(dynamo, table):
    """What stands under a primary key, None for nothing."""

    def get(pk: str, sk: str) -> dict | None:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        return dynamo.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    return get


@pytest.fixture
async def proxy(dynamo_endpoint):
    """What stands between a backend and the emulator, and does harm."""
    async with proxied(dynamo_endpoint) as proxy:
        yield proxy


@pytest.fixture
def prefix() -> str:
    """What the keys of one test begin with."""
    return f"{token_hex(6)}-"


@pytest.fixture
def _not_moto(dynamo_endpoint):
    """Skips what moto does otherwise than DynamoDB: units, items filled to the brim, numbers of 39 digits."""
    if dynamo_endpoint is not None and is_moto(dynamo_endpoint):
        pytest.skip("moto stands in for DynamoDB, and does this otherwise")


def is_moto(endpoint: str) -> bool:
    """Whether moto answers there."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    finally:
        connection.close()
