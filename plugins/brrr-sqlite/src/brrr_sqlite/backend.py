"""The backend class of `sqlite:`: opens the file, and puts the roles on it."""

from asyncio import get_running_loop, to_thread
from pathlib import Path

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_core.errors import BackendUnavailableError
from brrr_sqlite.bells import bell_of
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.connection import Connection
from brrr_sqlite.group_commit import GroupCommit
from brrr_sqlite.location import OpenFile, path_of
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.queue import SqliteQueue
from brrr_sqlite.schema import VERSION
from brrr_sqlite.store import SqliteCache, SqliteStore
from brrr_sqlite.transactions import Patience, Transactions

__all__ = ["SqliteBackend"]


class SqliteBackend(Backend):
    """Queue, store and cache in one SQLite file, through one connection on one thread.

    Any number of backends, in any number of processes of one machine, may have the file open.

    Args:
        url: `sqlite:///relative.db` or `sqlite:////absolute.db`.
        options: Durability, lease, waits and sizes.
        clock: By what messages fall due: the machine's unless a test has its own.

    Raises:
        UrlError: The URL names no file.
    """

    def __init__(self, url: BackendUrl, options: SqliteOptions | None = None, *, clock: Clock | None = None) -> None:
        self.path: Path = path_of(url)
        self._options = SqliteOptions() if options is None else options
        self._clock = Clock() if clock is None else clock
        self._transactions: Transactions | None = None
        self._connection: Connection | None = None
        self._commits: GroupCommit | None = None

    @property
    def transactions(self) -> int:
        """How many write transactions were committed since the backend was opened last."""
        return 0 if self._transactions is None else self._transactions.committed

    async def start(self) -> Roles:
        """Open the file, and make it where there is none (unless `create` is off)."""
        options, loop, patience = self._options, get_running_loop(), Patience(self._options.busy_timeout)
        file, clock = OpenFile(self.path), self._clock
        checkpoints = Checkpoints(file, options)
        self._transactions = Transactions(file, patience, checkpoints, clock)
        self._connection = Connection(
            file, options, create=options.create, patience=patience, checkpoints=checkpoints, clock=clock
        )
        await self._connection.open()
        self._commits = GroupCommit(
            self._connection,
            self._transactions,
            log=file.log,
            bell=bell_of(self.path),
            poll=options.poll,
            loop=loop,
        )
        queue = SqliteQueue(self._commits, lease=options.lease, clock=clock, loop=loop)
        return Roles(queue=queue, store=SqliteStore(self._commits), cache=SqliteCache(self._commits))

    async def stop(self) -> None:
        """Finish what was asked, close the file, and end the thread."""
        commits, self._commits = self._commits, None
        connection, self._connection = self._connection, None
        try:
            if commits is not None:
                await commits.close()
        except BaseException:
            if connection is not None:
                connection.hurry()
            raise
        finally:
            if connection is not None:
                await connection.close()

    async def setup(self) -> list[str]:
        """Make the folder and the file with its tables. Says what it did."""
        done: list[str] = []
        folder = self.path.parent
        if not folder.is_dir():
            try:
                await to_thread(folder.mkdir, parents=True, exist_ok=True)
            except OSError as error:
                raise BackendUnavailableError(
                    f"the folder {folder} cannot be made ({error})", remedy="Make it, or name another file."
                ) from error
            done.append(f"made the folder {folder}")
        options, patience = self._options, Patience(self._options.busy_timeout)
        file = OpenFile(self.path)
        checkpoints = Checkpoints(file, options)
        connection = Connection(
            file, options, create=True, patience=patience, checkpoints=checkpoints, clock=self._clock
        )
        try:
            await connection.open()
        finally:
            await connection.close()
        done.append(
            f"made {self.path}, tables of version {VERSION}"
            if connection.created
            else f"{self.path} is there, tables of version {VERSION}"
        )
        return done
