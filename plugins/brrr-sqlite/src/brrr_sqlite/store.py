"""The store and the cache: records under keys, and counters."""

from asyncio import Future, get_running_loop
from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from brrr_core.backend import (
    Cache,
    Key,
    Notifier,
    Store,
    Swap,
    Wake,
    check_amounts,
    check_items,
    check_keys,
    check_swaps,
    is_awaited,
)
from brrr_sqlite import records
from brrr_sqlite.expiry import Expiry
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.options import MAX_BYTES
from brrr_sqlite.transactions import WRITE_NEEDED, Operation, WriteNeeded

__all__ = ["SqliteCache", "SqliteNotifier", "SqliteStore"]


class SqliteStore(Store):
    """Each batch is one operation of the group commit: SQLite stores all of it or nothing."""

    def __init__(self, commits: GroupCommit, expiry: Expiry) -> None:
        self._commits = commits
        self._expiry = expiry
        self.expires_after = expiry.ttl
        self.notifier = SqliteNotifier(commits)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, with None for absent keys."""
        wanted = tuple(keys)
        if not wanted:
            return []
        check_keys(wanted)
        if self._expiry.ttl is None:
            return await self._commits.read(lambda connection: records.read(connection, wanted))

        def look(connection: Connection) -> list[bytes | None] | WriteNeeded:
            return WRITE_NEEDED if self._expiry.old(connection, wanted) else records.read(connection, wanted)

        def refresh(connection: Connection) -> list[bytes | None]:
            self._expiry.refresh(connection, wanted)
            return records.read(connection, wanted)

        future: Future[list[bytes | None]] = get_running_loop().create_future()
        return await self._commits.run(Operation(future, read=look, write=refresh))

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys."""
        rows = tuple(items)
        if not rows:
            return
        check_items(rows, MAX_BYTES)
        await self._commits.write(lambda connection: records.write(connection, rows, self._expiry))

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set keys, one after another."""
        rows = tuple(swaps)
        if not rows:
            return []
        check_swaps(rows, MAX_BYTES)
        created = {key.call_hash for key, expected, _ in rows if expected is None and is_awaited(key)}
        return await self._commits.write(
            lambda connection: records.swap(connection, rows, self._expiry), values=created
        )


class SqliteNotifier(Notifier):
    """Reports values that any backend of the file creates. Those of other processes are reported only on Linux."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def watch(self, call_hash: str, wake: Wake) -> bool:
        """Add a watch. Return False if news from other processes cannot arrive."""
        self._commits.gate.check()
        return self._commits.news.watch(call_hash, wake)

    def unwatch(self, call_hash: str, wake: Wake) -> None:
        """Remove a watch."""
        self._commits.news.unwatch(call_hash, wake)


class SqliteCache(Cache):
    """Counters of 64 bits."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters. If a sum exceeds 64 bits, add nothing and raise `BackendError`."""
        rows = dict(amounts)
        if not rows:
            return {}
        check_amounts(rows.items())

        def work(connection: Connection) -> dict[str, int]:
            records.add(connection, [(name, amount) for name, amount in rows.items() if amount])
            return records.counters(connection, rows)

        return await (self._commits.write(work) if any(rows.values()) else self._commits.read(work))
