"""Dummy credentials, and a service that gives the responses that a test plans."""

import pytest

from brrr_aws.client import AwsClient
from brrr_aws.location import AwsLocation
from brrr_testkit.faults.aws import proxied
from brrr_testkit.servers import aws as aws_servers


@pytest.fixture(autouse=True)
def _environment():
    """Use dummy credentials, even with `BRRR_TEST_AWS=1`: these tests never reach an account."""
    with aws_servers.dummy_credentials():
        yield


@pytest.fixture
async def service():
    async with proxied("http://127.0.0.1:1") as service:
        yield service


def client_at(endpoint: str | None, **options) -> AwsClient:
    settings = {"connect_timeout": 5.0, "timeout": 5.0, "retry_for": 20.0, **options}
    return AwsClient(
        "dynamodb",
        AwsLocation(settings.pop("region", "eu-west-1"), endpoint, settings.pop("profile", None)),
        subject="the table jobs",
        missing="Make it with `brrr setup`.",
        **settings,
    )


@pytest.fixture
async def client(service):
    client = client_at(service.endpoint)
    await client.open()
    yield client
    await client.close()
