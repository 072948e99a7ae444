"""Messages that change records: values, markers of deletion, and values in parts.

A value that does not fit into a message is split into parts. Its parts and its record are published as one atomic batch
(ADR-50; NATS 2.12): all of it is stored, or nothing. The batch also removes the parts of the value that it replaces.
"""

from hashlib import sha256
from math import ceil
from typing import Final
from uuid import uuid4

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.errors import ApiError
from brrr_nats.client.messages import Reply, Request
from brrr_nats.client.requests import RequestClient
from brrr_nats.names import Bucket
from brrr_nats.store.records import PARTS_HEADER, Parts, StoredRecord

__all__ = ["MARKER_TTL_SECONDS", "MAX_PARTS", "ChangeBuilder", "acked_revision", "digest", "is_value", "write_error"]

MARKER_TTL_SECONDS: Final = 20
"""Seconds that the marker of a deleted record stays. In the first half of this time, a create without a reply can be
sent again, as a deleted record still differs from one that never existed."""

HEADER_RESERVE_BYTES: Final = 4096
"""Bytes of a message that are reserved for its headers."""

MAX_PART_BYTES: Final = 512 * 1024
"""The largest part in bytes. A leader sends it in base64, and other messages use the connection too."""

MAX_PARTS: Final = 480
"""Most parts of a value. A batch has at most 1,000 messages, and may remove as many parts as it writes."""

PARTS_EXTRA_SECONDS: Final = 60
"""Seconds for which parts outlive their record."""

GUARD_HEADER: Final = "Nats-Expected-Last-Subject-Sequence"
BATCH_ABANDONED_CODE: Final = 10176
"""Error code of a batch of which nothing was stored because a part of it did not arrive."""


class ChangeBuilder:
    """Builder of messages that change records. `marker_ttl` is the time in seconds that markers stay."""

    def __init__(self, bucket: Bucket, *, max_message_bytes: int, marker_ttl: int = MARKER_TTL_SECONDS) -> None:
        self._bucket = bucket
        self._max_single_bytes = max(1, max_message_bytes - HEADER_RESERVE_BYTES)
        self._part_bytes = min(MAX_PART_BYTES, self._max_single_bytes)
        self._marker = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{marker_ttl}s"}

    @property
    def max_value_bytes(self) -> int:
        """The largest value in bytes that can be split."""
        return MAX_PARTS * self._part_bytes

    def fits(self, value: bytes | None) -> bool:
        """Whether a value fits into one message."""
        return value is None or len(value) <= self._max_single_bytes

    def record_for(self, value: bytes | None, revision: int = 0) -> StoredRecord:
        """Return the record that a value becomes; its revision is 0 while it is unknown."""
        if value is None or self.fits(value):
            return StoredRecord(value, revision)
        return StoredRecord(b"", revision, Parts(digest(value), -(-len(value) // self._part_bytes), len(value)))

    def messages(
        self, subject: str, value: bytes | None, *, old: StoredRecord | None = None, ttl: float = 0
    ) -> list[Request]:
        """Return the messages that set a record. Several messages form one batch, and the reply to the last one counts.

        Args:
            subject: The record's subject.
            value: The new value; None deletes the record.
            old: The record that must be there now, by its revision; None for any.
            ttl: Seconds after which the record expires; 0 for never.
        """
        record = self.record_for(value)
        headers = dict(self._marker) if value is None else _expiry(ttl)
        if old is not None:
            headers[GUARD_HEADER] = str(old.revision)
        parts: list[Request] = []
        if record.parts is not None and value is not None:
            content, number, size = record.parts
            headers[PARTS_HEADER] = f"{content} {number} {size}"
            # Also if they exist already: with a ttl, they would expire before the new record.
            expiry = _expiry(ttl and ttl + PARTS_EXTRA_SECONDS) or None
            parts = [
                Request(self._bucket.part(subject, content, number), value[begin : begin + self._part_bytes], expiry)
                for number, begin in enumerate(range(0, size, self._part_bytes))
            ]
            value = b""
        if old is not None and old.parts is not None:
            content, number, _ = old.parts
            kept = len(parts) if record.parts is not None and record.parts.content == content else 0
            parts += [Request(self._bucket.part(subject, content, n), b"", self._marker) for n in range(kept, number)]
        return _batch([*parts, Request(subject, value or b"", headers or None)])

    def remove_part(self, subject: str, revision: int) -> Request:
        """Return the message that removes a part if it has this revision."""
        return Request(subject, b"", {**self._marker, GUARD_HEADER: str(revision)})


def _expiry(ttl: float) -> dict[str, str]:
    """Return the headers of a message that expires; the server counts whole seconds."""
    return {"Nats-TTL": f"{ceil(ttl)}s"} if ttl else {}


def _batch(messages: list[Request]) -> list[Request]:
    """Combine messages into one atomic batch."""
    if len(messages) == 1:
        return messages
    batch = uuid4().hex
    made: list[Request] = []
    for number, message in enumerate(messages, 1):
        headers = {**(message.headers or {}), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == len(messages):
            headers["Nats-Batch-Commit"] = "1"
        made.append(Request(message.subject, message.payload, headers))
    return made


def is_value(stored: StoredRecord, value: bytes | None) -> bool:
    """Whether a record has this value."""
    parts = stored.parts
    if parts is None:
        return stored.value == value
    return value is not None and len(value) == parts.size and digest(value) == parts.content


def digest(value: bytes) -> str:
    """Return the digest that names a value's content."""
    return sha256(value).hexdigest()


def acked_revision(reply: Reply) -> int:
    """Return the revision in an acknowledgement."""
    begin = reply.payload.index(b'"seq":') + len(b'"seq":')
    end = begin
    while reply.payload[end : end + 1].isdigit():
        end += 1
    return int(reply.payload[begin:end])


def write_error(error: ApiError, client: RequestClient) -> Exception:
    """Return the error of a refused change."""
    if error.code == BATCH_ABANDONED_CODE:
        return BackendUnavailableError(
            f"nats at {client.servers} abandoned a batch of messages and stored none of them ({error})",
            remedy="Try again: the stream's leader has changed, or the network was down for 10 s.",
        )
    return client.to_brrr_error(error)
