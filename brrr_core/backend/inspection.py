"""Inspection: the optional parts of a queue with which operators choose dead letters, and look at topics.

A queue without these parts is complete, too: commands that need them say that the backend does not support them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

from brrr_core.backend.contracts import DeadLetter

__all__ = ["Activity", "Inspector", "LetterBox", "Peeked", "StoredLetter"]


class StoredLetter(NamedTuple):
    """A dead letter and its id.

    Attributes:
        id: Printable text without white space. It names this dead letter on its topic, as long as it exists and
            afterwards: no later dead letter has it. Dead letters that are equal in every field may share one.
        letter: The dead letter.
    """

    id: str
    letter: DeadLetter


class LetterBox(ABC):
    """The dead letters of a queue by their ids.

    Its operations and those of the queue see each other's effects, and have the same rules for cancellation, crashes
    and lost answers. They skip ids that name no dead letter of the topic.
    """

    @abstractmethod
    async def page(self, topic: str, *, limit: int, after: str | None = None) -> list[StoredLetter]:
        """Return up to `limit` dead letters, oldest first, that follow the one with the id `after`; None for the first.

        Whether that one still exists does not matter. A caller that passes the last id of each page sees every dead
        letter that exists all the time, and it may see one twice. The effort does not grow with the number of letters
        before the page, or it grows so little that reading 100,000 letters takes seconds.
        """

    @abstractmethod
    async def find(self, topic: str, ids: Sequence[str]) -> list[StoredLetter]:
        """Return the dead letters with these ids, in any order."""

    @abstractmethod
    async def redrive(self, topic: str, ids: Sequence[str]) -> int:
        """Put the dead letters with these ids back on the topic as new messages (attempt 1), in the order of the ids.

        Returns the number of dead letters that were put back.
        """

    @abstractmethod
    async def drop(self, topic: str, ids: Sequence[str]) -> int:
        """Delete the dead letters with these ids for good. Returns the number deleted."""


class Peeked(NamedTuple):
    """A message that is on a topic.

    Attributes:
        body: Its body.
        state: Its state; None if the server does not tell whether it is ready or leased.
    """

    body: bytes
    state: Literal["ready", "leased", "delayed"] | None


class Activity(NamedTuple):
    """The activity of a topic, as far as the server knows it.

    Attributes:
        oldest_ready: Seconds for which the oldest ready message has been ready; None if that is not known, or if no
            message is ready.
        receiving: Whether a receiver waits for messages, or holds one; None if that is not known.
        delivered: The number of deliveries of the topic, counted from any start; None if the server does not count.
    """

    oldest_ready: float | None = None
    receiving: bool | None = None
    delivered: int | None = None


class Inspector(ABC):
    """The topics of a queue and their messages, for operators. No operation receives a message."""

    @abstractmethod
    async def topics(self) -> list[str]:
        """Return the topics that have a message or a dead letter, sorted. Others that were used may be among them.

        A server may keep a long name only as a digest. Then the topic is missing. The effort may grow with everything
        that the server holds, but it blocks no other operation.
        """

    @abstractmethod
    async def peek(self, topic: str, *, limit: int) -> list[Peeked]:
        """Return up to `limit` messages of the topic, roughly those first that were or will be ready first.

        Raises:
            CapabilityError: The server cannot show messages without delivering them.
        """

    @abstractmethod
    async def purge(self, topic: str) -> int:
        """Delete the ready and the delayed messages of the topic for good, and return their number.

        Leased messages may be deleted too. Dead letters stay. The number is as exact as the statistics of the queue.
        """

    @abstractmethod
    async def activity(self, topic: str) -> Activity:
        """Return the activity of a topic, as far as the server knows it."""
