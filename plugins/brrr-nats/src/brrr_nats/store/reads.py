"""Reading of records: the last message under each key of a bucket, with a bound for the bytes of replies in flight.

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
from typing import Any, Final, NamedTuple

from brrr_core.errors import BackendUnavailableError
from brrr_nats.client.connector import FIRST_PAUSE_SECONDS
from brrr_nats.client.errors import ApiError, NoReplyError, NoRespondersError, api_error
from brrr_nats.client.messages import Reply, Request, stored_message
from brrr_nats.client.requests import RequestClient
from brrr_nats.names import Bucket
from brrr_nats.store.records import ABSENT, StoredRecord, record_of

__all__ = ["STALE_READ_TIMEOUT_SECONDS", "ReadLimiter", "ReadPermit", "RecordReader"]

MAX_REPLY_BYTES: Final = 1024 * 1024
"""Bytes of the largest possible reply; the estimate at the beginning."""

MAX_BYTES_IN_FLIGHT: Final = 24 * MAX_REPLY_BYTES
"""Bytes of replies in flight. A server closes a connection that is 64 MiB behind. Replies of a leader are a third
longer, and other messages use the connection too."""

MAX_REQUESTS_IN_FLIGHT: Final = 512
SAFE_REQUESTS: Final = MAX_BYTES_IN_FLIGHT // MAX_REPLY_BYTES
"""Requests whose replies fit, even if each record has the largest size."""

DECAY_DIVISOR: Final = 16
"""After smaller replies, the estimated size shrinks by this fraction."""

STALE_READ_TIMEOUT_SECONDS: Final = 25.0
"""Seconds for which a read is repeated that is older than what this process knows."""

NO_MESSAGE_CODE: Final = 10037
SEQUENCE_HEADER: Final = "Nats-Sequence"
TIME_HEADER: Final = "Nats-Time-Stamp"


class ReadPermit(NamedTuple):
    """Permission to send a number of requests, whose replies are expected to have `size` bytes."""

    requests: int
    size: int


class ReadLimiter:
    """The reads in flight on one connection. The size of replies is estimated from earlier ones."""

    def __init__(self) -> None:
        self._free_bytes = MAX_BYTES_IN_FLIGHT
        self._largest = MAX_REPLY_BYTES
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()

    async def acquire(self, wanted: int, *, minimum: int, reply_bytes: int) -> ReadPermit:
        """Wait in a queue for room for at most `wanted` requests, of which `minimum` must be sent together.

        `reply_bytes` is the expected size of a reply; 0 if unknown. The caller releases the permit.
        """
        async with self._turn:  # held while others wait, as they come later
            while True:
                expected = reply_bytes or self._largest
                requests = min(wanted, MAX_REQUESTS_IN_FLIGHT, self._free_bytes // expected)
                if requests >= minimum or self._free_bytes == MAX_BYTES_IN_FLIGHT:  # there will never be more room
                    break
                self._released.clear()
                await self._released.wait()
            permit = ReadPermit(max(requests, minimum), max(requests, minimum) * expected)
            self._free_bytes -= permit.size
            return permit

    def release(self, permit: ReadPermit) -> None:
        """Return a permit: its replies have come, or will not come."""
        self._free_bytes += permit.size
        self._released.set()

    def note_largest(self, largest: int) -> None:
        """Note the size of the largest reply."""
        self._largest = max(1, largest, self._largest - self._largest // DECAY_DIVISOR)

    def reset(self) -> None:
        """Expect the largest replies again, after a connection was overloaded."""
        self._largest = MAX_REPLY_BYTES


class RecordReader:
    """Reader of a bucket's records. `last_sequence` is the highest known sequence number of the stream.

    `stale_timeout` is the time in seconds for which a read is repeated that is older than what this process knows.
    """

    def __init__(self, client: RequestClient, bucket: Bucket, *, stale_timeout: float) -> None:
        self.last_sequence = 0
        self._stale_timeout = stale_timeout
        self._client = client
        self._bucket = bucket
        self._direct = client.api_subject(f"DIRECT.GET.{bucket.stream}.")
        self._by_leader = client.api_subject(f"STREAM.MSG.GET.{bucket.stream}")
        self._direct_reads = False
        self._limiter = ReadLimiter()

    def configure(self, config: Mapping[str, Any]) -> None:
        """Choose the way of reading by the stream's configuration."""
        self._direct_reads = config.get("num_replicas", 1) == 1 and bool(config.get("allow_direct"))

    def note_sequence(self, revision: int) -> None:
        """Note a sequence number that the stream has or had."""
        self.last_sequence = max(self.last_sequence, revision)

    async def find(self, subjects: Sequence[str], *, reply_bytes: int = 0) -> list[StoredRecord]:
        """Read records. `reply_bytes` is the expected size of a reply; 0 if unknown.

        Raises:
            BackendUnavailableError: A reply is missing.
        """
        found: list[StoredRecord] = []
        while len(found) < len(subjects):
            extra = 0 if self._direct_reads else 1  # the last message
            wanted = len(subjects) - len(found) + extra
            permit = await self._limiter.acquire(wanted, minimum=1 + extra, reply_bytes=reply_bytes)
            batch = subjects[len(found) : len(found) + permit.requests - extra]
            safe = permit.requests <= SAFE_REQUESTS
            try:
                found += await self._find_current(batch, idempotent=safe)
            except BackendUnavailableError as error:
                if safe or not (isinstance(error.__cause__, NoReplyError) and error.__cause__.sent):
                    raise
                self._limiter.reset()
                reply_bytes = MAX_REPLY_BYTES  # the replies may have been too large: retry in small portions
            finally:
                self._limiter.release(permit)
        return found

    async def stream_info(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return JetStream's information on the stream. Raises `BackendUnavailableError`."""
        with self._client.translating():
            answer: dict[str, Any] = await self._client.call_api(f"STREAM.INFO.{self._bucket.stream}", body)
        return answer

    async def _find_current(self, subjects: Sequence[str], *, idempotent: bool) -> list[StoredRecord]:
        """Read records; repeat while the answers are older than what this process knows."""
        deadline, pause = asyncio.get_running_loop().time() + self._stale_timeout, FIRST_PAUSE_SECONDS
        while True:
            known = self.last_sequence
            answers = await self._fetch(subjects, idempotent=idempotent)
            last = max(answer.revision for answer in answers)
            if not self._direct_reads and last < known and (await self.stream_info())["state"]["last_seq"] < known:
                if asyncio.get_running_loop().time() < deadline:
                    pause = await self._client.pause(pause)
                    continue
                self.last_sequence = 0  # no deposed leader lasts so long: the stream was recreated
            self.note_sequence(last)
            return answers[: len(subjects)]

    async def _fetch(self, subjects: Sequence[str], *, idempotent: bool) -> list[StoredRecord]:
        """Return the records and, from a leader, the last message of the stream."""
        resent: set[int] = set()  # reads may be sent again on the same connection, unless it was overloaded
        try:
            replies = await self._client.request_many(self._requests(subjects), idempotent=idempotent, resent=resent)
        except BackendUnavailableError as error:
            if not self._direct_reads or not isinstance(error.__cause__, NoRespondersError):
                raise
            # Direct gets were disabled meanwhile, as happens before a stream gets replicas.
            self.configure((await self.stream_info())["config"])
            replies = await self._client.request_many(self._requests(subjects), idempotent=True)
        self._limiter.note_largest(max(len(reply.payload) for reply in replies))
        return [self._parse(reply) for reply in replies]

    def _requests(self, subjects: Sequence[str]) -> list[Request]:
        if self._direct_reads:
            return [Request(self._direct + subject) for subject in subjects]
        bodies = [b'{"last_by_subj":"%b"}' % subject.encode() for subject in (*subjects, ">")]
        return [Request(self._by_leader, body) for body in bodies]

    def _parse(self, reply: Reply) -> StoredRecord:
        """Return the record in a reply of either kind."""
        sequence = reply.headers.get(SEQUENCE_HEADER)
        if sequence is not None:
            return record_of(reply, int(sequence), reply.headers.get(TIME_HEADER, ""))
        if reply.status == 404:
            return ABSENT
        error = ApiError(0, reply.status, reply.description) if reply.headers else api_error(reply.payload)
        if error is None:
            message = json.loads(reply.payload)["message"]
            return record_of(stored_message(message), message["seq"], message["time"])
        if error.code == NO_MESSAGE_CODE:
            return ABSENT
        raise self._client.to_brrr_error(error) from error
