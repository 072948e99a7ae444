"""A change that may have been done without this process having been told so, and what the record tells of it."""

import asyncio

from brrr_nats.failures import Lost
from brrr_nats.marks import Marks, guard_of, mark_of
from brrr_nats.revisions import Stored

__all__ = ["Attempt"]


class Attempt:
    """A guarded change of which more than one copy was sent, or none was answered.

    Args:
        mark: The change's.
        guard: The revision that it has to come after.
        before: A sequence number that the stream had before.
        since: When the first copy was sent, by the loop's clock.
        marks: How long copies are sent, and markers stay.

    Attributes:
        mark: The change's.
        until: When no more copies are sent, by the loop's clock.
    """

    __slots__ = ("_before", "_guard", "_loop", "_settled", "mark", "until")

    def __init__(self, mark: str, guard: int, before: int, since: float, marks: Marks) -> None:
        self.mark = mark
        self._guard = guard
        self._before = before
        self._settled = since + marks.settled
        self.until = since + marks.patience
        self._loop = asyncio.get_running_loop()

    @property
    def late(self) -> bool:
        """Whether it may have been done, undone, and done again: nothing is absent for the first time by now."""
        return not self._guard and self._loop.time() >= self._settled

    def is_done(self, found: Stored) -> bool:
        """Whether what stands there now is its work."""
        return mark_of(found) == self.mark

    def is_over(self, found: Stored) -> bool:
        """Whether it was not done, and will not be, by what stands there now. Else it can be sent once more.

        Raises:
            Lost: Nobody can know; or there is no more time for copies.
        """
        if found.revision == self._guard and self._loop.time() < self.until:
            return False
        if self._guard < found.revision <= self._before:
            return True  # it had been overtaken before it was sent
        if guard_of(found) == self._guard and not self.late:
            return True  # somebody else's change came right after what this one has to come after
        raise Lost(TimeoutError("and the record has been changed since, or not yet"), sent=True)
