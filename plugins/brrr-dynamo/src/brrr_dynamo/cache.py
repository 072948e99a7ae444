"""Cache role: counters, one item each."""

import time
from collections.abc import Mapping
from typing import Any, Final

from brrr_aws.concurrency import run_concurrently
from brrr_core.backend import Cache, check_amounts
from brrr_dynamo.item_batches import Table
from brrr_dynamo.layout import EXPIRES, PK, SK

__all__ = ["DynamoCache"]

COUNT: Final = "count"
"""Sort key of a counter, which no record has, and the attribute with its count."""


class DynamoCache(Cache):
    """Counters that expire.

    Args:
        table: The table.
        ttl: Seconds that a counter is kept after its last increment.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters.

        An increment whose response is lost is not repeated, as it could count twice: it raises.
        """
        self._table.client.check_open()
        check_amounts(amounts.items())
        changed = [name for name, amount in amounts.items() if amount]
        counts = await self._read([name for name, amount in amounts.items() if not amount])
        expires_at = str(int(time.time() + self._ttl))

        async def add(name: str) -> None:
            counts[name] = await self._add(name, amounts[name], expires_at)

        if changed:
            await run_concurrently(add, changed, limit=self._table.client.pool)
        return {name: counts[name] for name in amounts}

    async def _read(self, names: list[str]) -> dict[str, int]:
        found = await self._table.get([_key(name) for name in names])
        return {name: int(found[name, COUNT][COUNT]["N"]) if (name, COUNT) in found else 0 for name in names}

    async def _add(self, name: str, amount: int, expires_at: str) -> int:
        parameters: dict[str, Any] = {
            "TableName": self._table.name,
            "Key": _key(name),
            "UpdateExpression": "ADD #count :amount SET #end = :end",
            "ExpressionAttributeNames": {"#count": COUNT, "#end": EXPIRES},
            "ExpressionAttributeValues": {":amount": {"N": str(amount)}, ":end": {"N": expires_at}},
            "ReturnValues": "UPDATED_NEW",
        }
        response = await self._table.client.call("UpdateItem", self._table.metered(parameters), idempotent=False)
        return int(response["Attributes"][COUNT]["N"])


def _key(name: str) -> dict[str, dict[str, str]]:
    return {PK: {"S": name}, SK: {"S": COUNT}}
