"""Values that are larger than a message: reading of their parts, and removal of unused ones."""

from typing import Final

from brrr_core.errors import CorruptBackendError
from brrr_nats.client.errors import api_error
from brrr_nats.client.requests import RequestClient
from brrr_nats.store.keys import Bucket
from brrr_nats.store.reads import RecordReader
from brrr_nats.store.revisions import StoredRecord
from brrr_nats.store.writes import MAX_PART_BYTES, ChangeBuilder, digest

__all__ = ["PartReader", "remove_unused_parts"]

MAX_TRIES: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.05
"""First pause between attempts, doubled each time: 1.6 to 3.2 s in all. A server removes expired messages at most four
times a second."""


class PartReader:
    """Reader of values in parts.

    Args:
        client: Waits between attempts.
        bucket: Names of the parts.
        records: Reads them.
    """

    def __init__(self, client: RequestClient, bucket: Bucket, records: RecordReader) -> None:
        self._client = client
        self._bucket = bucket
        self._records = records

    async def read(self, subject: str, stored: StoredRecord) -> bytes | None:
        """Return the value of a record that is in parts.

        Parts are removed with their record. If a part is missing, the record has probably changed, and is read again.

        Raises:
            CorruptBackendError: The record stays, but its parts are missing or wrong.
        """
        missing, pause = 0, FIRST_PAUSE_SECONDS
        while stored.parts is not None:
            content, count, size = stored.parts
            found = await self._records.find(
                [self._bucket.part(subject, content, n) for n in range(count)], reply_bytes=MAX_PART_BYTES
            )
            value = b"".join(each.value or b"" for each in found)
            if len(value) == size and digest(value) == content:
                return value
            (again,) = await self._records.find([subject])
            missing = missing + 1 if again.revision == stored.revision else 0
            if missing > MAX_TRIES:
                raise CorruptBackendError(
                    f"{subject} of nats at {self._client.servers} should have {size} bytes with a known digest, "
                    f"but its parts have {len(value)} bytes",
                    remedy="Another client changed the bucket's messages: purge that key, and run the call again.",
                )
            if missing:
                pause = await self._client.pause(pause)  # with a ttl, the parts expire a little before the record
            stored = again
        return stored.value


async def remove_unused_parts(
    client: RequestClient, bucket: Bucket, records: RecordReader, builder: ChangeBuilder
) -> int:
    """Remove parts that no record uses: a plain write over a large value leaves them. Return how many there were.

    Raises:
        BackendUnavailableError: JetStream does not reply.
    """
    removed, offset = 0, 0
    while True:
        state = (await records.stream_info({"subjects_filter": bucket.parts, "offset": offset}))["state"]
        parts = [*(state.get("subjects") or ())]
        if not parts:
            return removed
        offset += len(parts)
        # Parts are read before their records: a part that is written again meanwhile has another revision.
        found = await records.find(parts, reply_bytes=MAX_PART_BYTES)
        owners = [bucket.record_of(part) for part in parts]
        names = [*dict.fromkeys(name for name, _ in owners)]
        stored = dict(zip(names, await records.find(names), strict=True))
        removals = [
            builder.remove_part(part, here.revision)
            for part, here, (name, content) in zip(parts, found, owners, strict=True)
            if here.value is not None and content != getattr(stored[name].parts, "content", None)
        ]
        replies = await client.request_many(removals)
        removed += sum(api_error(reply.payload) is None for reply in replies)
