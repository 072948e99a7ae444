"""The SQL of the store and the cache.

All functions run on the connection's thread; those that write run inside a transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from brrr_core.backend import Delivery, Key, Kind, Reading, Swap, keys_of
from brrr_sqlite.expiry import Expiry, set_call

__all__ = ["add", "counters", "read", "read_with", "swap", "write"]

KINDS: Final[dict[Kind, int]] = {"call": 0, "pending_returns": 1, "value": 2}
"""The number of each kind in the file. These numbers never change."""

READ: Final = "SELECT value FROM record WHERE hash = ? AND kind = ?"
WRITE: Final = """
INSERT INTO record (hash, kind, value, until) VALUES (?, ?, ?, ?)
ON CONFLICT (hash, kind) DO UPDATE SET value = excluded.value, until = excluded.until
"""
CREATE: Final = "INSERT INTO record (hash, kind, value, until) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
REPLACE: Final = "UPDATE record SET value = ?, until = ? WHERE hash = ? AND kind = ? AND value = ?"
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
    connection: sqlite3.Connection, delivery: Delivery, readings: Sequence[Reading], expiry: Expiry
) -> list[bytes | None] | None:
    """Return the records of a message, and refresh them; None if its body is not a schedule message."""
    keys = keys_of(delivery.body, readings)
    if keys is None:
        return None
    expiry.refresh(connection, keys)
    return read(connection, keys)


def write(connection: sqlite3.Connection, items: Sequence[tuple[Key, bytes | None]], expiry: Expiry) -> None:
    """Set keys, or delete them for None. If a key occurs twice, its last value counts."""
    rows = dict(items)
    values = [
        (key.call_hash, KINDS[key.kind], value, expiry.until(key)) for key, value in rows.items() if value is not None
    ]
    if values:
        connection.executemany(WRITE, values)
    if expiry.ttl is not None:
        for call_hash, _, _, until in values:
            if until is not None:
                set_call(connection, call_hash, until)
    if len(values) < len(rows):
        absent = [(key.call_hash, KINDS[key.kind]) for key, value in rows.items() if value is None]
        connection.executemany(REMOVE, absent)


def swap(connection: sqlite3.Connection, swaps: Sequence[Swap], expiry: Expiry) -> list[bool]:
    """Compare and set keys, one after another."""
    return [_swap_one(connection, swap, expiry) for swap in swaps]


def _swap_one(connection: sqlite3.Connection, swap: Swap, expiry: Expiry) -> bool:
    name, expected, new = swap
    key = (name.call_hash, KINDS[name.kind])
    if expected is None and new is None:
        return bool(connection.execute(ABSENT, key).fetchone()[0])
    until = None
    if new is None:
        done = connection.execute(DELETE, (*key, expected)).rowcount == 1
    else:
        until = expiry.until(name)
        if expected is None:
            done = connection.execute(CREATE, (*key, new, until)).rowcount == 1
        else:
            done = connection.execute(REPLACE, (new, until, *key, expected)).rowcount == 1
    if done and name.kind == "value" and (new is None or until is not None):
        set_call(connection, name.call_hash, until)
    return done


def add(connection: sqlite3.Connection, amounts: Iterable[tuple[str, int]]) -> None:
    """Add to counters."""
    connection.executemany(ADD, amounts)


def counters(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Return counters. A counter to which nothing was added yet is 0."""
    rows = [(name, connection.execute(COUNTER, (name,)).fetchone()) for name in names]
    return {name: 0 if row is None else row[0] for name, row in rows}
