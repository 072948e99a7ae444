"""One conditional write, and how its outcome is found out if the response is lost.

A conditional write is never repeated. The repetition could be refused because the first one succeeded, or it could
take effect after another client has undone the first one. So each put writes a token into its item. If the response of
a put is lost, the item is read: if it holds the token, the put succeeded. Otherwise the outcome is unknown: the put may
have been followed by another write, or may still take effect. Then `AnswerLostError` is raised, and the caller reads
the record again. A delete leaves no token, so its outcome stays unknown.
"""

import time
from secrets import token_bytes
from typing import Any, Final

from brrr_aws.errors import AnswerLostError, AwsRefusal
from brrr_core.backend import Key
from brrr_core.errors import BackendError
from brrr_dynamo.item_batches import Table
from brrr_dynamo.layout import CONFLICT, MAX_INLINE_BYTES, MAX_ITEM_BYTES, PRESENT, Item, digest_of, record_key

__all__ = ["ConditionalWrite"]

ABSENT: Final = "attribute_not_exists(pk) OR expires_at <= :now"
SAME: Final = "#v = :old"
SAME_PARTS: Final = "attribute_not_exists(#v) AND parts_sha256 = :digest"


class ConditionalWrite:
    """Put or delete of one record, on the condition that its value is the expected one.

    Args:
        table: The table.
        key: Key of the record.
        expected: The expected value, or None for an absent record.
        attributes: Attributes to put beside the key, or None to delete the record.
    """

    def __init__(self, table: Table, key: Key, expected: bytes | None, attributes: Item | None) -> None:
        self._table = table
        self._token = token_bytes(12)
        self._key = record_key(key)
        self._operation = "DeleteItem" if attributes is None else "PutItem"
        names, values, condition = _condition(expected)
        parameters: dict[str, Any] = {
            "TableName": table.name,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
        if names:
            parameters["ExpressionAttributeNames"] = names
        if attributes is None:
            parameters["Key"] = self._key
        else:
            parameters["Item"] = {**self._key, **attributes, "token": {"B": self._token}}
        if expected is not None and len(expected) > MAX_INLINE_BYTES:
            parameters["ReturnValues"] = "ALL_OLD"  # the parts of the old value must be removed
        self._parameters = table.metered(parameters)

    async def run(self) -> tuple[bool, Item | None]:
        """Return whether the write took effect, and the replaced item if it may have been a head.

        Raises:
            AnswerLostError: The outcome is unknown.
            BackendError: The write failed.
        """
        try:
            response = await self._table.client.call(
                self._operation, self._parameters, idempotent=False, expect=(CONFLICT,)
            )
        except AwsRefusal:
            return False, None
        except AnswerLostError:
            if await self._took_effect():
                return True, None
            raise
        return True, response.get("Attributes")

    async def _took_effect(self) -> bool:
        """Whether the item holds our token. False does not mean that the write had no effect."""
        if self._operation != "PutItem":
            return False
        try:
            found = await self._table.get([self._key])
        except BackendError:
            return False
        return any(item.get("token") == {"B": self._token} for item in found.values())


def _condition(expected: bytes | None) -> tuple[dict[str, str], dict[str, Any], str]:
    """Return the names, values and text of the condition that a record is unexpired and has the expected value."""
    now = {":now": {"N": str(int(time.time()))}}
    if expected is None:
        return {}, now, ABSENT
    values: dict[str, Any] = now
    same = f"{SAME} AND {PRESENT}"
    if len(expected) > MAX_INLINE_BYTES:
        # Other SDKs fill an item up to DynamoDB's limit. A value of that size can be inline or in parts.
        either = len(expected) <= MAX_ITEM_BYTES
        same = f"(({SAME_PARTS}) OR {SAME}) AND {PRESENT}" if either else f"{SAME_PARTS} AND {PRESENT}"
        values[":digest"] = {"B": digest_of(expected)}
    if len(expected) <= MAX_ITEM_BYTES:
        values[":old"] = {"B": expected}
    return {"#v": "value"}, values, same
