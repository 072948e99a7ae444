"""The tables of a brrr file, and the checks that a file has them."""

import sqlite3
from pathlib import Path
from typing import Final

from brrr_core.errors import CorruptBackendError

__all__ = ["APPLICATION_ID", "VERSION", "check_file", "create", "escape_surrogates", "is_new", "migrate"]

APPLICATION_ID: Final = 0x62727272  # "brrr"
VERSION: Final = 2
"""The version of the tables, as the file stores it in `user_version`."""

# due:   the time (see clock.py) from which the message is ready. A lease sets it to the end of the lease, so one index
#        finds new messages, delayed messages and messages with an expired lease.
# lease: 0, or the random token of the lease. SQLite reuses the ids of acknowledged messages, but never a token, so (id,
#        lease) always identifies one delivery.
# The index includes lease, so that counting reads only the index.
# until: the time at which the record expires; NULL for never. Only the expiring ones are in the index.
# The key of a record starts with the hash, so the records of one call share a page, and a commit writes fewer pages.
UNTIL_INDEX: Final = "CREATE INDEX record_by_until ON record (until) WHERE until IS NOT NULL"
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
        until INTEGER,
        PRIMARY KEY (hash, kind)
    ) WITHOUT ROWID
    """,
    UNTIL_INDEX,
    """
    CREATE TABLE counter (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL CHECK (typeof(value) = 'integer')
    ) WITHOUT ROWID
    """,
)


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether the file is empty and has never been used."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables and _pragma(connection, "application_id") == 0 and _pragma(connection, "user_version") == 0


def create(connection: sqlite3.Connection) -> None:
    """Create the tables, inside the caller's transaction."""
    for table in TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def migrate(connection: sqlite3.Connection) -> None:
    """Convert the tables of an older version to this one, inside the caller's transaction."""
    if _pragma(connection, "application_id") == APPLICATION_ID and _pragma(connection, "user_version") == 1:
        connection.execute("ALTER TABLE record ADD COLUMN until INTEGER")  # takes the same time for any file
        connection.execute(UNTIL_INDEX)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def check_file(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file belongs to brrr and has tables of a known version.

    Raises:
        CorruptBackendError: Another program or a newer brrr-sqlite created the file.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise CorruptBackendError(
            f"{path} belongs to another program",
            remedy="Use a separate file for brrr. This one was not changed.",
        )
    version = _pragma(connection, "user_version")
    if not 1 <= version <= VERSION:
        raise CorruptBackendError(
            f"{path} has tables of version {version}, but this brrr-sqlite knows version {VERSION}",
            remedy="Install the newest brrr-sqlite, or use another file. This one was not changed.",
        )


def escape_surrogates(text: str) -> str:
    """Replace lone surrogates with escapes, in text that only people read."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
