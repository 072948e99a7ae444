"""The SQL of the store and the cache.

All functions run on the connection's thread; those that write run inside a transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from brrr_core.backend import Delivery, Key, Kind, Reading, Swap, keys_of

__all__ = ["add", "counters", "read", "read_with", "swap", "write"]

KINDS: Final[dict[Kind, int]] = {"call": 0, "pending_returns": 1, "value": 2}
"""The numbers that stand for the kinds in the file. They never change."""

READ: Final = "SELECT value FROM record WHERE hash = ? AND kind = ?"
WRITE: Final = """
INSERT INTO record (hash, kind, value) VALUES (?, ?, ?) ON CONFLICT (hash, kind) DO UPDATE SET value = excluded.value
"""
CREATE: Final = "INSERT INTO record (hash, kind, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
REPLACE: Final = "UPDATE record SET value = ? WHERE hash = ? AND kind = ? AND value = ?"
DELETE: Final = "DELETE FROM record WHERE hash = ? AND kind = ? AND value = ?"
REMOVE: Final = "DELETE FROM record WHERE hash = ? AND kind = ?"
ABSENT: Final = "SELECT NOT EXISTS (SELECT 1 FROM record WHERE hash = ? AND kind = ?)"
ADD: Final = """
INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""
COUNTER: Final = "SELECT value FROM counter WHERE name = ?"


def read(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[bytes | None]:
    """Return the values, with None for absent keys."""
    rows = [connection.execute(READ, (key.call_hash, KINDS[key.kind])).fetchone() for key in keys]
    return [None if row is None else row[0] for row in rows]


def read_with(
    connection: sqlite3.Connection, delivery: Delivery, readings: Sequence[Reading]
) -> list[bytes | None] | None:
    """Return the records of a message; None if its body is not a schedule message."""
    keys = keys_of(delivery.body, readings)
    return None if keys is None else read(connection, keys)


def write(connection: sqlite3.Connection, items: Sequence[tuple[Key, bytes | None]]) -> None:
    """Set keys, or delete them for None. If a key occurs twice, its last value counts."""
    rows = dict(items)
    values = [(key.call_hash, KINDS[key.kind], value) for key, value in rows.items() if value is not None]
    if values:
        connection.executemany(WRITE, values)
    if len(values) < len(rows):
        absent = [(key.call_hash, KINDS[key.kind]) for key, value in rows.items() if value is None]
        connection.executemany(REMOVE, absent)


def swap(connection: sqlite3.Connection, swaps: Sequence[Swap]) -> list[bool]:
    """Compare and set keys, one after the other."""
    return [_swap_one(connection, (key.call_hash, KINDS[key.kind]), expected, new) for key, expected, new in swaps]


def _swap_one(connection: sqlite3.Connection, key: tuple[str, int], expected: bytes | None, new: bytes | None) -> bool:
    if expected is None:
        if new is None:
            return bool(connection.execute(ABSENT, key).fetchone()[0])
        return connection.execute(CREATE, (*key, new)).rowcount == 1
    if new is None:
        return connection.execute(DELETE, (*key, expected)).rowcount == 1
    return connection.execute(REPLACE, (new, *key, expected)).rowcount == 1


def add(connection: sqlite3.Connection, amounts: Iterable[tuple[str, int]]) -> None:
    """Add to counters."""
    connection.executemany(ADD, amounts)


def counters(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Return counters. A counter to which nothing was added yet is 0."""
    rows = [(name, connection.execute(COUNTER, (name,)).fetchone()) for name in names]
    return {name: 0 if row is None else row[0] for name, row in rows}
