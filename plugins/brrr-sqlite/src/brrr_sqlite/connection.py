"""The one connection of a backend, on the thread that aiosqlite gives it."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar, cast

import aiosqlite

from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_sqlite import schema
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.failures import translated
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.transactions import Patience

__all__ = ["Connection"]

T = TypeVar("T")

OLDEST: Final = (3, 35, 0)  # UPDATE ... RETURNING


class Connection(aiosqlite.Connection):
    """A connection that runs whole functions on its thread, one hop each.

    aiosqlite's own methods make one hop a statement, at about 200 µs each. Its `_execute` runs any function, and is
    protected; `run` is the only place that uses it, and `close` the only one that touches the thread.

    Args:
        path: The file, absolute.
        options: How it is opened.
        create: Whether a file is made where there is none.
        patience: Waits for locks while opening.
        checkpoints: Moves the log; its connection is closed with this one.
    """

    def __init__(
        self, path: Path, options: SqliteOptions, *, create: bool, patience: Patience, checkpoints: Checkpoints
    ) -> None:
        super().__init__(self._connect_in_thread, iter_chunk_size=64)
        self._path = path
        self._options = options
        self._create = create
        self._patience = patience
        self._checkpoints = checkpoints
        self._opened: sqlite3.Connection | None = None
        self.created = False
        """Whether the tables were made by this connection."""

    async def open(self) -> None:
        """Open the file, see what it is, and make the tables where it is new.

        Raises:
            BackendUnavailableError: The file cannot be opened or written, or stays locked.
            CorruptBackendError: It is damaged, not brrr's, or a newer brrr-sqlite's.
        """
        try:
            await self
        except Exception as error:
            raise translated(error, self._path) from error

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the thread. A caller that is cancelled does not stop it."""
        execute = cast("Callable[..., Awaitable[T]]", self._execute)  # pyright: ignore[reportUnknownMemberType]
        return await execute(work, self._conn)

    def hurry(self) -> None:
        """Wait for no lock any more: the file is to be closed at once."""
        self._patience.end()

    async def close(self) -> None:
        """Close the file, and end the thread. Works after `open` failed, and if it is cancelled itself."""
        try:
            if self._connection is not None:
                await self.run(lambda _: self._checkpoints.close())
            await super().close()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        finally:
            self.hurry()
            if self._thread.is_alive():
                self._thread.join()
            self._checkpoints.close()
            if self._opened is not None:  # `open` was cancelled while the thread was opening
                self._opened.close()
                self._opened = None

    def _connect_in_thread(self) -> sqlite3.Connection:
        _check_place(self._path, create=self._create)
        uri = f"{self._path.as_uri()}?mode={'rwc' if self._create else 'rw'}"
        connection = sqlite3.connect(
            uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self._opened = connection
        self._prepare(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        options, until_free = self._options, self._patience.until_free
        if not until_free(lambda: schema.is_new(connection)):
            until_free(lambda: schema.check(connection, self._path))  # before anything in it is changed
        (mode,) = until_free(lambda: connection.execute("PRAGMA journal_mode = wal").fetchone())
        if mode != "wal":
            raise BackendUnavailableError(
                f"{self._path} is on a file system without shared memory (its journal stays {mode!r})",
                remedy="Keep it on a local disk.",
            )
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute(f"PRAGMA cache_size = -{max(1, options.page_cache // 1024)}")
        # Some builds overwrite whatever is deleted with zeros: as much is written again as a large value had.
        connection.execute("PRAGMA secure_delete = fast").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py does it
        connection.execute(f"PRAGMA journal_size_limit = {int(options.wal_size)}")
        # Another process may have made the tables meanwhile. That we can write is seen here too, before anything hangs
        # on it.
        until_free(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            if schema.is_new(connection):
                schema.create(connection)
                self.created = True
            schema.check(connection, self._path)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _check_place(path: Path, *, create: bool) -> None:
    """Tell what SQLite would only call 'unable to open database file'."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise BackendError(
            f"this Python has SQLite {sqlite3.sqlite_version}, and brrr-sqlite needs {'.'.join(map(str, OLDEST))}",
            remedy="Use a Python that is built with a newer SQLite.",
        )
    if not path.parent.is_dir():
        raise BackendUnavailableError(
            f"the folder {path.parent} of {path.name} does not exist",
            remedy="Make the folder, or let `brrr setup` make it with the file.",
        )
    if path.is_dir():
        raise BackendUnavailableError(f"{path} is a folder", remedy="Name a file in it.")
    if not create and not path.exists():
        raise BackendUnavailableError(
            f"{path} does not exist, and create=false", remedy="Run `brrr setup` with this URL, or see to its spelling."
        )
