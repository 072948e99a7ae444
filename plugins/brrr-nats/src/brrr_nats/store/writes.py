"""Messages that change records: values, markers, and values in parts, which a batch makes one change of.

A value that does not fit into a message is cut up. Its parts and its record are published as one atomic batch (ADR-50;
NATS 2.12): all of it is there, or nothing. The batch also removes the parts of the value that it replaces.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from uuid import uuid4

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.errors import ApiError
from brrr_nats.client.protocol import Reply, Request
from brrr_nats.client.requests import Link
from brrr_nats.store.idempotency import GUARD, MARK, Marks
from brrr_nats.store.keys import Bucket
from brrr_nats.store.reads import PARTS_HEADER
from brrr_nats.store.revisions import Parts, Stored

__all__ = ["MARKER_TTL", "MOST_PARTS", "WRONG_LAST", "Changes", "digest", "is_value", "not_taken", "sequence"]

MARKER_TTL: Final = 20
"""Seconds that a marker stays, which says that a record was deleted. What was created and deleted within half of that
is told from what was never there, so that creates whose answers are lost can be sent again."""

ROOM: Final = 4096
"""Bytes of a message that are left for its headers."""

PART: Final = 512 * 1024
"""The largest part: a leader answers with it in base64, and other things travel on the connection too."""

MOST_PARTS: Final = 480
"""Parts of a value; a batch has 1,000 messages at most, which may remove as many as they write."""


WRONG_LAST: Final = {10071, 10164}
"""Codes by which another message stands under the subject, or another is being stored at the moment."""

GIVEN_UP: Final = 10176
"""The code by which nothing of a batch was stored, because some of it did not arrive."""


class Changes:
    """Makes the messages of changes.

    Args:
        bucket: Names the subjects.
        room: Bytes that a message may have, headers included.
        marks: What guarded changes are marked with.
        marker_ttl: Seconds that markers stay.
    """

    def __init__(self, bucket: Bucket, *, room: int, marks: Marks, marker_ttl: int = MARKER_TTL) -> None:
        self.marks = marks
        self._bucket = bucket
        self._whole = max(1, room - ROOM)
        self._marker = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{marker_ttl}s"}

    @property
    def most(self) -> int:
        """The largest value, in bytes, that can be cut up."""
        return MOST_PARTS * min(PART, self._whole)

    def fits(self, value: bytes | None) -> bool:
        """Whether a value is one message."""
        return value is None or len(value) <= self._whole

    def new(self, value: bytes | None, revision: int = 0) -> Stored:
        """What will stand there; its revision is 0 while it is not known."""
        if value is None or self.fits(value):
            return Stored(value, revision)
        return Stored(b"", revision, Parts(digest(value), -(-len(value) // min(PART, self._whole)), len(value)))

    def messages(
        self, subject: str, value: bytes | None, *, old: Stored | None = None, mark: str = ""
    ) -> list[Request]:
        """The messages that make a record a value; several of them are one batch, and the last one's answer counts.

        Args:
            subject: The record's.
            value: What it becomes; None deletes it.
            old: What it has to be now, by its revision; None for whatever it is.
            mark: What the change is marked with, where `old` is given.
        """
        new = self.new(value)
        headers = dict(self._marker) if value is None else {}
        if old is not None:
            headers[GUARD] = str(old.revision)
            headers[MARK] = mark
        if new.parts is None and (old is None or old.parts is None):
            return [Request(subject, value or b"", headers or None)]
        parts: list[Request] = []
        if new.parts is not None and value is not None:
            content, number, size = new.parts
            headers[PARTS_HEADER] = f"{content} {number} {size}"
            step = min(PART, self._whole)
            # Also where they are there already: with a ttl they would end before the record that needs them.
            parts = [
                Request(self._bucket.part(subject, content, number), value[begin : begin + step])
                for number, begin in enumerate(range(0, size, step))
            ]
        if old is not None and old.parts is not None:
            content, number, _ = old.parts
            kept = len(parts) if new.parts is not None and new.parts.content == content else 0
            parts += [Request(self._bucket.part(subject, content, n), b"", self._marker) for n in range(kept, number)]
        return _batch([*parts, Request(subject, b"" if new.parts else value or b"", headers)])

    def remove_part(self, subject: str, revision: int) -> Request:
        """The message that removes a part, if it is still that one."""
        return Request(subject, b"", {**self._marker, GUARD: str(revision)})


def is_value(stored: Stored, value: bytes | None) -> bool:
    """Whether what stands there is that value."""
    parts = stored.parts
    if parts is None:
        return stored.value == value
    return value is not None and len(value) == parts.size and digest(value) == parts.content


def digest(value: bytes) -> str:
    """What names the content of a value."""
    return sha256(value).hexdigest()


def _batch(messages: Sequence[Request]) -> list[Request]:
    """Make one change of several messages."""
    if len(messages) == 1:
        return [*messages]
    batch = uuid4().hex
    made: list[Request] = []
    for number, message in enumerate(messages, 1):
        headers = {**(message.headers or {}), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == len(messages):
            headers["Nats-Batch-Commit"] = "1"
        made.append(message._replace(headers=headers))
    return made


def sequence(reply: Reply) -> int:
    """The revision that an acknowledgement names."""
    payload = reply.payload
    at = payload.index(b'"seq":') + 6
    end = at
    while payload[end : end + 1].isdigit():
        end += 1
    return int(payload[at:end])


def not_taken(error: ApiError, link: Link) -> Exception:
    """The error of a change that was not made."""
    if error.code == GIVEN_UP:
        return BackendUnavailableError(
            f"nats at {link.where} gave up a batch of messages, and stored none of them ({error})",
            remedy="Try again: the stream's leader changed meanwhile, or the network stood still for 10 s.",
        )
    return link.translated(error)
