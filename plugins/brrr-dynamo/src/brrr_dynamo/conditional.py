"""One conditional write, and what becomes of it when its answer is lost.

It is never asked for twice: the second one could be refused for the first one's success, or take place after another
has undone the first. So a put carries a token into the item that it writes, and one whose answer was lost is looked
for: with our token in the item it took place. Without it nobody can tell: it may have taken place and been followed by
another, or may yet. Then `AnswerLostError` says so, and the caller looks again. A delete leaves nothing to tell it by.
"""

import time
from secrets import token_bytes
from typing import Any, Final

from brrr_aws.failures import AnswerLostError, AwsRefusal
from brrr_core.backend import Key
from brrr_core.errors import BackendError
from brrr_dynamo.batches import Table
from brrr_dynamo.layout import INLINE, ITEM_LIMIT, Item, digest_of, key_of

__all__ = ["Conditional"]

CONFLICT: Final = "ConditionalCheckFailedException"

ABSENT: Final = "attribute_not_exists(pk) OR expires_at <= :now"
PRESENT: Final = "(attribute_not_exists(expires_at) OR expires_at > :now)"
SAME: Final = "#v = :old"
SAME_PARTS: Final = "attribute_not_exists(#v) AND parts_sha256 = :digest"


class Conditional:
    """A put or a delete of one record, if the record is what is expected.

    Args:
        table: Where.
        key: Of what.
        expected: What must be there; None for nothing.
        attributes: What to put there beside the key; None to delete.
    """

    def __init__(self, table: Table, key: Key, expected: bytes | None, attributes: Item | None) -> None:
        self._table = table
        self._token = token_bytes(12)
        self._key = key_of(key)
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
        if expected is not None and len(expected) > INLINE:
            parameters["ReturnValues"] = "ALL_OLD"  # whose parts are to be removed
        self._parameters = table.counted(parameters)

    async def run(self) -> tuple[bool, Item | None]:
        """Whether it took place, and the item that it replaced, where that may have been a head.

        Raises:
            AnswerLostError: Nobody knows.
            BackendError: It cannot be done.
        """
        try:
            answer = await self._table.client.call(self._operation, self._parameters, repeat=False, told=(CONFLICT,))
        except AwsRefusal:
            return False, None
        except AnswerLostError:
            if await self._took_place():
                return True, None
            raise
        return True, answer.get("Attributes")

    async def _took_place(self) -> bool:
        """Whether what was put is there. That it is not, or cannot be seen, says nothing."""
        if self._operation != "PutItem":
            return False
        try:
            found = await self._table.get([self._key])
        except BackendError:
            return False
        return any(item.get("token") == {"B": self._token} for item in found.values())


def _condition(expected: bytes | None) -> tuple[dict[str, str], dict[str, Any], str]:
    """Names, values, and the condition that a record is what is expected, and has not expired."""
    now = {":now": {"N": str(int(time.time()))}}
    if expected is None:
        return {}, now, ABSENT
    values: dict[str, Any] = now
    same = f"{SAME} AND {PRESENT}"
    if len(expected) > INLINE:
        # Other SDKs fill an item to its brim, where ours have parts.
        both = len(expected) <= ITEM_LIMIT
        same = f"(({SAME_PARTS}) OR {SAME}) AND {PRESENT}" if both else f"{SAME_PARTS} AND {PRESENT}"
        values[":digest"] = {"B": digest_of(expected)}
    if len(expected) <= ITEM_LIMIT:
        values[":old"] = {"B": expected}
    return {"#v": "value"}, values, same
