"""The connection of a backend, on its own thread."""

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

from brrr_core.backend import translating
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_sqlite import schema
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.errors import translate_error
from brrr_sqlite.location import OpenFile
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.transactions import LockRetry

__all__ = ["Connection"]

T = TypeVar("T")
Then: TypeAlias = "Callable[[Future[Any]], object] | None"
Job: TypeAlias = "tuple[Future[Any], Callable[[], Any], Then] | None"
"""A function for the thread to call, the future of its result, and the function to call then. None ends the thread."""

MIN_SQLITE_VERSION: Final = (3, 35, 0)  # UPDATE ... RETURNING


class Connection:
    """A connection that calls functions on its thread: one thread hop for each function.

    The thread is a daemon, so a connection that was never closed does not keep the interpreter alive. The next process
    that opens the file rolls back the interrupted transaction.

    Args:
        file: The file to open.
        options: The settings of the connection.
        create: Whether to create a missing file.
        lock_retry: Waits for locks while the file is opened.
        checkpoints: Its connection is closed together with this one.
        clock: Synchronized with the file when it is opened.
    """

    def __init__(
        self,
        file: OpenFile,
        options: SqliteOptions,
        *,
        create: bool,
        lock_retry: LockRetry,
        checkpoints: Checkpoints,
        clock: Clock,
    ) -> None:
        self._file = file
        self._path = file.path
        self._translate = partial(translate_error, path=file.path)
        self._clock = clock
        self._options = options
        self._create = create
        self._lock_retry = lock_retry
        self._checkpoints = checkpoints
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._thread = Thread(target=_run_jobs, args=(self._jobs,), name="brrr-sqlite", daemon=True)
        self._opened: sqlite3.Connection | None = None
        self._closed = False
        self.created = False
        """Whether this connection created the tables."""

    async def open(self) -> None:
        """Open and check the file, and create the tables if it is new.

        Raises:
            BackendUnavailableError: The file cannot be opened or written, or it stays locked.
            CorruptBackendError: The file is damaged, or another program or a newer brrr-sqlite created it.
        """
        self._thread.start()
        try:
            with translating(Exception, self._translate):
                await self._submit(self._open_in_thread)
        except BaseException:
            self.stop_waiting()  # if the caller was cancelled, the thread may still wait for a lock
            raise

    def run(
        self, work: Callable[[sqlite3.Connection], T], *, then: "Callable[[Future[T]], object] | None" = None
    ) -> "Future[T]":
        """Call `work` on the thread and return the future of its result, which fails if the connection is closed.

        `then` is called with the future as soon as it is done. A callback of the future would run a turn later.
        """
        return self._submit(partial(self._run_in_thread, work), then=then)

    def stop_waiting(self) -> None:
        """Stop waiting for locks, so that the file can be closed immediately."""
        self._lock_retry.stop()

    async def close(self) -> None:
        """Close the file and end the thread, even if `open` failed or this call is cancelled."""
        try:
            if self._opened is not None:
                with translating(sqlite3.Error, self._translate):
                    await self._submit(self._close)
        finally:
            self._closed = True
            self.stop_waiting()
            if self._thread.is_alive():
                self._jobs.put(None)
                self._thread.join()
            self._close()  # if `open` was cancelled, the thread opened the file afterwards

    def __del__(self) -> None:
        self._jobs.put(None)
        if self._opened is not None:
            warn(f"the backend of {self._path} was never closed: use it inside `async with`", ResourceWarning, 2)

    def _submit(self, work: Callable[[], T], *, then: "Callable[[Future[T]], object] | None" = None) -> "Future[T]":
        loop = get_running_loop()
        future: Future[T] = loop.create_future()
        if self._closed:
            future.set_exception(BackendClosedError(f"{self._path} was closed", remedy="Use it inside `async with`."))
            if then is not None:
                loop.call_soon(then, future)
        else:
            self._jobs.put((future, work, then))
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
        _check_path(self._path, create=self._create)
        self._opened = self._connect()
        self._prepare(self._opened)
        self._file.remember()

    def _connect(self) -> sqlite3.Connection:
        if not self._create or self._path.exists():
            return self._connect_to("mode=rw")
        # SQLite copies the permissions of another file (https://www.sqlite.org/uri.html), so that the new file never
        # has wider ones, not even for a moment. It gives -wal and -shm the permissions of the file.
        try:
            with NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}-mode-") as model:
                Path(model.name).chmod(int(self._options.mode, 8))
                return self._connect_to(f"mode=rwc&modeof={quote(model.name)}")
        except OSError as error:
            raise BackendUnavailableError(
                f"{self._path} cannot be created in its folder ({error})",
                remedy="Check that this user may write to the folder, and that the disk has space.",
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
        options, retry = self._options, self._lock_retry.run
        if not retry(lambda: schema.is_new(connection)):
            retry(lambda: schema.check_file(connection, self._path))  # before the first change to the file
        (mode,) = retry(lambda: connection.execute("PRAGMA journal_mode = wal").fetchone())
        if mode != "wal":
            raise BackendUnavailableError(
                f"the file system of {self._path} has no shared memory (SQLite's journal mode stays {mode!r})",
                remedy="Move the file to a local disk.",
            )
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute(f"PRAGMA cache_size = -{max(1, options.page_cache // 1024)}")
        # Some builds overwrite deleted data with zeros, so that deleting a large value writes its whole size again.
        connection.execute("PRAGMA secure_delete = fast").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py replaces it
        connection.execute(f"PRAGMA journal_size_limit = {int(options.wal_size)}")
        # Check again under the write lock, as another process may have created the tables meanwhile. Taking the
        # lock also shows immediately, and not at the first operation, whether the file is writable.
        retry(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            if schema.is_new(connection):
                schema.create(connection)
                self.created = True
            schema.check_file(connection, self._path)
            schema.migrate(connection)
            self._clock.synchronize(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _run_jobs(jobs: "SimpleQueue[Job]") -> None:
    """Run the jobs of a connection in order.

    The thread holds no reference to the connection, so that a connection that was never closed can be collected.
    """
    while (job := jobs.get()) is not None:
        future, work, then = job
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the job
            failure = error
        with suppress(RuntimeError):  # the loop was closed while its backend was open
            future.get_loop().call_soon_threadsafe(_settle, future, result, failure, then)
        del job, future, work, then, result, failure  # keep nothing alive while waiting for the next job


def _settle(future: "Future[T]", result: T, failure: BaseException | None, then: Then) -> None:
    if not future.done():  # the caller was not cancelled
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
    if then is not None:
        then(future)


def _check_path(path: Path, *, create: bool) -> None:
    """Explain the problems for which SQLite only says 'unable to open database file'."""
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        needed = ".".join(map(str, MIN_SQLITE_VERSION))
        raise BackendError(
            f"this Python has SQLite {sqlite3.sqlite_version}, but brrr-sqlite needs {needed} or newer",
            remedy="Use a Python that is built with a newer SQLite.",
        )
    if not path.parent.is_dir():
        raise BackendUnavailableError(
            f"the folder {path.parent} of {path.name} does not exist",
            remedy="Create the folder, or run `brrr setup` with this URL to create the folder and the file.",
        )
    if path.is_dir():
        raise BackendUnavailableError(f"{path} is a folder", remedy="Name a file in that folder.")
    if not create and not path.exists():
        raise BackendUnavailableError(
            f"{path} does not exist, and create=false",
            remedy="Check the spelling of the URL, or run `brrr setup` with it.",
        )
