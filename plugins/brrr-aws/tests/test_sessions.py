"""A session that the program has: brrr uses its credentials, region and handlers, and leaves it as it is."""

from dataclasses import dataclass, replace
from typing import Any

import boto3
import botocore.session
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from brrr_aws.client import AwsClient
from brrr_aws.errors import AnswerLostError
from brrr_aws.location import AwsLocation, parse_location
from brrr_core.backend import parse_url
from brrr_core.errors import OptionError

PARAMETERS = {"TableName": "jobs"}
SECRET = "S3cret-of-the-session"


@dataclass(frozen=True)
class Options:
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    session: object | None = None


@pytest.fixture
def session(monkeypatch) -> Any:
    """A session with credentials and a region. The environment has neither."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    session = AioSession()
    session.set_credentials("AKIDSESSION", SECRET)
    session.set_config_variable("region", "eu-west-2")
    return session


@pytest.fixture
def signatures(session) -> list[str]:
    """The header of each request that holds the key, the region and the service. The session adds it."""
    found: list[str] = []
    session.register("before-send", lambda request, **_: found.append(str(request.headers["Authorization"])))
    return found


async def request(location: AwsLocation) -> None:
    client = AwsClient(
        "dynamodb", location, subject="jobs", missing="", connect_timeout=5.0, timeout=5.0, retry_for=1.0
    )
    await client.open()
    try:
        await client.call("PutItem", PARAMETERS, idempotent=False)
    finally:
        await client.close()


async def test_credentials_region_and_handlers_of_the_session_are_used(service, session, signatures):
    location = AwsLocation(endpoint=service.endpoint, session=session)

    await request(location)
    await request(replace(location, region="eu-west-1"))
    first, second = signatures
    assert "Credential=AKIDSESSION/" in first
    assert "/eu-west-2/dynamodb/" in first
    assert "/eu-west-1/dynamodb/" in second


async def test_environment_names_the_region_of_a_session_without_one(service, session, signatures, monkeypatch):
    session.set_config_variable("region", None)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")

    await request(AwsLocation(endpoint=service.endpoint, session=session))
    assert "/eu-west-3/dynamodb/" in signatures[0]


async def test_session_makes_further_clients_after_the_client_is_closed(service, session, signatures):
    loader = session.get_component("data_loader")
    await request(AwsLocation(endpoint=service.endpoint, session=session))

    async with session.create_client("dynamodb", endpoint_url=service.endpoint) as own:
        await own.list_tables()
    assert len(signatures) == 2
    assert session.get_component("data_loader") is loader


async def test_retries_of_the_session_stay_off(service, session):
    session.set_default_client_config(AioConfig(retries={"mode": "standard", "total_max_attempts": 5}))
    service.refuse("PutItem", "InternalServerError", status=500, times=5)

    with pytest.raises(AnswerLostError):
        await request(AwsLocation(endpoint=service.endpoint, session=session))
    assert service.asked("PutItem") == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (boto3.Session(), "boto3.session.Session"),
        (botocore.session.Session(), "botocore.session.Session"),
        (7, "builtins.int"),
    ],
)
def test_session_of_another_library_is_refused(wrong, named):
    with pytest.raises(OptionError, match=f"the option session is a {named}") as caught:
        parse_location(parse_url("dynamo://jobs").url, Options(session=wrong))
    assert "aioboto3.Session" in caught.value.remedy


def test_profile_beside_a_session_is_refused(session):
    with pytest.raises(OptionError, match="the option session has its own profile") as caught:
        parse_location(parse_url("dynamo://jobs").url, Options(profile="batch", session=session))
    assert caught.value.remedy


def test_session_is_not_shown(session):
    _, location = parse_location(parse_url("dynamo://jobs").url, Options(session=session))

    assert location.session is session
    assert "session" not in repr(location)
