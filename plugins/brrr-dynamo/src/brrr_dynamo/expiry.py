"""Expiry of records: `ttl` counts from the last write or read of a value, and unfinished calls stay.

The attribute `expires_at` is set by a separate request, which costs as much as a write of the item. So a read
refreshes a value only if a quarter of the `ttl` is over, and call records expire in the background.
"""

import time
from collections.abc import Sequence

from brrr_aws.concurrency import run_concurrently
from brrr_core.backend import REFRESH_SHARE, CallExpirer, Key, call_record_of, may_expire
from brrr_dynamo.item_batches import Table
from brrr_dynamo.layout import EXPIRES, PRESENT, Item, record_key

__all__ = ["Expiry"]


class Expiry:
    """Expiry of the records of one table.

    Args:
        table: The table.
        ttl: Seconds that a value is kept after its last write or read, or 0 for forever.
    """

    def __init__(self, table: Table, *, ttl: float) -> None:
        self._table = table
        self._ttl = ttl
        self._calls = CallExpirer(self._expire_calls)

    def attributes(self, key: Key) -> dict[str, dict[str, str]]:
        """Return the attributes of a new record that expires; none if it does not."""
        return {EXPIRES: {"N": str(int(time.time() + self._ttl))}} if self._applies_to(key) else {}

    def is_old(self, key: Key, item: Item) -> bool:
        """Whether a read must refresh an unexpired record."""
        if not self._applies_to(key) or "N" not in item.get(EXPIRES, {}):
            return False
        return float(item[EXPIRES]["N"]) < time.time() + self._ttl * (1 - REFRESH_SHARE)

    async def refresh(self, keys: Sequence[Key]) -> list[bool]:
        """Restart the ttl of values. Return whether each still exists."""
        there = await run_concurrently(self._restart, keys, limit=self._table.client.pool)
        self._calls.add(key for key, kept in zip(keys, there, strict=True) if kept)
        return there

    def value_written(self, key: Key) -> None:
        """Let the call record of a value expire with it."""
        if self._applies_to(key):
            self._calls.add([key])

    async def before_deletion(self, key: Key) -> None:
        """Keep the call record of a value that is about to be deleted, because the call must run again."""
        call = call_record_of(key) if self._applies_to(key) else None
        if call is not None:
            await self._calls.finish()
            await self._update(call, "REMOVE #end")

    async def close(self) -> None:
        """End the work in the background."""
        await self._calls.close()

    def _applies_to(self, key: Key) -> bool:
        return bool(self._ttl) and may_expire(key)

    async def _expire_calls(self, calls: Sequence[Key]) -> None:
        await run_concurrently(self._restart, calls, limit=self._table.client.pool)

    async def _restart(self, key: Key) -> bool:
        return await self._update(key, "SET #end = :end", end=str(int(time.time() + self._ttl)))

    async def _update(self, key: Key, update: str, **values: str) -> bool:
        """Change the expiry of a record. Return whether it is there and has not expired."""
        condition = f"attribute_exists(pk) AND {PRESENT}"
        return await self._table.update_expiry(record_key(key), update, condition, now=str(int(time.time())), **values)
