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

from itertools import count
from secrets import token_urlsafe
from typing import Final, NamedTuple

from brrr_nats.revisions import Stored

__all__ = ["GUARD", "MARK", "Marks", "guard_of", "mark_of"]

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
