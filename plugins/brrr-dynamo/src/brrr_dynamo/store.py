"""Store role: each record is an item, or a head with parts."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from brrr_aws.concurrency import run_concurrently
from brrr_aws.errors import AnswerLostError
from brrr_core.backend import Key, Store, Swap, check_items, check_keys, check_swaps, rounds_of
from brrr_core.errors import BackendError
from brrr_dynamo.conditional_write import ConditionalWrite
from brrr_dynamo.expiry import Expiry
from brrr_dynamo.item_batches import Table, put_request
from brrr_dynamo.layout import EXPIRES, MAX_INLINE_BYTES, Head, Item, is_expired, record_key, value_of
from brrr_dynamo.options import MAX_VALUE
from brrr_dynamo.parts import Parts

__all__ = ["DynamoStore"]

CONCURRENT_LARGE_VALUES: Final = 4
"""Most values in parts that are read or written at the same time."""


class DynamoStore(Store):
    """Records in one table: batched reads and writes, concurrent swaps.

    Args:
        table: The table.
        ttl: Seconds that a value is kept after its last write or read, or 0 for forever.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self.expires_after = ttl or None
        self._expiry = Expiry(table, ttl=ttl)
        self._parts = Parts(table, ttl=ttl)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read records, consistently. With a ttl, refresh the values that are read."""
        self._table.client.check_open()
        check_keys(keys)
        wanted = dict.fromkeys(keys)
        found = await self._read_items(list(wanted))
        heads = [(key, each) for key, each in found.items() if isinstance(each, Head)]
        joined = await run_concurrently(self._join_parts, heads, limit=CONCURRENT_LARGE_VALUES) if heads else []
        values: dict[Key, bytes | None] = {key: each for key, each in found.items() if isinstance(each, bytes)}
        values.update({key: value for (key, _), value in zip(heads, joined, strict=True)})
        return [values.get(key) for key in keys]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Write records.

        Only writes of calls are repeated if their response is lost: every writer of a call hash writes the same
        call. Another client may have changed any other record meanwhile. A value in parts is never put twice either.
        """
        self._table.client.check_open()
        check_items(items, MAX_VALUE)
        last = dict(items)
        calls: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for key, value in last.items():
            if len(value) <= MAX_INLINE_BYTES:
                requests = calls if key.kind == "call" else others
                requests.append(put_request({**record_key(key), "value": {"B": value}, **self._expiry.attributes(key)}))
        await self._table.write(calls, idempotent=True)
        await self._table.write(others, idempotent=False)
        large = [(key, value) for key, value in last.items() if len(value) > MAX_INLINE_BYTES]
        if large:
            await run_concurrently(self._write_large, large, limit=CONCURRENT_LARGE_VALUES)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Swap records. Swaps of the same key run in their order."""
        self._table.client.check_open()
        check_swaps(swaps, MAX_VALUE)
        results: dict[int, bool] = {}
        for indexes in rounds_of(swap.key for swap in swaps):
            swapped = await run_concurrently(
                self._swap, [swaps[index] for index in indexes], limit=self._table.client.pool
            )
            results.update(zip(indexes, swapped, strict=True))
        return [results[index] for index in range(len(swaps))]

    async def close(self) -> None:
        """End the work in the background."""
        await self._expiry.close()

    async def _read_items(self, keys: Sequence[Key]) -> dict[Key, bytes | Head]:
        """Return the values, or heads, of the keys that have one."""
        items = await self._table.get([record_key(key) for key in keys])
        found: dict[Key, bytes | Head] = {}
        old: list[Key] = []
        for key in keys:
            item = items.get((key.call_hash, key.kind))
            if item is not None and not (EXPIRES in item and is_expired(item)):
                found[key] = value_of(item)
                if self._expiry.is_old(key, item):
                    old.append(key)
        if old:
            for key, there in zip(old, await self._expiry.refresh(old), strict=True):
                if not there:
                    del found[key]
        return found

    async def _join_parts(self, found: tuple[Key, Head]) -> bytes | None:
        """Return the value of a head. Read the head again if it was replaced meanwhile."""
        key, head = found
        while True:
            value = await self._parts.read(head)
            if value is not None:
                return value
            current = (await self._read_items([key])).get(key)
            if not isinstance(current, Head):
                return current
            if current == head:
                raise self._parts.missing_error(key)
            head = current

    async def _write_large(self, item: tuple[Key, bytes]) -> None:
        key, value = item
        upload = await self._parts.upload(key, value)
        parameters: dict[str, Any] = {
            "TableName": self._table.name,
            "Item": {**record_key(key), **upload.head.attributes(), **self._expiry.attributes(key)},
            "ReturnValues": "ALL_OLD",
        }
        upload.check_age()
        try:
            response = await self._table.client.call("PutItem", self._table.metered(parameters), idempotent=False)
        except AnswerLostError:
            # Never put a head twice: another client may have replaced it meanwhile and removed its parts.
            if not await self._holds(key, upload.head):
                raise
            return
        await self._remove_parts_of(response.get("Attributes"))

    async def _holds(self, key: Key, head: Head) -> bool:
        """Whether the record holds an equal value, from us or another client. False if it cannot be read."""
        try:
            found = (await self._read_items([key])).get(key)
        except BackendError:
            return False
        return isinstance(found, Head) and found.digest == head.digest

    async def _swap(self, swap: Swap) -> bool:
        key, expected, new = swap
        if expected == new:
            return await self.read([key]) == [expected]
        upload = await self._parts.upload(key, new) if new is not None and len(new) > MAX_INLINE_BYTES else None
        attributes: Item | None = None
        if upload is not None:
            attributes = {**upload.head.attributes(), **self._expiry.attributes(key)}
            upload.check_age()
        elif new is not None:
            attributes = {"value": {"B": new}, **self._expiry.attributes(key)}
        else:
            await self._expiry.before_deletion(key)
        swapped, replaced = await ConditionalWrite(self._table, key, expected, attributes).run()
        if not swapped and upload is not None:
            await self._remove_parts(upload.head)
        await self._remove_parts_of(replaced)
        if new is not None and (swapped or expected is None):
            self._expiry.value_written(key)
        return swapped

    async def _remove_parts_of(self, item: Item | None) -> None:
        """Remove the parts of a replaced item, if it was a head."""
        if item is not None and "parts_id" in item:
            head = value_of(item)
            if isinstance(head, Head):
                await self._remove_parts(head)

    async def _remove_parts(self, head: Head) -> None:
        # The operation itself succeeded. `brrr setup` removes the parts that stay behind.
        with suppress(BackendError):
            await self._parts.remove(head)
