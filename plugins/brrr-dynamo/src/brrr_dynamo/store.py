"""The store role: records, each an item, or a head with parts."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from brrr_aws.failures import AnswerLostError
from brrr_aws.spreading import spread
from brrr_core.backend import Key, Store, Swap
from brrr_core.backend.checks import check_values
from brrr_core.errors import BackendError
from brrr_dynamo.batches import Table, put_request
from brrr_dynamo.conditional import Conditional
from brrr_dynamo.layout import EXPIRES, INLINE, Head, Item, check_key, decoded, expired, key_of
from brrr_dynamo.options import MAX_VALUE
from brrr_dynamo.parts import Parts

__all__ = ["DynamoStore"]

LARGE: Final = 4
"""Values in parts that are read or written at the same time."""


class DynamoStore(Store):
    """Reads in hundreds, writes in twenty-fives, swaps side by side.

    Args:
        table: Where.
        ttl: Seconds that records are kept after they were written last, 0 for ever.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl
        self._parts = Parts(table, ttl=ttl)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look keys up, consistently."""
        self._table.client.check_open()
        wanted = dict.fromkeys(keys)
        for key in wanted:
            check_key(key)
        found = await self._values(list(wanted))
        heads = [(key, each) for key, each in found.items() if isinstance(each, Head)]
        whole = await spread(self._whole, heads, limit=LARGE) if heads else []
        values: dict[Key, bytes | None] = {key: each for key, each in found.items() if isinstance(each, bytes)}
        values.update({key: value for (key, _), value in zip(heads, whole, strict=True)})
        return [values.get(key) for key in keys]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys.

        A write whose answer was lost is repeated only where it writes nothing but calls: whoever writes the call of a
        hash writes the same. Another record may have been changed by others meanwhile. Nor is a value in parts put
        again.
        """
        self._table.client.check_open()
        check_values((value for _, value in items), MAX_VALUE)
        last = dict(items)
        for key in last:
            check_key(key)
        end = self._end()
        calls: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for key, value in last.items():
            if len(value) <= INLINE:
                fitting = calls if key.kind == "call" else others
                fitting.append(put_request({**key_of(key), "value": {"B": value}, **end}))
        await self._table.write(calls, repeat=True)
        await self._table.write(others, repeat=False)
        large = [(key, value) for key, value in last.items() if len(value) > INLINE]
        if large:
            await spread(self._write_large, large, limit=LARGE)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set, those of one key one after the other."""
        self._table.client.check_open()
        check_values((new for _, _, new in swaps), MAX_VALUE)
        places: dict[Key, list[int]] = {}
        for place, swap in enumerate(swaps):
            places.setdefault(swap.key, []).append(place)
        for key in places:
            check_key(key)
        results = [False] * len(swaps)

        async def run(group: list[int]) -> None:
            for place in group:
                results[place] = await self._swap(swaps[place])

        if swaps:
            await spread(run, list(places.values()), limit=self._table.client.pool)
        return results

    async def _values(self, keys: Sequence[Key]) -> dict[Key, bytes | Head]:
        """The values of the keys that are there, or where they are."""
        items = await self._table.get([key_of(key) for key in keys])
        found: dict[Key, bytes | Head] = {}
        for key in keys:
            item = items.get((key.call_hash, key.kind))
            if item is not None and not (EXPIRES in item and expired(item)):
                found[key] = decoded(item)
        return found

    async def _whole(self, found: tuple[Key, Head]) -> bytes | None:
        """The value of a head, read again where it was replaced meanwhile."""
        key, head = found
        while True:
            value = await self._parts.read(head)
            if value is not None:
                return value
            now = (await self._values([key])).get(key)
            if not isinstance(now, Head):
                return now
            if now == head:
                raise self._parts.vanished(key)
            head = now

    async def _write_large(self, item: tuple[Key, bytes]) -> None:
        key, value = item
        upload = await self._parts.upload(key, value)
        parameters: dict[str, Any] = {
            "TableName": self._table.name,
            "Item": {**key_of(key), **upload.head.attributes(), **self._end()},
            "ReturnValues": "ALL_OLD",
        }
        upload.check_age()
        try:
            answer = await self._table.client.call("PutItem", self._table.counted(parameters), repeat=False)
        except AnswerLostError:
            # A head is never put twice: another may have replaced it meanwhile, and removed its parts.
            if not await self._stands(key, upload.head):
                raise
            return
        await self._remove_parts_of(answer.get("Attributes"))

    async def _stands(self, key: Key, head: Head) -> bool:
        """Whether a value is there, ours or another's that is the same. That it cannot be seen says nothing."""
        try:
            found = (await self._values([key])).get(key)
        except BackendError:
            return False
        return isinstance(found, Head) and found.digest == head.digest

    async def _swap(self, swap: Swap) -> bool:
        key, expected, new = swap
        if expected == new:
            return await self.read([key]) == [expected]
        upload = await self._parts.upload(key, new) if new is not None and len(new) > INLINE else None
        attributes: Item | None = None
        if upload is not None:
            attributes = {**upload.head.attributes(), **self._end()}
            upload.check_age()
        elif new is not None:
            attributes = {"value": {"B": new}, **self._end()}
        done, replaced = await Conditional(self._table, key, expected, attributes).run()
        if not done and upload is not None:
            await self._remove(upload.head)
        await self._remove_parts_of(replaced)
        return done

    async def _remove_parts_of(self, item: Item | None) -> None:
        """Remove the parts of an item that was replaced, if it was a head."""
        if item is not None and "parts_id" in item:
            head = decoded(item)
            if isinstance(head, Head):
                await self._remove(head)

    async def _remove(self, head: Head) -> None:
        # What was asked for is done, and is told so; what stays of the parts, `brrr setup` finds.
        with suppress(BackendError):
            await self._parts.remove(head)

    def _end(self) -> dict[str, dict[str, str]]:
        return {EXPIRES: {"N": str(int(time.time() + self._ttl))}} if self._ttl else {}
