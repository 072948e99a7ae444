"""Idempotent changes: whether a change whose reply was lost took place.

A change is a message with a revision as its guard, and with a mark. If its reply is lost, the same message is sent
again. A revision never comes back, so the guard prevents a second execution, whenever the first copy arrives. If the
copy is refused, the record tells what happened:

- The record has the mark: the change was done.
- The record's own message had the same guard: another change came first, and this one never takes place.
- Neither: it is unknown, as a bucket keeps no history.

**Absent** is the revision 0, which does come back when the marker of a deleted record expires. So copies with the guard
0 are sent, and their replies used, only while no marker can have expired that was made after the first copy. A copy
that a stalled machine held back for longer can still create a record that was deleted since.

JetStream's own `Nats-Msg-Id` is not used. JetStream checks it before the guard and keeps it on every replica, but it
holds each id in memory for two minutes (over 100 bytes a swap), and forgets the ids of overwritten messages at a
restart.
"""

import asyncio
from itertools import count
from secrets import token_urlsafe
from typing import Final, NamedTuple

from brrr_nats.client.errors import NoReplyError
from brrr_nats.store.revisions import StoredRecord

__all__ = ["GUARD_HEADER", "MARK_HEADER", "Marks", "SwapAttempt", "guard_of", "mark_of"]

GUARD_HEADER: Final = "Nats-Expected-Last-Subject-Sequence"
"""Header with the expected revision; the servers check it and store it."""

GUARD_SUBJECT_HEADER: Final = f"{GUARD_HEADER}-Subject"
"""Header that applies the guard to another subject; brrr does not use it."""

MARK_HEADER: Final = "Brrr-Mark"


class Marks(NamedTuple):
    """The marks of one store's changes.

    Attributes:
        prefix: A prefix that no other store has.
        numbers: The counter for the rest.
        marker_lifetime: Least seconds that the marker of a deleted record stays.
        resend_window: Seconds after the first copy in which further copies are sent.
    """

    prefix: str
    numbers: "count[int]"
    marker_lifetime: float
    resend_window: float

    @classmethod
    def new(cls, marker_lifetime: float, timeout: float) -> "Marks":
        """Return marks with a fresh prefix. `timeout` is the time to wait for a reply."""
        return cls(token_urlsafe(9), count(1), marker_lifetime, min(timeout, marker_lifetime / 2))

    def next(self) -> str:
        """Return an unused mark."""
        return f"{self.prefix}.{next(self.numbers):x}"


def mark_of(stored: StoredRecord) -> str:
    """Return the mark of the change that wrote a record, or an empty string."""
    return _header(stored.raw_headers, MARK_HEADER)


def guard_of(stored: StoredRecord) -> int | None:
    """Return the revision that a record's message was guarded by, or None."""
    text = _header(stored.raw_headers, GUARD_HEADER)
    if not text.isdecimal() or _header(stored.raw_headers, GUARD_SUBJECT_HEADER):
        return None
    return int(text)


def _header(raw_headers: bytes, name: str) -> str:
    begin = raw_headers.find(f"\r\n{name}: ".encode())
    if begin < 0:
        return ""
    begin += len(name) + 4
    return raw_headers[begin : raw_headers.index(b"\r", begin)].decode()


class SwapAttempt:
    """A guarded change of which several copies were sent, or none was answered.

    Args:
        mark: The mark of the change.
        guard: The revision that it must follow.
        before: A sequence number that the stream had before.
        since: The time of the first copy, by the loop's clock.
        marks: The times for copies and markers.

    Attributes:
        mark: The mark of the change.
        until: The time after which no more copies are sent, by the loop's clock.
    """

    __slots__ = ("_before", "_guard", "_loop", "_markers_end", "mark", "until")

    def __init__(self, mark: str, guard: int, before: int, since: float, marks: Marks) -> None:
        self.mark = mark
        self._guard = guard
        self._before = before
        self._markers_end = since + marks.marker_lifetime
        self.until = since + marks.resend_window
        self._loop = asyncio.get_running_loop()

    @property
    def late(self) -> bool:
        """Whether a create may have been done, undone and done again: a marker may have expired by now."""
        return not self._guard and self._loop.time() >= self._markers_end

    def is_done(self, found: StoredRecord) -> bool:
        """Whether the change wrote this record."""
        return mark_of(found) == self.mark

    def is_over(self, found: StoredRecord) -> bool:
        """Whether the change did not and will not take place. If False, it can be sent once more.

        Raises:
            NoReplyError: It is unknown, or no time is left for copies.
        """
        if found.revision == self._guard and self._loop.time() < self.until:
            return False
        if self._guard < found.revision <= self._before:
            return True  # another change came before it was sent
        if guard_of(found) == self._guard and not self.late:
            return True  # another change with the same guard was first
        raise NoReplyError(TimeoutError("the record was changed since, or is not changed yet"), sent=True)
