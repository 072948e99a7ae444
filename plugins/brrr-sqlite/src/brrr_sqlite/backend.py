"""The backend of `sqlite:`. It opens the file and builds the roles on it."""

import sqlite3
from asyncio import get_running_loop, to_thread
from pathlib import Path

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_core.errors import BackendUnavailableError
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.connection import Connection
from brrr_sqlite.expiry import Expiry, collect
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.location import OpenFile, database_path
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.queue import SqliteQueue
from brrr_sqlite.schema import VERSION
from brrr_sqlite.steps import SqliteSteps
from brrr_sqlite.store import SqliteCache, SqliteStore
from brrr_sqlite.transactions import LockRetry, Transactions

__all__ = ["SqliteBackend"]


class SqliteBackend(Backend):
    """Queue, store and cache in one SQLite file, through one connection on its own thread.

    Any number of backends and processes on one machine may open the file at the same time.

    Args:
        url: `sqlite:///relative.db` or `sqlite:////absolute.db`.
        options: Durability, durations and sizes.
        clock: Decides when messages are ready. Only tests pass one; by default, the machine's clocks are used.

    Raises:
        UrlError: The URL does not name a file.
    """

    def __init__(self, url: BackendUrl, options: SqliteOptions | None = None, *, clock: Clock | None = None) -> None:
        self.path: Path = database_path(url)
        self._options = SqliteOptions() if options is None else options
        self._clock = Clock() if clock is None else clock
        self._transactions: Transactions | None = None
        self._connection: Connection | None = None
        self._commits: GroupCommit | None = None

    @property
    def transactions(self) -> int:
        """The number of write transactions that changed the file since the backend was last opened."""
        return 0 if self._transactions is None else self._transactions.committed

    async def start(self) -> Roles:
        """Open the file. Create it if it does not exist, unless `create` is off."""
        options, loop, lock_retry = self._options, get_running_loop(), LockRetry(self._options.busy_timeout)
        file, clock = OpenFile(self.path), self._clock
        checkpoints = Checkpoints(file, options)
        expiry = Expiry(options.ttl, clock)
        self._transactions = Transactions(file, lock_retry, checkpoints, clock, expiry)
        self._connection = Connection(
            file, options, create=options.create, lock_retry=lock_retry, checkpoints=checkpoints, clock=clock
        )
        await self._connection.open()
        self._commits = GroupCommit(
            self._connection,
            self._transactions,
            file=file,
            poll=options.poll,
            loop=loop,
        )
        queue = SqliteQueue(self._commits, lease=options.lease, clock=clock, expiry=expiry, loop=loop)
        steps = SqliteSteps(self._commits, queue, clock=clock, expiry=expiry, loop=loop)
        return Roles(
            queue=queue, store=SqliteStore(self._commits, expiry), cache=SqliteCache(self._commits), steps=steps
        )

    async def collect(self, *, dry_run: bool) -> list[str]:
        """Delete expired records, and records that finished calls left over, in transactions of bounded size."""
        assert self._commits is not None  # noqa: S101 - the backend is open
        commits, clock, expired, left_over = self._commits, self._clock, 0, 0

        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            return collect(connection, clock(), dry_run=dry_run)

        while any(found := await (commits.read(work) if dry_run else commits.write(work))):
            expired, left_over = expired + found[0], left_over + found[1]
            if dry_run:
                break
        verb = "would remove" if dry_run else "removed"
        return [
            f"{verb} {expired:,} expired records",
            f"{verb} {left_over:,} records of sleeps, versions and states that finished calls left over",
        ]

    async def stop(self) -> None:
        """Finish the pending operations, close the file and end the thread."""
        commits, self._commits = self._commits, None
        connection, self._connection = self._connection, None
        try:
            if commits is not None:
                await commits.close()
        except BaseException:
            if connection is not None:
                connection.stop_waiting()
            raise
        finally:
            if connection is not None:
                await connection.close()
                if (
                    commits is not None and not commits.log.exists()
                ):  # SQLite removes the log when the last connection closes
                    commits.news.remove_file()

    async def setup(self) -> list[str]:
        """Create the folder, and the file with its tables. Return one line for each step."""
        done: list[str] = []
        folder = self.path.parent
        if not folder.is_dir():
            try:
                await to_thread(folder.mkdir, parents=True, exist_ok=True)
            except OSError as error:
                raise BackendUnavailableError(
                    f"cannot create the folder {folder} ({error})",
                    remedy="Create it yourself, or use a file in another folder.",
                ) from error
            done.append(f"created the folder {folder}")
        options, lock_retry = self._options, LockRetry(self._options.busy_timeout)
        file = OpenFile(self.path)
        checkpoints = Checkpoints(file, options)
        connection = Connection(
            file, options, create=True, lock_retry=lock_retry, checkpoints=checkpoints, clock=self._clock
        )
        try:
            await connection.open()
        finally:
            await connection.close()
        done.append(
            f"created {self.path} with tables of version {VERSION}"
            if connection.created
            else f"{self.path} exists and has tables of version {VERSION}"
        )
        return done
