"""The cache role: counters, each an item."""

import time
from collections.abc import Mapping
from typing import Any, Final

from brrr_aws.spreading import spread
from brrr_core.backend import Cache
from brrr_core.errors import ArgumentError
from brrr_dynamo.batches import Table
from brrr_dynamo.layout import EXPIRES, LONGEST_KEY, PK, SK

__all__ = ["DynamoCache"]

COUNT: Final = "count"
"""The sort key of a counter, which is no kind of a record, and the attribute that counts."""

MOST: Final = 10**37
"""DynamoDB's numbers have 38 digits."""


class DynamoCache(Cache):
    """Counters, forgotten when nobody has counted for long.

    Args:
        table: Where.
        ttl: Seconds that a counter is kept after it was counted last.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters.

        An increment whose answer was lost is repeated, and may count twice: as the message that it counts, which is
        then put twice.
        """
        self._table.client.check_open()
        for name, amount in amounts.items():
            if not -MOST < amount < MOST:
                raise ArgumentError(f"{amount} for counter {name!r} has more than 37 digits", remedy="Count by less.")
            if not 0 < len(name.encode()) <= LONGEST_KEY:
                raise ArgumentError(
                    f"the counter {name!r:.100} cannot be a key of DynamoDB, which has 1 to {LONGEST_KEY} bytes",
                    remedy="Give it a shorter name.",
                )
        counted = [name for name, amount in amounts.items() if amount]
        counts = await self._read([name for name, amount in amounts.items() if not amount])
        end = str(int(time.time() + self._ttl))

        async def add(name: str) -> None:
            counts[name] = await self._add(name, amounts[name], end)

        if counted:
            await spread(add, counted, limit=self._table.client.pool)
        return {name: counts[name] for name in amounts}

    async def _read(self, names: list[str]) -> dict[str, int]:
        found = await self._table.get([_key(name) for name in names])
        return {name: int(found[name, COUNT][COUNT]["N"]) if (name, COUNT) in found else 0 for name in names}

    async def _add(self, name: str, amount: int, end: str) -> int:
        parameters: dict[str, Any] = {
            "TableName": self._table.name,
            "Key": _key(name),
            "UpdateExpression": "ADD #count :amount SET #end = :end",
            "ExpressionAttributeNames": {"#count": COUNT, "#end": EXPIRES},
            "ExpressionAttributeValues": {":amount": {"N": str(amount)}, ":end": {"N": end}},
            "ReturnValues": "UPDATED_NEW",
        }
        answer = await self._table.client.call("UpdateItem", self._table.counted(parameters), repeat=True)
        return int(answer["Attributes"][COUNT]["N"])


def _key(name: str) -> dict[str, dict[str, str]]:
    return {PK: {"S": name}, SK: {"S": COUNT}}
