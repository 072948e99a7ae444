"""The one connection of a backend, on a thread of its own."""

import sqlite3
from asyncio import Future, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote
from warnings import warn

from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_sqlite import schema
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.failures import translated
from brrr_sqlite.location import OpenFile
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.transactions import Patience

__all__ = ["Connection"]

T = TypeVar("T")
Job: TypeAlias = "tuple[Future[Any], Callable[[], Any]] | None"
"""What the thread shall do, and the future of its result; None ends the thread."""

OLDEST: Final = (3, 35, 0)  # UPDATE ... RETURNING


class Connection:
    """A connection that runs whole functions on its thread, one hop each.

    A connection that is never closed does not keep the interpreter from its end: the thread is a daemon. What it then
    has under way is rolled back by the next process that opens the file.

    Args:
        file: The file.
        options: How it is opened.
        create: Whether a file is made where there is none.
        patience: Waits for locks while opening.
        checkpoints: Moves the log; its connection is closed with this one.
        clock: Is given the file's time.
    """

    def __init__(
        self,
        file: OpenFile,
        options: SqliteOptions,
        *,
        create: bool,
        patience: Patience,
        checkpoints: Checkpoints,
        clock: Clock,
    ) -> None:
        self._file = file
        self._path = file.path
        self._clock = clock
        self._options = options
        self._create = create
        self._patience = patience
        self._checkpoints = checkpoints
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._thread = Thread(target=_work, args=(self._jobs,), name="brrr-sqlite", daemon=True)
        self._opened: sqlite3.Connection | None = None
        self._closed = False
        self.created = False
        """Whether the tables were made by this connection."""

    async def open(self) -> None:
        """Open the file, see what it is, and make the tables where it is new.

        Raises:
            BackendUnavailableError: The file cannot be opened or written, or stays locked.
            CorruptBackendError: It is damaged, not brrr's, or a newer brrr-sqlite's.
        """
        self._thread.start()
        try:
            await self._hop(self._open_in_thread)
        except BaseException as error:
            self.hurry()  # where it was cancelled, the thread may still wait for a lock
            if isinstance(error, Exception):
                raise translated(error, self._path) from error
            raise

    def run(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Run `work` on the thread; the future of its result. It fails once the connection is closed."""
        return self._hop(partial(self._run_in_thread, work))

    def hurry(self) -> None:
        """Wait for no lock any more: the file is to be closed at once."""
        self._patience.end()

    async def close(self) -> None:
        """Close the file, and end the thread. Works after `open` failed, and if it is cancelled itself."""
        try:
            if self._opened is not None:
                await self._hop(self._close)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        finally:
            self._closed = True
            self.hurry()
            if self._thread.is_alive():
                self._jobs.put(None)
                self._thread.join()
            self._close()  # `open` was cancelled, and the thread went on opening

    def __del__(self) -> None:
        self._jobs.put(None)
        if self._opened is not None:
            warn(f"the backend of {self._path} was never closed: use it inside `async with`", ResourceWarning, 2)

    def _hop(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = get_running_loop().create_future()
        if self._closed:
            future.set_exception(BackendClosedError(f"{self._path} was closed", remedy="Use it inside `async with`."))
        else:
            self._jobs.put((future, work))
        return future

    def _run_in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._opened is not None  # noqa: S101 - `open` has succeeded
        return work(self._opened)

    def _close(self) -> None:
        self._checkpoints.close()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open_in_thread(self) -> None:
        _check_place(self._path, create=self._create)
        self._opened = self._connect()
        self._prepare(self._opened)
        self._file.mark()

    def _connect(self) -> sqlite3.Connection:
        if not self._create or self._path.exists():
            return self._connect_to("mode=rw")
        # A file is made with the mode of another one, never a moment without: https://www.sqlite.org/uri.html
        # So are -wal and -shm, with the mode of the file.
        try:
            with NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}-mode-") as model:
                Path(model.name).chmod(int(self._options.mode, 8))
                return self._connect_to(f"mode=rwc&modeof={quote(model.name)}")
        except OSError as error:
            raise BackendUnavailableError(
                f"{self._path} cannot be opened: no file can be made in its folder ({error})",
                remedy="See that this user may write to the folder, and that the disk has space.",
            ) from error

    def _connect_to(self, query: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.as_uri()}?{query}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )

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
            self._clock.join(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _work(jobs: "SimpleQueue[Job]") -> None:
    """Do the jobs of a connection, in their order. It does not hold the connection, which can be forgotten unclosed."""
    while (job := jobs.get()) is not None:
        future, work = job
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            failure = error
        with suppress(RuntimeError):  # the loop was closed with its backend open
            future.get_loop().call_soon_threadsafe(_settle, future, result, failure)
        del job, future, work, result, failure  # kept alive by nobody while the next one is waited for


def _settle(future: "Future[T]", result: T, failure: BaseException | None) -> None:
    if future.done():  # its caller was cancelled
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


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
