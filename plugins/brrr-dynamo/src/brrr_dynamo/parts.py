"""Values that are too large for one item: stored in parts under a random id, with a head that names them.

A value appears and disappears with its head, which is one item. The parts are written before the head and removed
after it. A reader that finds a part missing reads the head again. Before the parts, an index entry is written that
names the head they are for; it is removed after the parts. So everything that a crash leaves behind can be found:
`remove_orphans` removes the parts whose head is missing or names another id. It skips entries younger than a day, and
a writer gives up after an hour.
"""

import time
from secrets import token_hex
from typing import Any, Final

from brrr_aws.concurrency import run_concurrently
from brrr_core.backend import Key, may_expire
from brrr_core.errors import BackendUnavailableError, CorruptBackendError
from brrr_dynamo.item_batches import Table, delete_request, put_request
from brrr_dynamo.layout import EXPIRES, PK, SK, Head, Item, digest_of, primary_key_of

__all__ = ["Parts", "Upload"]

PART_BYTES: Final = 384 * 1024
"""Size of a part."""

PARTS_PER_REQUEST: Final = 10
"""Most parts of one request, which has 5 MiB when encoded."""

INDEX: Final = "brrr_parts"

ORPHAN_AGE: Final = 24 * 3600
"""Seconds after which parts without a head count as orphans."""

UPLOAD_LIMIT: Final = 3600
"""Seconds after which a writer gives up. Much shorter than `ORPHAN_AGE`, so that no live upload loses its parts."""


class Parts:
    """Writes, reads and removes values in parts.

    Args:
        table: The table.
        ttl: Seconds that values are kept after their last write or read, or 0 for forever.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl

    async def upload(self, key: Key, value: bytes) -> "Upload":
        """Write the parts of a value whose head will be at `key`."""
        count = -(-len(value) // PART_BYTES)
        head = Head(token_hex(16), count, len(value), digest_of(value))
        upload = Upload(head)
        expiry = {EXPIRES: {"N": self._end()}} if self._ttl and may_expire(key) else {}
        entry: Item = {
            **_entry_key(head.id),
            "head_pk": {"S": key.call_hash},
            "head_sk": {"S": key.kind},
            "parts_count": {"N": str(count)},
            "begun_at": {"N": str(int(time.time()))},
            **expiry,
        }
        await self._table.write([put_request(entry)], idempotent=True)
        parts = [
            put_request({**_part_key(head.id, number), "part": {"B": value[start : start + PART_BYTES]}, **expiry})
            for number, start in enumerate(range(0, len(value), PART_BYTES))
        ]
        await self._table.write(parts, idempotent=True, batch_size=PARTS_PER_REQUEST)
        return upload

    async def read(self, head: Head) -> bytes | None:
        """Return the value, or None if parts are missing because the head is outdated."""
        keys = [_part_key(head.id, number) for number in range(head.count)]
        found = await self._table.get(keys, batch_size=PARTS_PER_REQUEST)
        if len(found) < head.count:
            return None
        old = [key for key in keys if self._is_old(found[primary_key_of(key)])]
        await run_concurrently(self._refresh, old, limit=PARTS_PER_REQUEST)
        value: bytes = b"".join(found[primary_key_of(key)]["part"]["B"] for key in keys)
        if len(value) != head.size:
            raise CorruptBackendError(
                f"a value in {head.count} parts has {len(value)} bytes, but its head says {head.size}",
                remedy="Another program writes to this table. Restore it from a backup.",
            )
        return value

    async def remove(self, head: Head) -> None:
        """Remove parts that a head no longer names, then their index entry."""
        parts = [delete_request(_part_key(head.id, number)) for number in range(head.count)]
        await self._table.write(parts, idempotent=True)
        await self._table.write([delete_request(_entry_key(head.id))], idempotent=True)

    async def remove_orphans(self) -> int:
        """Remove the parts that crashes left behind, and return the number of their values."""
        removed, start = 0, None
        while True:
            parameters: dict[str, Any] = {
                "TableName": self._table.name,
                "KeyConditionExpression": "pk = :index",
                "ExpressionAttributeValues": {":index": {"S": INDEX}},
                "ConsistentRead": True,
            }
            if start is not None:
                parameters["ExclusiveStartKey"] = start
            response = await self._table.client.call("Query", self._table.metered(parameters), idempotent=True)
            removed += await self._remove_orphans_of(response.get("Items", []))
            start = response.get("LastEvaluatedKey")
            if not start:
                return removed

    async def _remove_orphans_of(self, entries: list[Item]) -> int:
        old = [entry for entry in entries if int(entry["begun_at"]["N"]) < time.time() - ORPHAN_AGE]
        heads = {(entry["head_pk"]["S"], entry["head_sk"]["S"]) for entry in old}
        found = await self._table.get([{PK: {"S": pk}, SK: {"S": sk}} for pk, sk in heads])
        removed = 0
        for entry in old:
            head = found.get((entry["head_pk"]["S"], entry["head_sk"]["S"]), {})
            id_ = entry[SK]["S"]
            if head.get("parts_id") != {"S": id_}:
                await self.remove(Head(id_, int(entry["parts_count"]["N"]), 0, b""))
                removed += 1
        return removed

    def _end(self) -> str:
        """Return the end of parts, so late that most refreshes of their head need not refresh them."""
        return str(int(time.time() + 2 * self._ttl) + ORPHAN_AGE)

    def _is_old(self, part: Item) -> bool:
        """Whether a part may expire before the next read of its value."""
        return bool(self._ttl) and EXPIRES in part and float(part[EXPIRES]["N"]) < time.time() + self._ttl + ORPHAN_AGE

    async def _refresh(self, key: Item) -> None:
        """Restart the time of a part, unless it was removed."""
        await self._table.update_expiry(key, "SET #end = :end", "attribute_exists(pk)", end=self._end())

    def missing_error(self, key: Key) -> CorruptBackendError:
        """Return the error of an unchanged head whose parts are missing."""
        return CorruptBackendError(
            f"the value {key.kind} of {key.call_hash!r} is in parts, and some are missing",
            remedy="Another program removed items of this table. Delete the record, or restore it from a backup.",
        )


class Upload:
    """Parts that are being written, or that wait for their head.

    Args:
        head: Content of the head.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        # Both clocks are needed: the monotonic one may stand still while the machine sleeps, the other may be set back.
        self._begun = time.monotonic(), time.time()

    def check_age(self) -> None:
        """Raise `BackendUnavailableError` if the parts are so old that they may soon count as orphans."""
        if max(time.monotonic() - self._begun[0], time.time() - self._begun[1]) > UPLOAD_LIMIT:
            raise BackendUnavailableError(
                f"writing a value of {self.head.size} bytes to DynamoDB took more than an hour",
                remedy="Raise the table's limits, or run fewer workers.",
            )


def _part_key(id_: str, number: int) -> dict[str, dict[str, str]]:
    # Each part has its own partition key, so that the throughput of one partition does not limit a large value.
    return {PK: {"S": f"brrr_part/{id_}/{number}"}, SK: {"S": "part"}}


def _entry_key(id_: str) -> dict[str, dict[str, str]]:
    return {PK: {"S": INDEX}, SK: {"S": id_}}
