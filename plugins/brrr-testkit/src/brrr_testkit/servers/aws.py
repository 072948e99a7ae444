"""Emulated AWS for tests: DynamoDB Local, and moto for SQS (and for DynamoDB if DynamoDB Local is not available).

One server of each kind serves a whole run with all xdist workers; tests use their own names. These variables
replace the servers:

- `BRRR_TEST_DYNAMO_ENDPOINT`, `BRRR_TEST_SQS_ENDPOINT`: endpoints of running emulators.
- `BRRR_TEST_AWS=1`: an AWS account, with the credentials and region of the environment. Tables and queues get their
  own prefix and are always deleted after the run. CONTRIBUTING.md lists the costs.

With emulators, the environment holds dummy credentials while tests run, and the user's AWS files are not read.
"""

import http.client
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import pytest

from brrr_testkit.processes import MissingExtraError, missing
from brrr_testkit.servers import dynamodb_local
from brrr_testkit.servers.emulators import DynamoLocal, Moto, shared
from brrr_testkit.waiting import wait_until

__all__ = [
    "DUMMY",
    "GIVEN_DYNAMO",
    "GIVEN_SQS",
    "REAL",
    "aws_environment",
    "aws_prefix",
    "aws_run",
    "client",
    "dummy_credentials",
    "dynamo_endpoint",
    "dynamo_url",
    "has_dynamo_local",
    "is_moto",
    "moto_endpoint",
    "own_session",
    "sqs_endpoint",
    "sqs_url",
]

GIVEN_DYNAMO: Final = "BRRR_TEST_DYNAMO_ENDPOINT"
GIVEN_SQS: Final = "BRRR_TEST_SQS_ENDPOINT"
REAL: Final = os.environ.get("BRRR_TEST_AWS") == "1"
"""Whether the tests run on an AWS account."""

DUMMY: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDTEST",
    "AWS_SECRET_ACCESS_KEY": "test-secret-access-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
UNSET: Final = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"),
)
"""Variables that must not be set while emulators are used."""

DELETE_TIMEOUT: Final = 300.0
"""Seconds to retry until a table can be deleted."""


def dynamo_url(table: str, endpoint: str | None, **options: str) -> str:
    """Return the URL of a table behind an http endpoint, or on AWS."""
    return _url("dynamo", table, endpoint, options)


def sqs_url(prefix: str, endpoint: str | None, **options: str) -> str:
    """Return the URL of a queue behind an http endpoint, or on AWS."""
    return _url("sqs", prefix, endpoint, options)


def _url(scheme: str, name: str, endpoint: str | None, options: dict[str, str]) -> str:
    query = "&".join(f"{option}={value}" for option, value in options.items())
    place = name if endpoint is None else f"{endpoint.removeprefix('http://')}/{name}"
    return f"{scheme}://{place}" + (f"?{query}" if query else "")


def client(service: str, endpoint: str | None) -> Any:
    """Return a boto3 client, for a test that bypasses the plugins."""
    try:
        import boto3  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("boto3", extra="aws") from error
    region = os.environ.get("AWS_REGION") if REAL else DUMMY["AWS_REGION"]  # boto3 does not read AWS_REGION
    library: Any = boto3  # it has no types
    return library.client(service, endpoint_url=endpoint, region_name=region or None)


def own_session(session: Any, endpoint: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give an aiobotocore session credentials and a region, remove both from the environment, and return the session.

    On an account, skip the test: only an emulator accepts any credentials.
    """
    if endpoint is None:
        pytest.skip("needs an emulator, which accepts any credentials")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    session.set_credentials("AKIDTEST", "test-secret-access-key")
    session.set_config_variable("region", "us-east-1")
    return session


@contextmanager
def dummy_credentials() -> Generator[None, None, None]:
    """Set dummy credentials for this process and its children, instead of the user's AWS files and variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DUMMY.items():
            patch.setenv(name, value)
        for name in UNSET:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Set dummy credentials for emulators; keep the user's own for an account."""
    with nullcontext() if REAL else dummy_credentials():
        yield


@pytest.fixture(scope="session")
def aws_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of this test run, shared by all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "aws"


@pytest.fixture(scope="session")
def moto_endpoint(aws_environment: None, aws_run: Path) -> Iterator[str]:
    """Endpoint of moto's server."""
    with shared(Moto, aws_run) as endpoint:
        yield endpoint


def has_dynamo_local() -> bool:
    """Whether DynamoDB Local is available. If not, fail on CI, and print elsewhere that moto replaces it."""
    try:
        dynamodb_local.command(0)
    except dynamodb_local.UnavailableError as error:
        if os.environ.get("CI") == "true":
            missing(f"no DynamoDB Local: {error}")
        print(f"DynamoDB Local is not available ({error}): moto replaces it", file=sys.__stderr__)
        return False
    return True


def is_moto(endpoint: str) -> bool:
    """Whether the server at an http endpoint is moto, which differs from DynamoDB in units and in large items."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.fixture(scope="session")
def dynamo_endpoint(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Endpoint of DynamoDB: the environment's, DynamoDB Local's or moto's; None for an account."""
    request.getfixturevalue("aws_environment")
    given = os.environ.get(GIVEN_DYNAMO)
    if REAL or given:
        yield given
        return
    if not has_dynamo_local():
        yield request.getfixturevalue("moto_endpoint")
        return
    with shared(DynamoLocal, request.getfixturevalue("aws_run")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sqs_endpoint(request: pytest.FixtureRequest) -> str | None:
    """Endpoint of SQS: the environment's or moto's; None for an account."""
    request.getfixturevalue("aws_environment")
    given = os.environ.get(GIVEN_SQS)
    return given if REAL or given else request.getfixturevalue("moto_endpoint")


@pytest.fixture(scope="session")
def aws_prefix() -> Iterator[str]:
    """Prefix for the tables and queues of this process. On an account, they are deleted after the run."""
    prefix = f"brrr-test-{token_hex(4)}-"
    yield prefix
    if REAL:
        _delete(prefix)


def _delete(prefix: str) -> None:
    """Delete the run's tables and queues, and fail with a list of those that cannot be deleted."""
    left: list[str] = []
    for deleting in (_delete_tables, _delete_queues):
        try:
            deleting(prefix, left)
        except Exception as error:  # noqa: BLE001 - still delete those of the other service
            left.append(f"{deleting.__name__}: {error}")
    if left:
        pytest.fail(f"not all of {prefix}* was deleted, which costs money: {left}")


def _delete_tables(prefix: str, left: list[str]) -> None:
    dynamo = client("dynamodb", None)
    for page in dynamo.get_paginator("list_tables").paginate():
        for table in [name for name in page["TableNames"] if name.startswith(prefix)]:
            try:
                # A table cannot be deleted while it is being created or its expiry is being enabled.
                wait_until(partial(_start_deletion, dynamo, table), f"{table} is deleted", bound=DELETE_TIMEOUT)
            except AssertionError as error:
                left.append(str(error))


def _start_deletion(dynamo: Any, table: str) -> bool:
    """Start to delete a table. Return whether it is being deleted or does not exist."""
    try:
        dynamo.delete_table(TableName=table)
    except dynamo.exceptions.ResourceNotFoundException:
        return True
    except (dynamo.exceptions.ResourceInUseException, dynamo.exceptions.LimitExceededException):
        try:
            return bool(dynamo.describe_table(TableName=table)["Table"]["TableStatus"] == "DELETE_TIMEOUT")
        except dynamo.exceptions.ResourceNotFoundException:
            return True
    return True


def _delete_queues(prefix: str, left: list[str]) -> None:
    sqs = client("sqs", None)
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix):
        for url in page.get("QueueUrls", []):
            try:
                sqs.delete_queue(QueueUrl=url)
            except Exception as error:  # noqa: BLE001 - still delete the others
                left.append(f"{url}: {error}")
