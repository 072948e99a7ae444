"""The store and the cache: records under keys, and counters."""

from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Final

from brrr_core.backend import Cache, Key, Kind, Store, Swap, check_values
from brrr_core.errors import ArgumentError
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.options import MAX_BYTES
from brrr_sqlite.schema import check_text

__all__ = ["SqliteCache", "SqliteStore"]

INT64: Final = range(-(2**63), 2**63)

KINDS: Final[dict[Kind, int]] = {"call": 0, "pending_returns": 1, "value": 2}
"""The numbers that stand for the kinds in the file. They never change."""

READ: Final = "SELECT value FROM record WHERE hash = ? AND kind = ?"
WRITE: Final = """
INSERT INTO record (hash, kind, value) VALUES (?, ?, ?) ON CONFLICT (hash, kind) DO UPDATE SET value = excluded.value
"""
CREATE: Final = "INSERT INTO record (hash, kind, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
REPLACE: Final = "UPDATE record SET value = ? WHERE hash = ? AND kind = ? AND value = ?"
DELETE: Final = "DELETE FROM record WHERE hash = ? AND kind = ? AND value = ?"
ABSENT: Final = "SELECT NOT EXISTS (SELECT 1 FROM record WHERE hash = ? AND kind = ?)"
INCREMENT: Final = """
INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
RETURNING value
"""
COUNTER: Final = "SELECT value FROM counter WHERE name = ?"


class SqliteStore(Store):
    """Each batch is one operation of the group commit: SQLite stores all of it or nothing."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, with None for absent keys."""
        wanted = tuple(keys)
        if not wanted:
            return []
        _check_keys(wanted)
        return await self._commits.read(lambda connection: _read(connection, wanted))

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys."""
        rows = tuple(items)
        if not rows:
            return
        _check_keys([key for key, _ in rows])
        check_values((value for _, value in rows), MAX_BYTES)
        await self._commits.write(lambda connection: _write(connection, rows))

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set keys, one after the other."""
        rows = tuple(swaps)
        if not rows:
            return []
        _check_keys([key for key, _, _ in rows])
        check_values((new for _, _, new in rows), MAX_BYTES)
        return await self._commits.write(lambda connection: _swap(connection, rows))


class SqliteCache(Cache):
    """Counters of 64 bits."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters. If a sum exceeds 64 bits, add nothing and raise `BackendError`."""
        rows = dict(amounts)
        if not rows:
            return {}
        for name, amount in rows.items():
            check_text(name, "the counter")
            if amount not in INT64:
                raise ArgumentError(
                    f"the amount {amount} for the counter {name!r} exceeds 64 bits", remedy="Add a smaller amount."
                )

        def work(connection: Connection) -> dict[str, int]:
            return _increment(connection, rows)

        return await (self._commits.write(work) if any(rows.values()) else self._commits.read(work))


def _check_keys(keys: Sequence[Key]) -> None:
    for key in keys:
        check_text(key.call_hash, "the call hash")


# The functions below run on the connection's thread; those that write run inside a transaction.


def _read(connection: Connection, keys: Sequence[Key]) -> list[bytes | None]:
    """Return the values, with None for absent keys."""
    rows = [connection.execute(READ, (key.call_hash, KINDS[key.kind])).fetchone() for key in keys]
    return [None if row is None else row[0] for row in rows]


def _write(connection: Connection, items: Sequence[tuple[Key, bytes]]) -> None:
    """Set keys. If a key occurs twice, its last value counts."""
    connection.executemany(WRITE, ((key.call_hash, KINDS[key.kind], value) for key, value in items))


def _swap(connection: Connection, swaps: Sequence[Swap]) -> list[bool]:
    """Compare and set keys, one after the other."""
    return [_swap_one(connection, (key.call_hash, KINDS[key.kind]), expected, new) for key, expected, new in swaps]


def _swap_one(connection: Connection, key: tuple[str, int], expected: bytes | None, new: bytes | None) -> bool:
    if expected is None:
        if new is None:
            return bool(connection.execute(ABSENT, key).fetchone()[0])
        return connection.execute(CREATE, (*key, new)).rowcount == 1
    if new is None:
        return connection.execute(DELETE, (*key, expected)).rowcount == 1
    return connection.execute(REPLACE, (new, *key, expected)).rowcount == 1


def _increment(connection: Connection, amounts: Mapping[str, int]) -> dict[str, int]:
    """Add to counters. Adding 0 only reads, and does not create a counter."""
    return {name: _increment_one(connection, name, amount) for name, amount in amounts.items()}


def _increment_one(connection: Connection, name: str, amount: int) -> int:
    rows = connection.execute(*((INCREMENT, (name, amount)) if amount else (COUNTER, (name,)))).fetchall()
    return rows[0][0] if rows else 0
