"""Cache of records and revisions that were read or written last; it saves swaps a read."""

from collections import OrderedDict
from typing import Final, NamedTuple

__all__ = ["Parts", "RevisionCache", "StoredRecord"]

ENTRY_OVERHEAD_BYTES: Final = 300
"""Approximate bytes of an entry beside its subject and its value."""


class Parts(NamedTuple):
    """The place of a value that is too large for one message.

    Attributes:
        content: The name of the parts: a digest of the value.
        number: How many parts there are.
        size: Their bytes in total.
    """

    content: str
    number: int
    size: int


class StoredRecord(NamedTuple):
    """The record under a subject.

    Attributes:
        value: The value; None if the record is absent, empty if it is in parts.
        revision: The sequence number of its last message (a marker's, if it was deleted); 0 if there is no message.
        parts: The place of the value, if it is in parts.
        raw_headers: The headers of its message; `idempotency` reads them.
    """

    value: bytes | None
    revision: int
    parts: Parts | None = None
    raw_headers: bytes = b""


class RevisionCache:
    """The last known state of records; the least recently used are forgotten first.

    The state is a guess: a swap that starts from it is guarded by the revision, and reads again before it fails.

    Args:
        size: Most bytes.
    """

    def __init__(self, size: int) -> None:
        self._free_bytes = size
        self._max_entry_bytes = size // 8
        self._known: OrderedDict[str, StoredRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, subject: str) -> StoredRecord | None:
        """Return the known state and forget it: the caller changes the record, and may not learn the result."""
        found = self._known.pop(subject, None)
        if found is not None:
            self._free_bytes += _size(subject, found)
        return found

    def note(self, subject: str, stored: StoredRecord) -> None:
        """Cache a state, unless a newer one is known or it is too large."""
        known = self._known.get(subject)
        if known is not None and known.revision > stored.revision:
            return
        self.take(subject)
        size = _size(subject, stored)
        if size > self._max_entry_bytes:
            return
        self._known[subject] = stored._replace(raw_headers=b"") if stored.raw_headers else stored
        self._free_bytes -= size
        while self._free_bytes < 0:
            name, dropped = self._known.popitem(last=False)
            self._free_bytes += _size(name, dropped)


def _size(subject: str, stored: StoredRecord) -> int:
    return ENTRY_OVERHEAD_BYTES + len(subject) + len(stored.value or b"")
