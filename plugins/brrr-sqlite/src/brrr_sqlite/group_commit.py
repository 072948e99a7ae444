"""Group commit: all operations that callers start during one commit share the next one."""

import sqlite3
from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from brrr_core.backend import Gate
from brrr_core.errors import BackendError
from brrr_sqlite.connection import Connection
from brrr_sqlite.location import OpenFile
from brrr_sqlite.news import News
from brrr_sqlite.receivers import Claim, Leases, Leasing, Receivers
from brrr_sqlite.transactions import AnyOperation, Operation, Transactions, WriteNeeded

__all__ = ["GroupCommit"]

T = TypeVar("T")
LeasesT = TypeVar("LeasesT", bound=Leases)

MAX_GROUP_OPERATIONS: Final = 1000
"""The most operations of one group. Other processes wait for the write lock while it runs."""

GROUPS_WITHOUT_COMPANY: Final = 8
"""After this many groups of one operation in a row, the next operation starts its group immediately."""


class GroupCommit:
    """Collect operations and run them in groups, each group in one hop to the connection's thread.

    A group consists of the operations that started while the previous group ran, or in one turn of the event loop. It
    waits for no timer. After `GROUPS_WITHOUT_COMPANY` groups of one operation, it does not even wait for the end of the
    turn. The operations
    of a group run in the order in which they started, except that claims run last. So a read sees every write that
    finished before the read began.

    Args:
        connection: An open connection.
        transactions: Runs the groups.
        file: The open file and its write-ahead log.
        poll: Seconds between two checks of the log while a receiver waits.
        loop: The running event loop.
    """

    def __init__(
        self,
        connection: Connection,
        transactions: Transactions,
        *,
        file: OpenFile,
        poll: float,
        loop: AbstractEventLoop,
    ) -> None:
        self.log = file.log
        self.receivers = Receivers(file.log, poll=poll, loop=loop, submit=self._submit)
        self._connection = connection
        self._transactions = transactions
        self._loop = loop
        self._pending: deque[AnyOperation] = deque()
        self._running: Future[list[Any]] | None = None
        self._group: list[AnyOperation] = []
        self._alone = 0
        """How many groups in a row had one operation."""
        self._topics: set[str] = set()
        self._values: set[str] = set()
        self.gate = Gate()
        self.news = News(file.path, self.receivers, loop=loop)

    async def read(self, work: Callable[[sqlite3.Connection], T | WriteNeeded]) -> T:
        """Run `work`, which only reads, and return its outcome."""
        return await self.run(Operation(self._loop.create_future(), read=work))

    async def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        topics: Collection[str] = (),
        values: Collection[str] = (),
    ) -> T:
        """Run `work` and return its outcome after the commit. If the caller is cancelled, all or none of it is done.

        Args:
            work: Runs inside a write transaction.
            topics: The topics to which it may add ready messages.
            values: The calls of which it may create the value.
        """
        return await self.run(Operation(self._loop.create_future(), write=work, topics=topics, values=values))

    async def lease(self, operation: Leasing[LeasesT]) -> LeasesT:
        """Run an operation that leases messages. If the caller is cancelled, undo the leases immediately."""
        try:
            return await self.run(operation)
        except CancelledError:
            operation.cancel()
            raise

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation and return its outcome.

        Raises:
            BackendClosedError: The backend is closed.
            ForkedError: Another process opened the backend; the connection's thread runs only there.
            BackendError: The operation failed.
        """
        self.gate.check()
        claim: AnyOperation = operation  # without the type of its outcome
        if isinstance(claim, Claim):
            self.news.listen()
        if not (isinstance(claim, Claim) and self.receivers.wait_if_empty(claim)):
            self._submit(operation)
        return await operation.future

    async def close(self) -> None:
        """Refuse new operations and finish the pending ones. Waiting receivers raise `BackendClosedError`."""
        self.gate.refuse()
        self.news.stop()
        self.receivers.close()
        last: Operation[None] = Operation(self._loop.create_future(), read=lambda _: None)
        self._submit(last)
        try:
            with suppress(BackendError):
                await last.future
        finally:
            self.news.close()

    def _submit(self, operation: AnyOperation) -> None:
        # A pending operation has scheduled a step. If it was cancelled, its step may have been interrupted: schedule
        # another one. Schedule it first: KeyboardInterrupt between these lines must not leave an operation without one.
        needs_step = not self._pending or self._pending[0].future.done()
        if needs_step and (self._running is None or self._running.done()):
            if self._alone >= GROUPS_WITHOUT_COMPANY and self._running is None:
                self._start_with(operation)
                return
            self._loop.call_soon(self._step)
        self._pending.append(operation)

    def _start_with(self, operation: AnyOperation) -> None:
        """Start a group immediately: no other operation is expected in this turn of the loop."""
        self._pending.append(operation)
        try:
            self._start_group()
        except BaseException:  # KeyboardInterrupt
            self._loop.call_soon(self._step)
            raise

    # Steps are callbacks, not a task: `asyncio.run` cancels all tasks together, but their clean-up needs the file.
    def _step(self, _: object = None) -> None:
        """Settle the group that has just run, if there is one, and start the next group."""
        ran = self._running
        if ran is None:
            self._start_group()
        elif ran.done():
            self._running = None
            try:
                self._settle_group(ran)
            finally:
                self._start_group()

    def _start_group(self) -> None:
        while self._pending:
            self._group = self._take_group()
            if self._group:
                self.receivers.before_group()
                work = partial(self._transactions.run, operations=self._group)
                self._running = self._connection.run(work, then=self._step)
                return

    def _settle_group(self, ran: "Future[list[Any]]") -> None:
        if self._topics or self._values:
            self.news.publish(self._topics, self._values)
        error = ran.exception()
        outcomes = ran.result() if error is None else [self._transactions.failure(error)] * len(self._group)
        for operation, outcome in zip(self._group, outcomes, strict=True):
            operation.settle(outcome)

    def _take_group(self) -> list[AnyOperation]:
        """Return the next group. Remember the topics and calls to which it may add ready messages and values."""
        size = min(len(self._pending), MAX_GROUP_OPERATIONS)
        taken = [
            operation for operation in (self._pending.popleft() for _ in range(size)) if not operation.future.done()
        ]
        self._alone = self._alone + 1 if len(taken) == 1 else 0
        topics = self._topics = {topic for operation in taken for topic in operation.topics}
        self._values = {call_hash for operation in taken for call_hash in operation.values}
        # Claims come last, so that they find the messages of their own group; those that waited longest come first.
        group = [operation for operation in taken if not isinstance(operation, Claim)]
        if topics:
            group += self.receivers.take_waiting(topics)
        group += [operation for operation in taken if isinstance(operation, Claim)]
        return group
