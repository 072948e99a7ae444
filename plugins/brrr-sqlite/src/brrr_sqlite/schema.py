"""The tables of a brrr file, and the checks that a file is one."""

import sqlite3
from pathlib import Path
from typing import Final

from brrr_core.errors import CorruptBackendError

__all__ = ["APPLICATION_ID", "VERSION", "check", "create", "is_new"]

APPLICATION_ID: Final = 0x62727272  # "brrr"
VERSION: Final = 1
"""The version of the tables, in the file's `user_version`."""

# due:   the time (see clock.py) from which the message is ready. A lease moves it to the lease's end, so that
#        one index finds what was put, what was delayed and whose lease has run out alike.
# lease: 0, or the random token of the lease. Ids of acknowledged messages are used again; tokens are not, so that
#        (id, lease) names one delivery for ever.
# The index carries lease, so that counting reads nothing but the index.
# Records stand by hash before kind: the records of one call share a page, and a commit writes whole pages.
TABLES: Final = (
    """
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        due INTEGER NOT NULL,
        lease INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        body BLOB NOT NULL
    )
    """,
    "CREATE INDEX message_by_due ON message (topic, due, id, lease)",
    """
    CREATE TABLE dead (
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        body BLOB NOT NULL,
        reason TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        buried_at REAL NOT NULL
    )
    """,
    "CREATE INDEX dead_by_topic ON dead (topic, id)",
    """
    CREATE TABLE record (
        hash TEXT NOT NULL,
        kind INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (hash, kind)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE counter (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL CHECK (typeof(value) = 'integer')
    ) WITHOUT ROWID
    """,
)


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever made in the file."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables and _pragma(connection, "application_id") == 0 and _pragma(connection, "user_version") == 0


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, inside the caller's transaction."""
    for table in TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """See that the file is brrr's, and of a version that this code knows.

    Raises:
        CorruptBackendError: It is another program's file, or a newer brrr-sqlite's.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise CorruptBackendError(
            f"{path} is a SQLite file of another program",
            remedy="Name a file of its own for brrr; nothing in this one was changed.",
        )
    version = _pragma(connection, "user_version")
    if version != VERSION:
        raise CorruptBackendError(
            f"{path} has tables of version {version}, and this brrr-sqlite knows version {VERSION}",
            remedy="Install the newest brrr-sqlite, or name another file; nothing in this one was changed.",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
