"""The table: batches of reads and writes, repeated for unprocessed items, and updates of the expiry of an item."""

from collections.abc import Sequence
from typing import Any, Final

from brrr_aws.client import AwsClient
from brrr_aws.concurrency import run_concurrently
from brrr_aws.errors import AwsRefusal
from brrr_dynamo.layout import CONFLICT, EXPIRES, Item, primary_key_of

__all__ = ["Table", "delete_request", "put_request"]

KEYS_PER_READ: Final = 100
"""Most keys of a BatchGetItem."""

ITEMS_PER_WRITE: Final = 25
"""Most items of a BatchWriteItem."""


class Table:
    """Table whose items are read and written in batches.

    Args:
        client: The DynamoDB client.
        name: Name of the table.
    """

    def __init__(self, client: AwsClient, name: str) -> None:
        self.client = client
        self.name = name

    async def get(self, keys: Sequence[Item], *, batch_size: int = KEYS_PER_READ) -> dict[tuple[str, str], Item]:
        """Return the existing items by primary key, read consistently. `keys` must not repeat a key."""
        if not keys:
            return {}
        batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        found = await run_concurrently(self._get_batch, batches, limit=self.client.pool)
        return {primary_key_of(item): item for items in found for item in items}

    async def _get_batch(self, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        pauses = self.client.backoff()
        request: dict[str, Any] = {"Keys": keys, "ConsistentRead": True}
        while True:
            parameters = self.metered({"RequestItems": {self.name: request}})
            response = await self.client.call("BatchGetItem", parameters, idempotent=True, backoff=pauses)
            items: list[Item] = response.get("Responses", {}).get(self.name, [])
            found += items
            unprocessed = response.get("UnprocessedKeys", {}).get(self.name)
            if not unprocessed:
                return found
            if items:
                pauses.progressed()
            if not await pauses.pause():
                raise self.client.incomplete_error("BatchGetItem", f"{len(unprocessed['Keys'])} keys are left")
            request = unprocessed

    async def write(
        self, requests: Sequence[dict[str, Any]], *, idempotent: bool, batch_size: int = ITEMS_PER_WRITE
    ) -> None:
        """Put and delete items. `requests` must not repeat a key.

        Args:
            requests: Results of `put_request` and `delete_request`.
            idempotent: Whether to repeat a batch whose response is lost: only if no other writer changes the items.
            batch_size: Most items of one request.
        """
        if not requests:
            return
        batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
        await run_concurrently(
            lambda batch: self._write_batch(batch, idempotent=idempotent), batches, limit=self.client.pool
        )

    async def _write_batch(self, requests: Sequence[dict[str, Any]], *, idempotent: bool) -> None:
        pauses = self.client.backoff()
        left = requests
        while left:
            parameters = self.metered({"RequestItems": {self.name: left}})
            response = await self.client.call("BatchWriteItem", parameters, idempotent=idempotent, backoff=pauses)
            before, left = len(left), response.get("UnprocessedItems", {}).get(self.name, [])
            if len(left) < before:
                pauses.progressed()
            if left and not await pauses.pause():
                raise self.client.incomplete_error("BatchWriteItem", f"{len(left)} items are left")

    async def update_expiry(self, key: Item, update: str, condition: str, **values: str) -> bool:
        """Update the expiry of an item, `#end` in `update`. Return whether the item fulfilled the condition.

        Args:
            key: The primary key.
            update: The update expression.
            condition: The condition expression.
            values: The numbers in both expressions, by their names.
        """
        parameters: dict[str, Any] = {
            "TableName": self.name,
            "Key": key,
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#end": EXPIRES},
            "ExpressionAttributeValues": {f":{name}": {"N": value} for name, value in values.items()},
        }
        try:
            await self.client.call("UpdateItem", self.metered(parameters), idempotent=True, expect=(CONFLICT,))
        except AwsRefusal:
            return False
        return True

    def metered(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Ask for the consumed capacity if a meter is active, and return the parameters."""
        if self.client.meter is not None:
            parameters["ReturnConsumedCapacity"] = "TOTAL"
        return parameters


def put_request(item: Item) -> dict[str, Any]:
    """Return the entry of a batch that puts an item."""
    return {"PutRequest": {"Item": item}}


def delete_request(key: Item) -> dict[str, Any]:
    """Return the entry of a batch that deletes an item."""
    return {"DeleteRequest": {"Key": key}}
