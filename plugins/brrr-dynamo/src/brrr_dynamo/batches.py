"""Items in batches: what DynamoDB leaves of one is asked for again."""

from collections.abc import Sequence
from typing import Any, Final

from brrr_aws.client import AwsClient
from brrr_aws.spreading import spread
from brrr_dynamo.layout import Item, name_of

__all__ = ["Table", "delete_request", "put_request"]

GET: Final = 100
"""Keys of a BatchGetItem at most."""

WRITE: Final = 25
"""Items of a BatchWriteItem at most."""


class Table:
    """A table, and how to ask for many of its items.

    Args:
        client: Asks.
        name: The table's.
    """

    def __init__(self, client: AwsClient, name: str) -> None:
        self.client = client
        self.name = name

    async def get(self, keys: Sequence[Item], *, chunk: int = GET) -> dict[tuple[str, str], Item]:
        """The items that are there, read consistently, by their primary keys. No key stands twice in `keys`."""
        if not keys:
            return {}
        chunks = [keys[start : start + chunk] for start in range(0, len(keys), chunk)]
        found = await spread(self._get, chunks, limit=self.client.pool)
        return {name_of(item): item for items in found for item in items}

    async def _get(self, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        waits = self.client.backoff()
        asked: dict[str, Any] = {"Keys": keys, "ConsistentRead": True}
        while True:
            parameters = self.counted({"RequestItems": {self.name: asked}})
            answer = await self.client.call("BatchGetItem", parameters, repeat=True, backoff=waits)
            items: list[Item] = answer.get("Responses", {}).get(self.name, [])
            found += items
            left = answer.get("UnprocessedKeys", {}).get(self.name)
            if not left:
                return found
            if items:
                waits.progressed()
            if not await waits.pause():
                raise self.client.late("BatchGetItem", f"{len(left['Keys'])} keys are left")
            asked = left

    async def write(self, requests: Sequence[dict[str, Any]], *, repeat: bool, chunk: int = WRITE) -> None:
        """Put and delete items, each once in `requests`.

        Args:
            requests: As `put_request` and `delete_request` make them.
            repeat: Whether to write again what may have been written, for what nobody else changes meanwhile.
            chunk: How many to send at a time.
        """
        if not requests:
            return
        chunks = [requests[start : start + chunk] for start in range(0, len(requests), chunk)]
        await spread(lambda each: self._write(each, repeat=repeat), chunks, limit=self.client.pool)

    async def _write(self, requests: Sequence[dict[str, Any]], *, repeat: bool) -> None:
        waits = self.client.backoff()
        left = requests
        while left:
            parameters = self.counted({"RequestItems": {self.name: left}})
            answer = await self.client.call("BatchWriteItem", parameters, repeat=repeat, backoff=waits)
            before, left = len(left), answer.get("UnprocessedItems", {}).get(self.name, [])
            if len(left) < before:
                waits.progressed()
            if left and not await waits.pause():
                raise self.client.late("BatchWriteItem", f"{len(left)} items are left")

    def counted(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters, and the wish to know what it costs, where somebody counts."""
        if self.client.meter is not None:
            parameters["ReturnConsumedCapacity"] = "TOTAL"
        return parameters


def put_request(item: Item) -> dict[str, Any]:
    """Of a batch: put an item."""
    return {"PutRequest": {"Item": item}}


def delete_request(key: Item) -> dict[str, Any]:
    """Of a batch: delete an item."""
    return {"DeleteRequest": {"Key": key}}
