"""The SQL of the store and the cache.

The checks run before an operation. All other functions run on the connection's thread; those that write run inside a
transaction.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from brrr_core.backend import Delivery, Key, Kind, Reading, Swap, keys_of
from brrr_core.errors import ArgumentError
from brrr_sqlite.schema import check_text

__all__ = ["check_counters", "check_keys", "increment", "read", "read_with", "swap", "write"]

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
REMOVE: Final = "DELETE FROM record WHERE hash = ? AND kind = ?"
ABSENT: Final = "SELECT NOT EXISTS (SELECT 1 FROM record WHERE hash = ? AND kind = ?)"
INCREMENT: Final = """
INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
RETURNING value
"""
COUNTER: Final = "SELECT value FROM counter WHERE name = ?"


def check_keys(keys: Iterable[Key]) -> None:
    """Raise `ArgumentError` if SQLite cannot store a call hash."""
    for key in keys:
        check_text(key.call_hash, "the call hash")


def check_counters(amounts: Iterable[tuple[str, int]]) -> None:
    """Raise `ArgumentError` if SQLite cannot store a name, or if an amount exceeds 64 bits."""
    for name, amount in amounts:
        check_text(name, "the counter")
        if amount not in INT64:
            raise ArgumentError(
                f"the amount {amount} for the counter {name!r} exceeds 64 bits", remedy="Add a smaller amount."
            )


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
    values, absent = list[tuple[str, int, bytes]](), list[tuple[str, int]]()
    for key, value in dict(items).items():
        if value is None:
            absent.append((key.call_hash, KINDS[key.kind]))
        else:
            values.append((key.call_hash, KINDS[key.kind], value))
    connection.executemany(WRITE, values)
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


def increment(connection: sqlite3.Connection, amounts: Mapping[str, int]) -> dict[str, int]:
    """Add to counters. Adding 0 only reads, and does not create a counter."""
    return {name: _increment_one(connection, name, amount) for name, amount in amounts.items()}


def _increment_one(connection: sqlite3.Connection, name: str, amount: int) -> int:
    rows = connection.execute(*((INCREMENT, (name, amount)) if amount else (COUNTER, (name,)))).fetchall()
    return rows[0][0] if rows else 0
