"""Setup of the table: checks that it exists with the protocol's keys, or creates it."""

import asyncio
from typing import Any, Final

from brrr_aws.client import AwsClient, Response
from brrr_aws.errors import AwsRefusal
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_dynamo.layout import EXPIRES, PK, SK

__all__ = ["check_table", "create_table"]

NOT_FOUND: Final = "ResourceNotFoundException"
INVALID: Final = "ValidationException"
IN_USE: Final = "ResourceInUseException"
EXISTS: Final = (IN_USE, "TableAlreadyExistsException")
KEYS: Final = {"HASH": PK, "RANGE": SK}

STATUS_INTERVAL: Final = 0.5
"""Seconds between two checks whether the table is ready."""

CREATION_TIMEOUT: Final = 300.0
"""Seconds within which DynamoDB creates a table."""


async def check_table(client: AwsClient, name: str) -> None:
    """Check that the table can be used.

    Raises:
        BackendUnavailableError: DynamoDB does not respond, or the table is being created or deleted.
        BackendError: The table does not exist, or has other keys.
    """
    response = await client.call("DescribeTable", {"TableName": name}, idempotent=True, retry_outage=False)
    table = response["Table"]
    _check_keys(table, name)
    status = table["TableStatus"]
    if status not in ("ACTIVE", "UPDATING"):
        raise BackendUnavailableError(
            f"the table {name} at {client.address} is {status}",
            remedy="Wait until it is ACTIVE, or look in the DynamoDB console why it is not.",
        )


def _check_keys(table: Response, name: str) -> None:
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = {each["KeyType"]: each["AttributeName"] for each in table["KeySchema"]}
    if keys == KEYS and types.get(PK) == types.get(SK) == "S":
        return
    actual = ", ".join(f"{kind} {key} ({types.get(key, '?')})" for kind, key in keys.items())
    raise BackendError(
        f"the table {name} has the keys {actual}, but brrr needs HASH {PK} (S), RANGE {SK} (S)",
        remedy="Name another table; `brrr setup` creates one with the right keys.",
    )


async def create_table(client: AwsClient, name: str) -> list[str]:
    """Create the table if it is missing, and enable its expiry. Return a report of what was done.

    Raises:
        BackendError: The table has other keys, or DynamoDB does not create it.
    """
    report: list[str] = []
    table = await _describe(client, name)
    if table is None:
        await _create(client, name)
        report.append(f"created the table {name} at {client.address}, paid per request")
    else:
        _check_keys(table, name)
        report.append(f"the table {name} at {client.address} exists, with the right keys")
    await _wait_until_ready(client, name)
    report.append(await _enable_expiry(client, name))
    return report


async def _describe(client: AwsClient, name: str) -> Response | None:
    try:
        response = await client.call(
            "DescribeTable", {"TableName": name}, idempotent=True, retry_outage=False, expect=(NOT_FOUND,)
        )
    except AwsRefusal:
        return None
    table: Response = response["Table"]
    return table


async def _create(client: AwsClient, name: str) -> None:
    parameters: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": key, "KeyType": kind} for kind, key in KEYS.items()],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in KEYS.values()],
    }
    try:
        await client.call("CreateTable", parameters, idempotent=True, expect=EXISTS)
    except AwsRefusal:
        return  # another setup creates it, or our response was lost


async def _wait_until_ready(client: AwsClient, name: str) -> None:
    deadline = asyncio.get_running_loop().time() + CREATION_TIMEOUT
    while True:
        table = await _describe(client, name)
        if table is not None and table["TableStatus"] in ("ACTIVE", "UPDATING"):
            _check_keys(table, name)
            return
        if asyncio.get_running_loop().time() > deadline:
            status = "missing" if table is None else table["TableStatus"]
            raise BackendUnavailableError(
                f"the table {name} is {status} after {CREATION_TIMEOUT:g} s",
                remedy="Look in the DynamoDB console why it is not ACTIVE.",
            )
        await asyncio.sleep(STATUS_INTERVAL)


async def _enable_expiry(client: AwsClient, name: str) -> str:
    """Have DynamoDB remove items by their attribute `expires_at`."""
    if await _has_expiry(client, name):
        return f"expired items are removed, by {EXPIRES}"
    parameters = {"TableName": name, "TimeToLiveSpecification": {"Enabled": True, "AttributeName": EXPIRES}}
    try:
        await client.call("UpdateTimeToLive", parameters, idempotent=True, expect=(INVALID, IN_USE))
    except AwsRefusal as refusal:
        # DynamoDB refuses if it is enabled or being enabled already, by another setup or by our lost request.
        if not await _has_expiry(client, name):
            raise BackendError(
                f"the table {name} does not take {EXPIRES} as its time to live",
                remedy="DynamoDB accepts one such change per hour. Wait an hour, and run `brrr setup` again.",
            ) from refusal
    return f"enabled the removal of expired items, by {EXPIRES}"


async def _has_expiry(client: AwsClient, name: str) -> bool:
    """Whether DynamoDB removes items by `expires_at`. Raise `BackendError` if it uses another attribute."""
    response = await client.call("DescribeTimeToLive", {"TableName": name}, idempotent=True)
    description: dict[str, str] = response["TimeToLiveDescription"]
    if description.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        return False
    attribute = description.get("AttributeName")
    if attribute != EXPIRES:
        raise BackendError(
            f"the table {name} expires items by {attribute}, but brrr needs {EXPIRES}",
            remedy=f"Disable that, wait an hour, and run `brrr setup` again; or name another table than {name}.",
        )
    return True
