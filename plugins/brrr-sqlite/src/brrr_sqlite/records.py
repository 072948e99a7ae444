"""The store's and the cache's statements. All run on the connection's thread, in a transaction where they write."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from brrr_core.backend import Key, Kind, Swap

__all__ = ["increment", "read", "swap", "write"]

KINDS: Final[dict[Kind, int]] = {"call": 0, "pending_returns": 1, "value": 2}
"""How the kinds are kept in the file: never to be changed."""

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


def read(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[bytes | None]:
    """The values, None for what is absent."""
    rows = [connection.execute(READ, (key.call_hash, KINDS[key.kind])).fetchone() for key in keys]
    return [None if row is None else row[0] for row in rows]


def write(connection: sqlite3.Connection, items: Sequence[tuple[Key, bytes]]) -> None:
    """Set keys, the last value of each."""
    connection.executemany(WRITE, ((key.call_hash, KINDS[key.kind], value) for key, value in items))


def swap(connection: sqlite3.Connection, swaps: Sequence[Swap]) -> list[bool]:
    """Compare and set, one after the other."""
    return [_swap(connection, (key.call_hash, KINDS[key.kind]), expected, new) for key, expected, new in swaps]


def _swap(connection: sqlite3.Connection, key: tuple[str, int], expected: bytes | None, new: bytes | None) -> bool:
    if expected is None:
        if new is None:
            return bool(connection.execute(ABSENT, key).fetchone()[0])
        return connection.execute(CREATE, (*key, new)).rowcount == 1
    if new is None:
        return connection.execute(DELETE, (*key, expected)).rowcount == 1
    return connection.execute(REPLACE, (new, *key, expected)).rowcount == 1


def increment(connection: sqlite3.Connection, amounts: Mapping[str, int]) -> dict[str, int]:
    """Add to counters. A counter that was never incremented is not made by a 0."""
    return {name: _increment(connection, name, amount) for name, amount in amounts.items()}


def _increment(connection: sqlite3.Connection, name: str, amount: int) -> int:
    rows = connection.execute(*((INCREMENT, (name, amount)) if amount else (COUNTER, (name,)))).fetchall()
    return rows[0][0] if rows else 0
