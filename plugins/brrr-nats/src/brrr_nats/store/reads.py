"""Reading of records: the last message under each key of a bucket.

A direct get is answered by any replica, and may be late. So direct gets are used only if a stream has one server. A
stream with replicas is read by `STREAM.MSG.GET`, which only its leader answers. That costs a server three times as much
(25 µs a key instead of 8).

A leader that was cut off believes for 10 to 20 seconds that it still leads: it checks every 10 seconds whether it has
heard from a majority in the last 10. Therefore each batch of reads also asks for the last message of the stream. If the
leader does not know a message that this process knows, its answers are not used.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_core.errors import BackendUnavailableError, BrrrError
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS
from brrr_nats.client.errors import ApiError, NoReplyError, NoRespondersError, api_error
from brrr_nats.client.protocol import Reply, Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.store.keys import Bucket
from brrr_nats.store.read_limiter import MAX_REPLY_BYTES, SAFE_REQUESTS, ReadLimiter
from brrr_nats.store.revisions import Parts, StoredRecord

__all__ = ["PARTS_HEADER", "STALE_READ_TIMEOUT_SECONDS", "RecordReader"]

PARTS_HEADER: Final = "Brrr-Parts"
"""Header of a record whose value is in parts: digest of the value, number of parts, bytes of the value."""

NO_MESSAGE_CODE: Final = 10037
ABSENT: Final = StoredRecord(None, 0)
SEQUENCE_HEADER: Final = b"\r\nNats-Sequence: "
REMOVAL_HEADERS: Final = (b"\r\nKV-Operation:", b"\r\nNats-Marker-Reason:")
"""Headers of a message that marks a deleted record: a client's, or the server's own (ADR-8, ADR-48)."""

STALE_READ_TIMEOUT_SECONDS: Final = 25.0
"""Seconds for which a read is repeated that is older than what this process knows."""

ALL_SUBJECTS: Final = ">"


class RecordReader:
    """Reader of a bucket's records.

    Args:
        client: The client.
        bucket: Names of subjects.
        stale_timeout: Seconds for which a read is repeated that is older than what this process knows.
    """

    def __init__(self, client: RequestClient, bucket: Bucket, *, stale_timeout: float) -> None:
        self._stale_timeout = stale_timeout
        self._client = client
        self._bucket = bucket
        self._direct = client.api_subject(f"DIRECT.GET.{bucket.stream}.")
        self._by_leader = client.api_subject(f"STREAM.MSG.GET.{bucket.stream}")
        self._direct_reads = False
        self._limiter = ReadLimiter()
        self._last_sequence = 0

    def configure(self, config: Mapping[str, Any]) -> None:
        """Choose the way of reading by the stream's configuration."""
        self._direct_reads = config.get("num_replicas", 1) == 1 and bool(config.get("allow_direct"))

    @property
    def last_sequence(self) -> int:
        """The highest known sequence number of the stream."""
        return self._last_sequence

    def note_sequence(self, revision: int) -> None:
        """Note a sequence number that the stream has or had."""
        self._last_sequence = max(self._last_sequence, revision)

    async def find(self, subjects: Sequence[str], *, reply_bytes: int = 0) -> list[StoredRecord]:
        """Read records.

        Args:
            subjects: Their subjects.
            reply_bytes: Expected bytes of a reply; 0 if unknown.

        Raises:
            BackendUnavailableError: A reply is missing.
        """
        found: list[StoredRecord] = []
        while len(found) < len(subjects):
            extra = 0 if self._direct_reads else 1  # the last message
            permit = await self._limiter.acquire(
                len(subjects) - len(found) + extra, minimum=1 + extra, reply_bytes=reply_bytes
            )
            batch = subjects[len(found) : len(found) + permit.requests - extra]
            try:
                found += await self._find_current(batch, idempotent=permit.requests <= SAFE_REQUESTS)
            except BackendUnavailableError as error:
                cause = error.__cause__
                if permit.requests <= SAFE_REQUESTS or not (isinstance(cause, NoReplyError) and cause.sent):
                    raise
                self._limiter.reset()
                reply_bytes = MAX_REPLY_BYTES  # the replies may have been too large: retry in small portions
            finally:
                self._limiter.release(permit)
        return found

    async def _find_current(self, subjects: Sequence[str], *, idempotent: bool) -> list[StoredRecord]:
        """Read records; repeat while the answers are older than what this process knows."""
        deadline, pause = asyncio.get_running_loop().time() + self._stale_timeout, FIRST_PAUSE_SECONDS
        while True:
            known = self._last_sequence
            answers, last = await self._fetch(subjects, idempotent=idempotent)
            if last < known and (await self.stream_info())["state"]["last_seq"] < known:
                if asyncio.get_running_loop().time() < deadline:
                    pause = await self._client.pause(pause)
                    continue
                self._last_sequence = 0  # no deposed leader lasts so long: the stream was recreated
            self.note_sequence(last)
            return answers

    async def _fetch(self, subjects: Sequence[str], *, idempotent: bool) -> tuple[list[StoredRecord], int]:
        """Return the records, and a sequence number of the server: its last one, if that message still exists."""
        try:
            replies = await self._client.request_many(self._requests(subjects), idempotent=idempotent, resend=True)
        except BackendUnavailableError as error:
            if not self._direct_reads or not isinstance(error.__cause__, NoRespondersError):
                raise
            # Direct gets were disabled meanwhile, as happens before a stream gets replicas.
            self.configure((await self.stream_info())["config"])
            replies = await self._client.request_many(self._requests(subjects), idempotent=True)
        self._limiter.note_largest(max(len(reply.payload) for reply in replies))
        answers = [self._parse(reply) for reply in replies]
        last = max(answer.revision for answer in answers)
        return answers[: len(subjects)], max(self._last_sequence, last) if self._direct_reads else last

    async def stream_info(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return JetStream's information on the stream.

        Raises:
            BackendUnavailableError: JetStream does not reply, or the stream does not exist.
        """
        try:
            answer: dict[str, Any] = await self._client.call_api(f"STREAM.INFO.{self._bucket.stream}", body)
        except ApiError as error:
            raise self._client.to_brrr_error(error) from error
        return answer

    def _requests(self, subjects: Sequence[str]) -> list[Request]:
        if self._direct_reads:
            return [Request(self._direct + subject) for subject in subjects]
        bodies = [b'{"last_by_subj":"%b"}' % subject.encode() for subject in (*subjects, ALL_SUBJECTS)]
        return [Request(self._by_leader, body) for body in bodies]

    def _parse(self, reply: Reply) -> StoredRecord:
        """Return the record in a reply of either kind."""
        if not reply.raw_headers:
            return self._parse_json(reply.payload)
        at = reply.raw_headers.rfind(SEQUENCE_HEADER)  # the server's own headers come last
        if at < 0:
            if reply.status == 404:
                return ABSENT
            raise self._client.to_brrr_error(ApiError(0, reply.status, reply.description))
        begin = at + len(SEQUENCE_HEADER)
        return _record_of(
            reply.payload, int(reply.raw_headers[begin : reply.raw_headers.index(b"\r", begin)]), reply.raw_headers
        )

    def _parse_json(self, payload: bytes) -> StoredRecord:
        answer = json.loads(payload)
        message = answer.get("message")
        if message is None:
            error = api_error(payload)
            if error is not None and error.code == NO_MESSAGE_CODE:
                return ABSENT
            raise self._unknown(error)
        message_read = stored_message(message)
        return _record_of(message_read.payload, message["seq"], message_read.raw_headers)

    def _unknown(self, error: ApiError | None) -> BrrrError:
        return self._client.to_brrr_error(
            error or ApiError(0, 0, "the reply to a read has neither a message nor an error")
        )


def _record_of(payload: bytes, revision: int, raw_headers: bytes) -> StoredRecord:
    """Return the record of a message, by its headers."""
    if any(each in raw_headers for each in REMOVAL_HEADERS):
        return StoredRecord(None, revision, None, raw_headers)
    name = f"\r\n{PARTS_HEADER}: ".encode()
    at = raw_headers.find(name)
    if at < 0:
        return StoredRecord(payload, revision, None, raw_headers)
    content, count, size = raw_headers[at + len(name) : raw_headers.index(b"\r", at + len(name))].decode().split(" ")
    return StoredRecord(b"", revision, Parts(content, int(count), int(size)), raw_headers)
