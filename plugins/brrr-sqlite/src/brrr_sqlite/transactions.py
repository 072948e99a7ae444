"""How a group of asks runs on the connection's thread: reads without a lock, writes in one transaction."""

import sqlite3
from collections.abc import Callable, Sequence
from random import uniform
from threading import Event
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

from brrr_core.errors import BackendClosedError
from brrr_sqlite.asks import WRITE_NEEDED, Ask, Failure
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.failures import busy, translated
from brrr_sqlite.location import OpenFile

__all__ = ["AnyAsk", "Patience", "Transactions"]

T = TypeVar("T")
AnyAsk: TypeAlias = Ask[Any]
"""A group mixes asks of all types; the type of each stays between the ask and its own future."""

FIRST_PAUSE: Final = 0.0005
LONGEST_PAUSE: Final = 0.005


class Patience:
    """Waits for the locks of other connections, fairly.

    SQLite's own busy handler sleeps longer the longer it has waited, so that who came last wins; two of four busy
    processes starved for seconds. Short random pauses give each the same chance at any moment.

    Args:
        seconds: How long to go on before the error is let through.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = Event()

    def end(self) -> None:
        """Be patient no more: the connection is being given up."""
        self._over.set()

    def until_free(self, work: Callable[[], T]) -> T:
        """Do `work`, again and again while locks are in its way."""
        deadline, pause = monotonic() + self._seconds, FIRST_PAUSE
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if not busy(error) or monotonic() >= deadline or self._over.is_set():
                    raise
            self._over.wait(uniform(pause / 8, pause))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.5, LONGEST_PAUSE)


class Transactions:
    """Runs groups, and counts: the groups, and the write transactions that were committed.

    Used by one thread at a time. Each transaction fails if the file at its path is another one than the open one.
    """

    def __init__(self, file: OpenFile, patience: Patience, checkpoints: Checkpoints, clock: Clock) -> None:
        self.committed = 0
        self.groups = 0
        self._file = file
        self._clock = clock
        self._patience = patience
        self._checkpoints = checkpoints

    def run(self, connection: sqlite3.Connection, asks: Sequence[AnyAsk]) -> list[Any]:
        """The outcomes, in the order of the asks: each its own. What is written is on the disk when this returns."""
        self.groups += 1
        if any(ask.read is None for ask in asks):
            return self._write(connection, asks)
        try:
            self._file.check()
        except BackendClosedError as error:
            return [self.failure(error) for _ in asks]
        outcomes = [self._read(connection, ask) for ask in asks]
        rest = [place for place, outcome in enumerate(outcomes) if outcome is WRITE_NEEDED]
        if rest:
            written = self._write(connection, [asks[place] for place in rest])
            for place, outcome in zip(rest, written, strict=True):
                outcomes[place] = outcome
        return outcomes

    def failure(self, error: BaseException) -> Failure:
        """An error as an outcome, in the user's terms."""
        return Failure(translated(error, self._file.path))

    def _read(self, connection: sqlite3.Connection, ask: AnyAsk) -> Any:
        read = ask.read
        assert read is not None  # noqa: S101 - the caller has seen to it
        try:
            return self._patience.until_free(lambda: read(connection))
        except Exception as error:  # noqa: BLE001 - it is the ask's outcome
            return self.failure(error)

    def _write(self, connection: sqlite3.Connection, asks: Sequence[AnyAsk]) -> list[Any]:
        try:
            self._rollback(connection)  # where a failing disk has kept the last one from it
            self._patience.until_free(lambda: connection.execute("BEGIN IMMEDIATE"))
        except Exception as error:  # noqa: BLE001 - it is the outcome of every ask
            return [self.failure(error) for _ in asks]
        try:
            outcomes: list[Any] = [ask.inside(connection) for ask in asks]
        except Exception as error:  # noqa: BLE001 - it is the outcome of the ask that fails alone
            self._rollback(connection)
            if len(asks) == 1:
                return [self.failure(error)]
            return [self._alone(connection, ask) for ask in asks]  # who is to blame fails alone
        try:
            self._clock.note(connection)
            self._file.check()
            connection.execute("COMMIT")
            self.committed += 1
            self._checkpoints.after_commit(connection)
        except Exception as error:  # noqa: BLE001 - it is the outcome of every ask
            self._rollback(connection)
            return [self.failure(error) for _ in asks]
        return outcomes

    def _alone(self, connection: sqlite3.Connection, ask: AnyAsk) -> Any:
        if ask.read is not None:
            outcome = self._read(connection, ask)
            if outcome is not WRITE_NEEDED:
                return outcome
        return self._write(connection, [ask])[0]

    def _rollback(self, connection: sqlite3.Connection) -> None:
        # A full disk or a failing one may have rolled back already: https://www.sqlite.org/lang_transaction.html
        if connection.in_transaction:
            connection.execute("ROLLBACK")
