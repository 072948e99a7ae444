"""Moving the write-ahead log into the file, with every writer kept out meanwhile.

SQLite's own automatic checkpoint runs beside other processes' commits. Up to version 3.51.2 that can, very rarely, lose
committed pages and damage the file, when a commit starts the log anew while a checkpoint begins
(https://www.sqlite.org/wal.html#walresetbug). Here the connection that writes holds the write lock while a second one
checkpoints, so no commit can come between, whatever the version.
"""

import sqlite3
from typing import Final

from brrr_sqlite.location import OpenFile
from brrr_sqlite.options import SqliteOptions

__all__ = ["Checkpoints"]

AGAIN: Final = 4
"""A log that could not be started anew, because somebody reads in it, is moved again each time it has grown by a
quarter of `wal_size`."""


class Checkpoints:
    """Decides when the log is moved, and moves it. Used on the connection's thread.

    The log is cut back to `wal_size` when it starts anew (`journal_size_limit`), and grows from there only when that
    much was written again: so its size alone says when a checkpoint is due, whichever processes have written.

    Args:
        file: The file and its log.
        options: The log's size, and how durable a checkpoint is.
    """

    def __init__(self, file: OpenFile, options: SqliteOptions) -> None:
        self.done = 0
        """How many were made."""
        self._file = file
        self._options = options
        self._due_at = int(options.wal_size)
        self._mover: sqlite3.Connection | None = None

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Move the log if it is time. What was committed is safe in the log, so that failing here fails nobody.

        Raises:
            BackendClosedError: The log is not the one that was opened: what was committed is lost.
        """
        size, limit = self._file.log_size(), int(self._options.wal_size)
        if size <= limit:
            self._due_at = limit
        if size <= self._due_at:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._open().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            return  # somebody else writes, or the disk is full: the next commit tries again
        self.done += 1
        self._due_at = size + limit // AGAIN

    def close(self) -> None:
        """Close the second connection, if there is one."""
        mover, self._mover = self._mover, None
        if mover is not None:
            mover.close()

    def _open(self) -> sqlite3.Connection:
        if self._mover is None:
            self._mover = sqlite3.connect(
                f"{self._file.path.as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._mover.execute(f"PRAGMA synchronous = {self._options.synchronous}")
        return self._mover
