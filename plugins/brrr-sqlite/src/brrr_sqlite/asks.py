"""What a caller asks of the file: work for the connection's thread, and the future that its outcome goes to."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeAlias, TypeVar

from brrr_core.errors import BrrrError

__all__ = ["WRITE_NEEDED", "Ask", "Failure", "Outcome", "WriteNeeded"]

T = TypeVar("T")


class WriteNeeded(Enum):
    """What a read says where only a write can give the outcome."""

    WRITE_NEEDED = 0


WRITE_NEEDED: Final = WriteNeeded.WRITE_NEEDED


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an ask that failed, alone or with its whole group."""

    error: BrrrError


Outcome: TypeAlias = T | Failure


class Ask(Generic[T]):
    """One thing asked.

    Args:
        future: Where the outcome goes. One that is done already (cancelled) takes its ask out of the next group.
        read: Gives the outcome, or says that a write is needed; it runs outside a transaction and takes no lock.
        write: Gives the outcome inside a write transaction. At least one of the two is there.
        topics: The topics whose receivers may find something new afterwards.
    """

    __slots__ = ("future", "read", "topics", "write")

    def __init__(
        self,
        future: Future[T],
        *,
        read: Callable[[sqlite3.Connection], T | WriteNeeded] | None = None,
        write: Callable[[sqlite3.Connection], T] | None = None,
        topics: Collection[str] = (),
    ) -> None:
        self.future = future
        self.read = read
        self.write = write
        self.topics = topics

    def inside(self, connection: sqlite3.Connection) -> T:
        """The outcome, inside a write transaction."""
        if self.write is not None:
            return self.write(connection)
        assert self.read is not None  # noqa: S101 - one of the two is there
        outcome = self.read(connection)
        assert not isinstance(outcome, WriteNeeded)  # noqa: S101 - who says so can write
        return outcome

    def settle(self, outcome: Outcome[T]) -> None:
        """Hand the outcome to whoever waits for it."""
        if self.future.done():
            return
        if isinstance(outcome, Failure):
            self.future.set_exception(outcome.error)
        else:
            self.future.set_result(outcome)
