"""Operations on the file, and the transactions that run them in groups on the connection's thread.

Reads take no lock. All writes of a group share one transaction.
"""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from random import uniform
from threading import Event
from time import monotonic
from typing import Any, Final, Generic, TypeAlias, TypeVar

from brrr_core.errors import BackendClosedError, BrrrError
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.errors import is_busy, translate_error
from brrr_sqlite.expiry import Expiry
from brrr_sqlite.location import OpenFile

__all__ = [
    "WRITE_NEEDED",
    "AnyOperation",
    "Failure",
    "LockRetry",
    "Operation",
    "Outcome",
    "Transactions",
    "WriteNeeded",
]

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.0005
LONGEST_PAUSE_SECONDS: Final = 0.005


class WriteNeeded(Enum):
    """The type of `WRITE_NEEDED`, which a read returns if only the write can give the outcome."""

    WRITE_NEEDED = 0


WRITE_NEEDED: Final = WriteNeeded.WRITE_NEEDED


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an operation that failed, alone or with its whole group."""

    error: BrrrError


Outcome: TypeAlias = T | Failure


class Operation(Generic[T]):
    """One operation of a caller. It has a read, a write, or both.

    Args:
        future: Receives the outcome. If it is already done (cancelled), the next group skips the operation.
        read: Returns the outcome or `WRITE_NEEDED`. It runs outside a transaction and takes no lock.
        write: Returns the outcome. It runs inside a write transaction.
        topics: The topics to which the write may add ready messages.
        values: The calls of which the write may create the value.
    """

    __slots__ = ("future", "read", "topics", "values", "write")

    def __init__(
        self,
        future: Future[T],
        *,
        read: Callable[[sqlite3.Connection], T | WriteNeeded] | None = None,
        write: Callable[[sqlite3.Connection], T] | None = None,
        topics: Collection[str] = (),
        values: Collection[str] = (),
    ) -> None:
        self.future = future
        self.read = read
        self.write = write
        self.topics = topics
        self.values = values

    def run_in_transaction(self, connection: sqlite3.Connection) -> T:
        """Run the write, or else the read, inside a write transaction. Return the outcome."""
        if self.write is not None:
            return self.write(connection)
        assert self.read is not None  # noqa: S101 - an operation has a read or a write
        outcome = self.read(connection)
        assert not isinstance(outcome, WriteNeeded)  # noqa: S101 - an operation whose read returns it has a write
        return outcome

    def settle(self, outcome: Outcome[T]) -> None:
        """Give the outcome to the caller, unless the caller was cancelled."""
        if self.future.done():
            return
        if isinstance(outcome, Failure):
            self.future.set_exception(outcome.error)
        else:
            self.future.set_result(outcome)


AnyOperation: TypeAlias = Operation[Any]
"""An operation of any type, as groups mix them. The outcome keeps its type between an operation and its future."""


class LockRetry:
    """Retry while other connections hold a lock.

    The pauses of SQLite's own busy handler grow with the waiting time, which favours newcomers: of four busy processes,
    two starved for seconds. Short random pauses give every process the same chance.

    Args:
        timeout: Seconds after which the error is raised.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._stopped = Event()

    def stop(self) -> None:
        """Let the next failure raise, because the connection is closing. May be called from any thread."""
        self._stopped.set()

    def run(self, work: Callable[[], T]) -> T:
        """Call `work` until it meets no lock, and return its result."""
        deadline, pause = monotonic() + self._timeout, FIRST_PAUSE_SECONDS
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or monotonic() >= deadline or self._stopped.is_set():
                    raise
            self._stopped.wait(uniform(pause / 8, pause))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


class Transactions:
    """Runs groups of operations. Only one thread at a time may use it.

    A group fails if the open file is no longer at its path.
    """

    def __init__(
        self, file: OpenFile, lock_retry: LockRetry, checkpoints: Checkpoints, clock: Clock, expiry: Expiry
    ) -> None:
        self.committed = 0
        """The number of committed write transactions that changed something."""
        self.groups = 0
        """The number of groups, including those that only read."""
        self._file = file
        self._clock = clock
        self._expiry = expiry
        self._lock_retry = lock_retry
        self._checkpoints = checkpoints

    def run(self, connection: sqlite3.Connection, operations: Sequence[AnyOperation]) -> list[Any]:
        """Return the outcome of each operation, in the order of the operations. All writes are then committed."""
        self.groups += 1
        if any(operation.read is None for operation in operations):
            return self._write(connection, operations)
        try:
            self._file.check()
        except BackendClosedError as error:
            return [self.failure(error) for _ in operations]
        outcomes = [self._read(connection, operation) for operation in operations]
        rest = [index for index, outcome in enumerate(outcomes) if outcome is WRITE_NEEDED]
        if rest:
            written = self._write(connection, [operations[index] for index in rest])
            for index, outcome in zip(rest, written, strict=True):
                outcomes[index] = outcome
        return outcomes

    def failure(self, error: BaseException) -> Failure:
        """Return the outcome for an error, translated for the user."""
        return Failure(translate_error(error, self._file.path))

    def _read(self, connection: sqlite3.Connection, operation: AnyOperation) -> Any:
        read = operation.read
        assert read is not None  # noqa: S101 - the callers check it
        try:
            return self._lock_retry.run(lambda: read(connection))
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of the operation
            return self.failure(error)

    def _write(self, connection: sqlite3.Connection, operations: Sequence[AnyOperation]) -> list[Any]:
        try:
            self._rollback(connection)  # again, in case a failing disk prevented the previous rollback
            self._lock_retry.run(lambda: connection.execute("BEGIN IMMEDIATE"))
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of every operation
            return [self.failure(error) for _ in operations]
        before = connection.total_changes
        try:
            outcomes: list[Any] = [operation.run_in_transaction(connection) for operation in operations]
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of the operation that fails alone
            self._rollback(connection)
            if len(operations) == 1:
                return [self.failure(error)]
            return [self._run_alone(connection, operation) for operation in operations]  # so only the faulty one fails
        try:
            self._file.check()
            if connection.total_changes == before:  # for example, no step was applied
                self._rollback(connection)
                return outcomes
            self._clock.record(connection)
            self._expiry.sweep(connection)
            connection.execute("COMMIT")
            self.committed += 1
            self._checkpoints.after_commit(connection)
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of every operation
            self._rollback(connection)
            return [self.failure(error) for _ in operations]
        return outcomes

    def _run_alone(self, connection: sqlite3.Connection, operation: AnyOperation) -> Any:
        if operation.read is not None:
            outcome = self._read(connection, operation)
            if outcome is not WRITE_NEEDED:
                return outcome
        return self._write(connection, [operation])[0]

    def _rollback(self, connection: sqlite3.Connection) -> None:
        # SQLite itself rolls back after some errors, such as a full disk: https://www.sqlite.org/lang_transaction.html
        if connection.in_transaction:
            connection.execute("ROLLBACK")
