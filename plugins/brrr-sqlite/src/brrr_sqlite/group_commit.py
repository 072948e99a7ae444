"""Group commit: all that is asked while a commit is under way shares the next one."""

import os
import sqlite3
from asyncio import AbstractEventLoop, CancelledError, Event, Task
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from brrr_core.errors import BackendClosedError, ForkedError
from brrr_sqlite.asks import Ask, Failure, WriteNeeded
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
        self._more = Event()
        self._closing = False
        self._pid = os.getpid()
        self._bell.join(self.receivers.wake, loop)
        self._pump: Task[None] = loop.create_task(self._run(), name="brrr-sqlite group commit")

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
        """Take no more, finish what was asked, and end. Receivers that wait get `BackendClosedError`."""
        self._closing = True
        self._bell.leave(self.receivers.wake)
        self.receivers.close()
        self._more.set()
        await self._pump

    def _submit(self, ask: AnyAsk) -> None:
        self._pending.append(ask)
        self._more.set()

    async def _run(self) -> None:
        group: list[AnyAsk] = []
        try:
            while True:
                while not self._pending:
                    if self._closing:
                        return
                    self._more.clear()
                    await self._more.wait()
                group, topics = self._next()
                if not group:
                    continue
                self.receivers.mark()
                outcomes = await self._outcomes(group)
                for ask, outcome in zip(group, outcomes, strict=True):
                    ask.settle(outcome)
                if topics:
                    self._bell.ring(topics, but=self.receivers.wake)
        except CancelledError:
            for ask in (*group, *self._pending):
                ask.settle(Failure(_closed()))
            raise

    async def _outcomes(self, group: list[AnyAsk]) -> list[Any]:
        try:
            return await self._connection.run(partial(self._transactions.run, asks=group))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next group must run
            return [self._transactions.failure(error) for _ in group]

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
