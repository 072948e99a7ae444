"""The table itself: that it is there, that it has the keys of PROTOCOL.md, and making it."""

import asyncio
from typing import Any, Final

from brrr_aws.client import Answer, AwsClient
from brrr_aws.failures import AwsRefusal
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_dynamo.layout import EXPIRES, PK, SK

__all__ = ["check_table", "make_table"]

MISSING: Final = "ResourceNotFoundException"
INVALID: Final = "ValidationException"
IN_USE: Final = "ResourceInUseException"
EXISTS: Final = (IN_USE, "TableAlreadyExistsException")
KEYS: Final = {"HASH": PK, "RANGE": SK}
POLL: Final = 0.5
MAKING: Final = 300.0
"""Seconds within which DynamoDB makes a table."""


async def check_table(client: AwsClient, name: str) -> None:
    """See that the table can be used.

    Raises:
        BackendUnavailableError: DynamoDB does not answer, or the table is being made or removed.
        BackendError: It is not there, or has other keys.
    """
    answer = await client.call("DescribeTable", {"TableName": name}, repeat=True, patient=False)
    table = answer["Table"]
    _check_keys(table, name)
    status = table["TableStatus"]
    if status not in ("ACTIVE", "UPDATING"):
        raise BackendUnavailableError(
            f"the table {name} at {client.where} is {status}", remedy="Wait until it is ACTIVE, or look why it is not."
        )


def _check_keys(table: Answer, name: str) -> None:
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = {each["KeyType"]: each["AttributeName"] for each in table["KeySchema"]}
    if keys == KEYS and types.get(PK) == types.get(SK) == "S":
        return
    has = ", ".join(f"{kind} {key} ({types.get(key, '?')})" for kind, key in keys.items())
    raise BackendError(
        f"the table {name} has the keys {has}, and brrr needs HASH {PK} (S), RANGE {SK} (S)",
        remedy="Name another table; `brrr setup` makes one that is right.",
    )


async def make_table(client: AwsClient, name: str) -> list[str]:
    """Make the table unless it is there, and have it remove what has expired. Says what it did, and what is there.

    Raises:
        BackendError: There is one with other keys, or DynamoDB does not make it.
    """
    told: list[str] = []
    table = await _described(client, name)
    if table is None:
        await _create(client, name)
        told.append(f"made the table {name} at {client.where}, paid per request")
    else:
        _check_keys(table, name)
        told.append(f"the table {name} at {client.where} is there, with the right keys")
    await _wait(client, name)
    told.append(await _expire(client, name))
    return told


async def _described(client: AwsClient, name: str) -> Answer | None:
    try:
        answer = await client.call("DescribeTable", {"TableName": name}, repeat=True, patient=False, told=(MISSING,))
    except AwsRefusal:
        return None
    table: Answer = answer["Table"]
    return table


async def _create(client: AwsClient, name: str) -> None:
    parameters: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": key, "KeyType": kind} for kind, key in KEYS.items()],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in KEYS.values()],
    }
    try:
        await client.call("CreateTable", parameters, repeat=True, told=EXISTS)
    except AwsRefusal:
        return  # another does it, or ours did and its answer was lost


async def _wait(client: AwsClient, name: str) -> None:
    deadline = asyncio.get_running_loop().time() + MAKING
    while True:
        table = await _described(client, name)
        if table is not None and table["TableStatus"] in ("ACTIVE", "UPDATING"):
            _check_keys(table, name)
            return
        if asyncio.get_running_loop().time() > deadline:
            status = "not there" if table is None else table["TableStatus"]
            raise BackendUnavailableError(
                f"the table {name} is {status} after {MAKING:g} s", remedy="See the console of DynamoDB."
            )
        await asyncio.sleep(POLL)


async def _expire(client: AwsClient, name: str) -> str:
    """Have DynamoDB remove items by the attribute `expires_at`."""
    if await _expires(client, name):
        return f"items are removed when they expire, by {EXPIRES}"
    parameters = {"TableName": name, "TimeToLiveSpecification": {"Enabled": True, "AttributeName": EXPIRES}}
    try:
        await client.call("UpdateTimeToLive", parameters, repeat=True, told=(INVALID, IN_USE))
    except AwsRefusal as refusal:
        # It is refused where it is so already, or is becoming so: by another setup, or by ours, whose answer was lost.
        if not await _expires(client, name):
            raise BackendError(
                f"the table {name} cannot be told to remove items by {EXPIRES}",
                remedy="Wait an hour, and run `brrr setup` again: DynamoDB takes one such change an hour.",
            ) from refusal
    return f"from now on items are removed when they expire, by {EXPIRES}"


async def _expires(client: AwsClient, name: str) -> bool:
    """Whether DynamoDB removes items by `expires_at`. Raises `BackendError` where it does by something else."""
    answer = await client.call("DescribeTimeToLive", {"TableName": name}, repeat=True)
    now: dict[str, str] = answer["TimeToLiveDescription"]
    if now.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        return False
    attribute = now.get("AttributeName")
    if attribute != EXPIRES:
        raise BackendError(
            f"the table {name} removes items by {attribute}, and brrr needs {EXPIRES}",
            remedy=f"Disable that, wait an hour, and run `brrr setup` again; or name another table than {name}.",
        )
    return True
