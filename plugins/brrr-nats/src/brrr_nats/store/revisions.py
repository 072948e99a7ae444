"""What is known of records since they were read or written last: it saves swaps the reading."""

from collections import OrderedDict
from typing import Final, NamedTuple

__all__ = ["Parts", "Revisions", "Stored"]

OVERHEAD: Final = 300
"""Bytes that an entry takes beside its subject and its value, roughly."""


class Parts(NamedTuple):
    """Where a value is that is too large for one message.

    Attributes:
        content: Names them; it is a digest of the value, so that what has one name is one value.
        number: How many there are.
        size: How many bytes they have together.
    """

    content: str
    number: int
    size: int


class Stored(NamedTuple):
    """What stands under a subject.

    Attributes:
        value: The bytes; None for an absent record, and empty for one in parts.
        revision: The sequence number of its last message, a marker's for what was deleted, 0 for what has no message.
        parts: Where the value is, if it is in parts.
        lines: The headers that its message was read with; `marks` reads them.
    """

    value: bytes | None
    revision: int
    parts: Parts | None = None
    lines: bytes = b""


class Revisions:
    """The last known state of records, least recently used forgotten first.

    It is a guess: a swap that starts from it is guarded by the revision, and looks again before it says False.

    Args:
        size: How many bytes it may take.
    """

    def __init__(self, size: int) -> None:
        self._room = size
        self._most = size // 8
        self._known: OrderedDict[str, Stored] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, subject: str) -> Stored | None:
        """Give what is known, and forget it: whoever takes it will change it, and may not hear of how that went."""
        found = self._known.pop(subject, None)
        if found is not None:
            self._room += _size(subject, found)
        return found

    def note(self, subject: str, stored: Stored) -> None:
        """Keep a state, unless a newer one is known or it is too large to be kept."""
        known = self._known.get(subject)
        if known is not None and known.revision > stored.revision:
            return
        self.take(subject)
        size = _size(subject, stored)
        if size > self._most:
            return
        self._known[subject] = stored._replace(lines=b"") if stored.lines else stored
        self._room -= size
        while self._room < 0:
            name, dropped = self._known.popitem(last=False)
            self._room += _size(name, dropped)


def _size(subject: str, stored: Stored) -> int:
    return OVERHEAD + len(subject) + len(stored.value or b"")
