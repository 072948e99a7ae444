"""Inspection: the optional parts of a queue with which operators choose dead letters by their ids.

A queue that does not offer a part is complete too: the commands that need it then say that this backend cannot.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from brrr_core.backend.contracts import DeadLetter

__all__ = ["LetterBox", "StoredLetter"]


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
