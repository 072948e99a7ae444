"""Records of a key-value bucket: their messages, and their last known states."""

import time
from collections import OrderedDict
from datetime import datetime
from typing import Final, NamedTuple

from brrr_nats.client.messages import Reply

__all__ = ["ABSENT", "PARTS_HEADER", "Parts", "RevisionCache", "StoredRecord", "record_of"]

PARTS_HEADER: Final = "Brrr-Parts"
"""Header of a record whose value is in parts: digest of the value, number of parts, bytes of the value."""

REMOVAL_HEADERS: Final = ("KV-Operation", "Nats-Marker-Reason")
"""Headers of a message that marks a deleted record: a client's, or the server's own (ADR-8, ADR-48)."""

ENTRY_OVERHEAD_BYTES: Final = 300
"""Approximate bytes of a cached record beside its subject and its value."""


class Parts(NamedTuple):
    """The place of a value that is too large for one message: its digest, the number of parts, and their bytes."""

    content: str
    number: int
    size: int


class StoredRecord(NamedTuple):
    """The record under a subject.

    Attributes:
        value: The value; None if the record is absent, empty if it is in parts.
        revision: The sequence number of its last message (a marker's, if it was deleted); 0 if there is no message.
        parts: The place of the value, if it is in parts.
        written: The server's time of the message, as RFC 3339; empty if it was not read.
    """

    value: bytes | None
    revision: int
    parts: Parts | None = None
    written: str = ""

    def is_older_than(self, seconds: float) -> bool:
        """Whether a record was written longer ago."""
        return bool(self.written) and time.time() - datetime.fromisoformat(self.written).timestamp() > seconds


ABSENT: Final = StoredRecord(None, 0)


def record_of(message: Reply, revision: int, written: str = "") -> StoredRecord:
    """Return the record of a message."""
    headers = message.headers
    if REMOVAL_HEADERS[0] in headers or REMOVAL_HEADERS[1] in headers:
        return StoredRecord(None, revision)
    if PARTS_HEADER not in headers:
        return StoredRecord(message.payload, revision, None, written)
    content, number, size = headers[PARTS_HEADER].split(" ")
    return StoredRecord(b"", revision, Parts(content, int(number), int(size)), written)


class RevisionCache:
    """The last known state of records, up to a number of bytes; the least recently used are forgotten first.

    The state is a guess: a swap that starts from it expects its revision, and reads again before it fails.
    """

    def __init__(self, size: int) -> None:
        self._free_bytes = size
        self._max_entry_bytes = size // 8
        self._known: OrderedDict[str, StoredRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, subject: str) -> StoredRecord | None:
        """Return the known state and forget it: the caller changes the record, and may not get the result."""
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
        self._known[subject] = stored
        self._free_bytes -= size
        while self._free_bytes < 0:
            self.take(next(iter(self._known)))


def _size(subject: str, stored: StoredRecord) -> int:
    return ENTRY_OVERHEAD_BYTES + len(subject) + len(stored.value or b"")
