"""An environment with credentials that open nothing, and a service that answers as a test says."""

import pytest

from brrr_aws.client import AwsClient
from brrr_aws.place import AwsPlace
from tests.support import aws_servers
from tests.support.aws_proxy import proxied


@pytest.fixture(autouse=True)
def _environment():
    """What answers here is never an account, whatever `BRRR_TEST_AWS` says."""
    with aws_servers.dummies():
        yield


@pytest.fixture
async def service():
    async with proxied("http://127.0.0.1:1") as service:
        yield service


def client_at(endpoint: str | None, **options) -> AwsClient:
    settings = {"connect_timeout": 5.0, "timeout": 5.0, "retry_for": 20.0, **options}
    return AwsClient(
        "dynamodb",
        AwsPlace(settings.pop("region", "eu-west-1"), endpoint, settings.pop("profile", None)),
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
