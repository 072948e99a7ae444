"""What tells a change that took place from others: a mark on its message, which is looked for if its answer was lost.

A change is a message under the guard of a revision. One whose answer was lost is sent again, the same message: the
guard keeps it from being done twice, whenever the first one arrives, since a revision never comes back. If the copy
is refused, either the first one was done or somebody else was first, and the record tells which: it has this mark; or
the guard of its own message was the same, so that it came right after what was expected, and the change never will;
or neither, and then nobody can know, as a bucket keeps no history.

**Absent** is the revision 0, and that one does come back: when the marker of a deleted record ends. Copies of a change
under the guard of 0 are therefore sent, and their answers are taken, only while no marker can have ended that was made
after the first. One that a machine held back, which stood still for longer, can still create what was deleted since.

JetStream knows messages again by itself, by `Nats-Msg-Id`, looks for that before it looks at the guard, and remembers
it on every replica. It is not used: it keeps each id in memory for two minutes, 100 bytes and more a swap, and does not
find those of overwritten messages when it is restarted.
"""

import asyncio
from itertools import count
from secrets import token_urlsafe
from typing import Final, NamedTuple

from brrr_nats.client.errors import Lost
from brrr_nats.store.revisions import Stored

__all__ = ["GUARD", "MARK", "Attempt", "Marks", "guard_of", "mark_of"]

GUARD: Final = "Nats-Expected-Last-Subject-Sequence"
"""What the servers hold a message against, and keep with it."""

OTHER: Final = f"{GUARD}-Subject"
"""Names another subject that the guard is of; brrr does not use it."""

MARK: Final = "Brrr-Mark"


class Marks(NamedTuple):
    """The marks of one store's changes.

    Attributes:
        prefix: What they begin with, and no others.
        numbers: What they end with.
        settled: Seconds for which a deleted record's marker stays at least.
        patience: Seconds after the first in which a change is sent again.
    """

    prefix: str
    numbers: "count[int]"
    settled: float
    patience: float

    @classmethod
    def new(cls, settled: float, timeout: float) -> "Marks":
        """Marks that nobody has given yet; `timeout` is how long an answer is waited for."""
        return cls(token_urlsafe(9), count(1), settled, min(timeout, settled / 2))

    def next(self) -> str:
        """Another mark."""
        return f"{self.prefix}.{next(self.numbers):x}"


def mark_of(stored: Stored) -> str:
    """The mark of the change that made a record what it is; empty where it has none."""
    return _header(stored.lines, MARK)


def guard_of(stored: Stored) -> int | None:
    """The revision that a record's last message came after; None where nothing says so."""
    text = _header(stored.lines, GUARD)
    if not text.isdecimal() or _header(stored.lines, OTHER):
        return None
    return int(text)


def _header(lines: bytes, name: str) -> str:
    begin = lines.find(f"\r\n{name}: ".encode())
    if begin < 0:
        return ""
    begin += len(name) + 4
    return lines[begin : lines.index(b"\r", begin)].decode()


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
