"""Group commit: all that is asked while a commit is under way shares the next one."""

import os
import sqlite3
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from brrr_core.errors import BackendClosedError, BackendError, ForkedError
from brrr_sqlite.asks import Ask, WriteNeeded
from brrr_sqlite.bells import Bell
from brrr_sqlite.connection import Connection
from brrr_sqlite.receivers import Claim, Receivers
from brrr_sqlite.transactions import AnyAsk, Transactions

__all__ = ["GroupCommit"]

T = TypeVar("T")

LARGEST: Final = 1000
"""Asks in one group: other processes wait for the lock meanwhile."""


class GroupCommit:
    """Gathers asks, and runs them group by group, each group in one hop to the connection's thread.

    A group is whatever was asked while the one before it ran; there is no timer and no delay. Its asks run in the order
    in which they were asked, receivers after all others; so a read sees every write that finished before it began.

    Args:
        connection: Open.
        transactions: Runs the groups.
        log: The file's write-ahead log.
        bell: Tells the other backends of the process.
        poll: Seconds between two glances at the log while a receiver waits.
        loop: The running loop.
    """

    def __init__(
        self,
        connection: Connection,
        transactions: Transactions,
        *,
        log: Path,
        bell: Bell,
        poll: float,
        loop: AbstractEventLoop,
    ) -> None:
        self.receivers = Receivers(log, poll=poll, loop=loop, submit=self._submit)
        self._connection = connection
        self._transactions = transactions
        self._bell = bell
        self._loop = loop
        self._pending: deque[AnyAsk] = deque()
        self._running: Future[list[Any]] | None = None
        self._group: list[AnyAsk] = []
        self._topics: set[str] = set()
        self._closing = False
        self._pid = os.getpid()
        self._bell.join(self.receivers.wake, loop)

    async def read(self, work: Callable[[sqlite3.Connection], T | WriteNeeded]) -> T:
        """The outcome of `work`, which only reads."""
        return await self.ask(Ask(self._loop.create_future(), read=work))

    async def write(self, work: Callable[[sqlite3.Connection], T], *, topics: Collection[str] = ()) -> T:
        """The outcome of `work`, when it is on the disk. `topics` is where it may have brought messages.

        If it is cancelled, either all of the work is done, or none.
        """
        return await self.ask(Ask(self._loop.create_future(), write=work, topics=topics))

    async def ask(self, ask: Ask[T]) -> T:
        """The outcome of an ask.

        Raises:
            BackendClosedError: The backend is closed.
            ForkedError: This is another process than the one that opened it: its thread is not here.
            BackendError: What the file said.
        """
        if self._closing:
            raise _closed()
        if self._pid != os.getpid():
            raise ForkedError(
                f"this backend was opened in process {self._pid} and is used in process {os.getpid()}",
                remedy="Open a backend of its own in each process.",
            )
        self._submit(ask)
        return await ask.future

    async def close(self) -> None:
        """Take no more, and finish what was asked. Receivers that wait get `BackendClosedError`."""
        self._closing = True
        self._bell.leave(self.receivers.wake)
        self.receivers.close()
        last: Ask[None] = Ask(self._loop.create_future(), read=lambda _: None)
        self._submit(last)
        with suppress(BackendError):
            await last.future

    def _submit(self, ask: AnyAsk) -> None:
        # Where the first of those that wait was cancelled, the step that it has called for may have been interrupted.
        first = not self._pending or self._pending[0].future.done()
        self._pending.append(ask)
        if first and (self._running is None or self._running.done()):
            self._loop.call_soon(self._step)

    # Steps are callbacks, not a task: `asyncio.run` cancels all tasks together, and their clean-up needs the file.
    def _step(self, _: object = None) -> None:
        """Settle the group that has run, if there is one, and run the next."""
        ran = self._running
        if ran is None:
            self._run_next()
        elif ran.done():
            self._running = None
            try:
                self._settle(ran)
            finally:
                self._run_next()

    def _run_next(self) -> None:
        while self._pending:
            self._group, self._topics = self._next()
            if self._group:
                self.receivers.mark()
                self._running = self._connection.run(partial(self._transactions.run, asks=self._group))
                self._running.add_done_callback(self._step)
                return

    def _settle(self, ran: "Future[list[Any]]") -> None:
        error = ran.exception()
        outcomes = ran.result() if error is None else [self._transactions.failure(error)] * len(self._group)
        for ask, outcome in zip(self._group, outcomes, strict=True):
            ask.settle(outcome)
        if self._topics:
            self._bell.ring(self._topics, but=self.receivers.wake)

    def _next(self) -> tuple[list[AnyAsk], set[str]]:
        """The next group, and the topics that it may bring messages to."""
        size = min(len(self._pending), LARGEST)
        asked = [ask for ask in (self._pending.popleft() for _ in range(size)) if not ask.future.done()]
        topics = {topic for ask in asked for topic in ask.topics}
        # Receivers come last, those that waited first: what is put in their group is for them.
        group = [ask for ask in asked if not isinstance(ask, Claim)]
        if topics:
            group += self.receivers.join(topics)
        group += [ask for ask in asked if isinstance(ask, Claim)]
        return group, topics


def _closed() -> BackendClosedError:
    return BackendClosedError("this SQLite backend was closed", remedy="Use it inside its `async with`.")
