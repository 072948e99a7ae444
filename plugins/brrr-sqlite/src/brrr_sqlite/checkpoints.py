"""Checkpoints: they move the write-ahead log into the file while all writers are locked out.

SQLite's automatic checkpoint runs while other processes commit. Up to version 3.51.2, if a commit restarts the
log while a checkpoint begins, SQLite can, very rarely, lose committed pages and damage the file
(https://www.sqlite.org/wal.html#walresetbug). Here the writing connection holds the write lock while a second one runs
the checkpoint. So no commit can interfere, in any version of SQLite.
"""

import sqlite3
from typing import Final

from brrr_sqlite.location import OpenFile
from brrr_sqlite.options import SqliteOptions

__all__ = ["Checkpoints"]

RETRIES_PER_WAL_SIZE: Final = 4
"""A reader can keep a checkpoint from restarting the log. The next checkpoint then runs when the log has grown by
another quarter of `wal_size`."""


class Checkpoints:
    """Decide when a checkpoint is due, and run it. Only the connection's thread uses this class.

    When the log restarts, SQLite truncates it to `wal_size` (`journal_size_limit`). It grows beyond that only after as
    much was written again. So the size alone shows whether a checkpoint is due, even if other processes wrote to it.

    Args:
        file: The open file and its log.
        options: The size of the log, and the durability of a checkpoint.
    """

    def __init__(self, file: OpenFile, options: SqliteOptions) -> None:
        self.completed = 0
        """The number of completed checkpoints."""
        self._file = file
        self._options = options
        self._due_at = int(options.wal_size)
        self._connection: sqlite3.Connection | None = None

    def after_commit(self, writer: sqlite3.Connection) -> None:
        """Run a checkpoint if one is due. Never raises a SQLite error: the commit is already safe in the log.

        Raises:
            BackendClosedError: The log was removed, moved or replaced, so the commit is lost.
        """
        size, limit = self._file.log_size(), int(self._options.wal_size)
        if size <= limit:
            self._due_at = limit
        if size <= self._due_at:
            return
        try:
            writer.execute("BEGIN IMMEDIATE")
            try:
                self._open().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                writer.execute("ROLLBACK")
        except sqlite3.Error:
            return  # another process is writing, or the disk is full: the next commit tries again
        self.completed += 1
        self._due_at = size + limit // RETRIES_PER_WAL_SIZE

    def close(self) -> None:
        """Close the second connection, if it was opened."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._file.path.as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute(f"PRAGMA synchronous = {self._options.synchronous}")
        return self._connection
