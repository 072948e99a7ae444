"""Values that are too large for one item: in parts, under an id that nobody had before, and a head that names it.

A value appears and goes with its head, which is one item. Its parts are there before, under a random id, and go after
it; a reader that finds a part missing reads the head again. Before the parts, one small item says that they are being
written, and for which head; it goes after them. So whatever a crash leaves behind is found, and `tidy` removes it:
parts whose head has another id, or none. It leaves what is younger than a day alone; a writer that took longer than an
hour gives up.
"""

import time
from secrets import token_hex
from typing import Any, Final

from brrr_core.backend import Key
from brrr_core.errors import BackendUnavailableError, CorruptBackendError
from brrr_dynamo.batches import Table, delete_request, put_request
from brrr_dynamo.layout import EXPIRES, PK, SK, Head, Item, digest_of, name_of

__all__ = ["Parts", "Upload"]

SIZE: Final = 384 * 1024
"""Bytes of a part."""

AT_ONCE: Final = 10
"""Parts of a request: 5 MiB as they are sent."""

INDEX: Final = "brrr_parts"
DAY: Final = 24 * 3600
HOUR: Final = 3600


class Parts:
    """Writes, reads and removes values in parts.

    Args:
        table: Where.
        ttl: Seconds that records are kept, 0 for ever.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl

    async def upload(self, key: Key, value: bytes) -> "Upload":
        """Write the parts of a value that is to be at `key`."""
        count = -(-len(value) // SIZE)
        head = Head(token_hex(16), count, len(value), digest_of(value))
        upload = Upload(head)
        # Parts outlive their head, which counts as absent from its end on.
        end = {EXPIRES: {"N": str(int(time.time() + self._ttl) + DAY)}} if self._ttl else {}
        entry: Item = {
            **_entry_key(head.id),
            "head_pk": {"S": key.call_hash},
            "head_sk": {"S": key.kind},
            "parts_count": {"N": str(count)},
            "begun_at": {"N": str(int(time.time()))},
            **end,
        }
        await self._table.write([put_request(entry)], repeat=True)
        parts = [
            put_request({**_part_key(head.id, number), "part": {"B": value[start : start + SIZE]}, **end})
            for number, start in enumerate(range(0, len(value), SIZE))
        ]
        await self._table.write(parts, repeat=True, chunk=AT_ONCE)
        return upload

    async def read(self, head: Head) -> bytes | None:
        """The value, or None where parts are missing: then the head is of yesterday."""
        keys = [_part_key(head.id, number) for number in range(head.count)]
        found = await self._table.get(keys, chunk=AT_ONCE)
        if len(found) < head.count:
            return None
        value: bytes = b"".join(found[name_of(key)]["part"]["B"] for key in keys)
        if len(value) != head.size:
            raise CorruptBackendError(
                f"a value in {head.count} parts has {len(value)} bytes, and its head says {head.size}",
                remedy="Something else writes to this table; restore it from a backup.",
            )
        return value

    async def remove(self, head: Head) -> None:
        """Remove parts that no head names any more, and then what says that they are there."""
        parts = [delete_request(_part_key(head.id, number)) for number in range(head.count)]
        await self._table.write(parts, repeat=True)
        await self._table.write([delete_request(_entry_key(head.id))], repeat=True)

    async def tidy(self) -> int:
        """Remove the parts that crashes left behind; how many values they were of."""
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
            answer = await self._table.client.call("Query", self._table.counted(parameters), repeat=True)
            removed += await self._tidy(answer.get("Items", []))
            start = answer.get("LastEvaluatedKey")
            if not start:
                return removed

    async def _tidy(self, entries: list[Item]) -> int:
        old = [each for each in entries if int(each["begun_at"]["N"]) < time.time() - DAY]
        heads = {(each["head_pk"]["S"], each["head_sk"]["S"]) for each in old}
        found = await self._table.get([{PK: {"S": pk}, SK: {"S": sk}} for pk, sk in heads])
        left = 0
        for entry in old:
            item = found.get((entry["head_pk"]["S"], entry["head_sk"]["S"]), {})
            id_ = entry[SK]["S"]
            if item.get("parts_id") != {"S": id_}:
                await self.remove(Head(id_, int(entry["parts_count"]["N"]), 0, b""))
                left += 1
        return left

    def vanished(self, key: Key) -> CorruptBackendError:
        """The error of a head whose parts are not there, however often it is read."""
        return CorruptBackendError(
            f"the value {key.kind} of {key.call_hash!r} is in parts, and some are missing",
            remedy="Something else removed items of this table; delete the record, or restore it from a backup.",
        )


class Upload:
    """Parts that are being written, and then wait for their head.

    Args:
        head: What the item says.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        # Either clock may stand still or be set back: one while the machine sleeps, the other by whoever sets it.
        self._begun = time.monotonic(), time.time()

    def check_age(self) -> None:
        """Whoever tidies up may take parts for left behind that wait for long. Raises `BackendUnavailableError`."""
        if max(time.monotonic() - self._begun[0], time.time() - self._begun[1]) > HOUR:
            raise BackendUnavailableError(
                f"writing a value of {self.head.size} bytes to DynamoDB took more than an hour",
                remedy="Raise the table's limits, or run fewer workers.",
            )


def _part_key(id_: str, number: int) -> dict[str, dict[str, str]]:
    # Of its own partition key, so that a large value is not bound by what one partition carries.
    return {PK: {"S": f"brrr_part/{id_}/{number}"}, SK: {"S": "part"}}


def _entry_key(id_: str) -> dict[str, dict[str, str]]:
    return {PK: {"S": INDEX}, SK: {"S": id_}}
