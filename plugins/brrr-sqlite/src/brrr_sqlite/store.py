"""The store role and the cache role: records under keys, and counters."""

from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Final

from brrr_core.backend import Cache, Key, Store, Swap
from brrr_core.backend.checks import check_values
from brrr_core.errors import ArgumentError
from brrr_sqlite import records
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.options import MAX_BYTES
from brrr_sqlite.texts import check_text

__all__ = ["SqliteCache", "SqliteStore"]

INT64: Final = range(-(2**63), 2**63)


class SqliteStore(Store):
    """Every batch is one ask of the group commit: it is there as a whole or not at all."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look keys up."""
        wanted = tuple(keys)
        if not wanted:
            return []
        _check_keys(wanted)
        return await self._commits.read(lambda connection: records.read(connection, wanted))

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys."""
        rows = tuple(items)
        if not rows:
            return
        _check_keys([key for key, _ in rows])
        check_values((value for _, value in rows), MAX_BYTES)
        await self._commits.write(lambda connection: records.write(connection, rows))

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set, one after the other."""
        rows = tuple(swaps)
        if not rows:
            return []
        _check_keys([key for key, _, _ in rows])
        check_values((new for _, _, new in rows), MAX_BYTES)
        return await self._commits.write(lambda connection: records.swap(connection, rows))


class SqliteCache(Cache):
    """Counters of 64 bits."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters. Beyond 64 bits nothing of the batch is added, and it is a `BackendError`."""
        rows = dict(amounts)
        if not rows:
            return {}
        for name, amount in rows.items():
            check_text(name, "the counter")
            if amount not in INT64:
                raise ArgumentError(f"{amount} for counter {name!r} has more than 64 bits", remedy="Count by less.")

        def work(connection: Connection) -> dict[str, int]:
            return records.increment(connection, rows)

        return await (self._commits.write(work) if any(rows.values()) else self._commits.read(work))


def _check_keys(keys: Sequence[Key]) -> None:
    for key in keys:
        check_text(key.call_hash, "the call hash")
