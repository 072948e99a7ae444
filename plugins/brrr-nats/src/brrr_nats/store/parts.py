"""Values that are larger than a message: read from their parts, and swept of those that nobody needs."""

from typing import Final

from brrr_core.errors import CorruptBackendError
from brrr_nats.client.errors import api_error
from brrr_nats.client.requests import Link
from brrr_nats.store.keys import Bucket
from brrr_nats.store.reads import Records
from brrr_nats.store.revisions import Stored
from brrr_nats.store.writes import PART, Changes, digest

__all__ = ["Whole", "sweep"]

TRIES: Final = 6
FIRST_PAUSE: Final = 0.05
"""Seconds, doubled each time: 1.6 to 3.2 in all. A server removes what has ended four times a second at most."""


class Whole:
    """Reads values from their parts.

    Args:
        link: Waits between tries.
        bucket: Names the parts.
        records: Reads them.
    """

    def __init__(self, link: Link, bucket: Bucket, records: Records) -> None:
        self._link = link
        self._bucket = bucket
        self._records = records

    async def read(self, subject: str, stored: Stored) -> bytes | None:
        """The value of a record that is in parts.

        Parts go with the record that they were made for. Where one is missing, the record is another one by now.

        Raises:
            CorruptBackendError: The record stays, and its parts are not there.
        """
        missing, pause = 0, FIRST_PAUSE
        while stored.parts is not None:
            content, count, size = stored.parts
            found = await self._records.find([self._bucket.part(subject, content, n) for n in range(count)], each=PART)
            value = b"".join(each.value or b"" for each in found)
            if len(value) == size and digest(value) == content:
                return value
            (again,) = await self._records.find([subject])
            missing = missing + 1 if again.revision == stored.revision else 0
            if missing > TRIES:
                raise CorruptBackendError(
                    f"{subject} of nats at {self._link.where} should have {size} bytes, and has {len(value)} of them, "
                    "or others",
                    remedy="Somebody has changed messages of the bucket: purge that key, and have the call run again.",
                )
            if missing:
                pause = await self._link.pause(pause)  # with a ttl, the parts end a little before the record
            stored = again
        return stored.value


async def sweep(link: Link, bucket: Bucket, records: Records, changes: Changes) -> int:
    """Remove parts that belong to no record: a plain write over a large value leaves them. How many there were.

    Raises:
        BackendUnavailableError: JetStream does not answer.
    """
    removed, offset = 0, 0
    while True:
        state = (await records.info({"subjects_filter": bucket.parts, "offset": offset}))["state"]
        parts = [*(state.get("subjects") or ())]
        if not parts:
            return removed
        offset += len(parts)
        # First the parts, then their records: a part that is written again meanwhile has another revision.
        found = await records.find(parts, each=PART)
        wholes = [bucket.whole(part) for part in parts]
        names = [*dict.fromkeys(name for name, _ in wholes)]
        stored = dict(zip(names, await records.find(names), strict=True))
        orphans = [
            changes.remove_part(part, here.revision)
            for part, here, (name, content) in zip(parts, found, wholes, strict=True)
            if here.value is not None and content != getattr(stored[name].parts, "content", None)
        ]
        replies = await link.request_many(orphans)
        removed += sum(api_error(reply.payload) is None for reply in replies)
