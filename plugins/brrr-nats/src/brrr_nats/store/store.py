"""The store role: records in a NATS key-value bucket.

**Linearizable.** A change goes through the stream's leader and a majority of its replicas. It expects the
revision that was compared. The leader answers reads. A leader that was just deposed and does not know it yet may answer
with an old state: if it was cut off, for 10 to 20 seconds, to clients that still reach it; if its machine stood still,
until the first message of the new leader. A swap that relies on such an answer does not take place: a deposed leader
stores nothing, and the new one has another revision. However, the swap may be reported as failed by an old state. This
process never goes back behind a revision that it wrote or read: `RecordReader` checks that.

**Lost replies.** Calls are written again, because every writer of a call hash writes the same bytes. Other changes
raise if their results are unknown.

**Expiry.** A value is a message with a time to live. A read of a value that is older than a quarter of it writes the
value again, with its revision as the expected one. A call record is written again with a time to live once its call has
a value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_core.backend import (
    REFRESH_SHARE,
    CallExpirer,
    Key,
    Store,
    Swap,
    call_record_of,
    check_items,
    check_keys,
    check_swaps,
    may_expire,
)
from brrr_core.errors import BackendError, CorruptBackendError, ValueTooLargeError
from brrr_nats.client.errors import api_error
from brrr_nats.client.requests import RequestClient
from brrr_nats.client.streams import StreamSpec, ensure_stream, find_stream
from brrr_nats.names import Bucket
from brrr_nats.options import MAX_VALUE, NatsOptions
from brrr_nats.store.notifier import NatsNotifier
from brrr_nats.store.reads import STALE_READ_TIMEOUT_SECONDS, RecordReader
from brrr_nats.store.records import RevisionCache, StoredRecord
from brrr_nats.store.swaps import ANY, PendingSwap, SwapChain, perform_swaps
from brrr_nats.store.writes import (
    MARKER_TTL_SECONDS,
    MAX_PART_BYTES,
    ChangeBuilder,
    acked_revision,
    digest,
    write_error,
)

__all__ = ["NatsStore"]

REVISION_CACHE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of pending returns that are cached with their revisions. Other kinds of records are written once."""

CACHED_KIND: Final = "pending_returns"
MAX_TRIES: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.05
"""First pause between attempts to read parts, doubled each time: 1.6 to 3.2 s in all."""


class NatsStore(Store):
    """The store.

    Args:
        client: The client.
        options: Name and replicas of the bucket, life of records.
        marker_ttl: Seconds that the markers of deleted records stay.
        cache_bytes: Bytes of records that are cached with their revisions.
        stale_timeout: Seconds for which a read is repeated that is older than this process's own changes.
    """

    def __init__(
        self,
        client: RequestClient,
        options: NatsOptions,
        *,
        marker_ttl: int = MARKER_TTL_SECONDS,
        cache_bytes: int = REVISION_CACHE_BYTES,
        stale_timeout: float = STALE_READ_TIMEOUT_SECONDS,
    ) -> None:
        self._client = client
        self._options = options
        self._bucket = Bucket(options.bucket)
        self._records = RecordReader(client, self._bucket, stale_timeout=stale_timeout)
        self._revisions = RevisionCache(cache_bytes)
        self._marker_ttl = marker_ttl
        self._ttl: float = options.ttl or 0
        self.expires_after = options.ttl
        self.notifier = self._notifier = NatsNotifier(client.connector, self._bucket, options.timeout)
        self._calls = CallExpirer(lambda calls: self._write_again(calls, ttl=self._ttl))
        self._largest_message = -1

    async def prepare(self, *, change: bool = False) -> list[str]:
        """Check the bucket; create it if it is missing. Return the changes, one line each.

        Raises:
            BackendError: The bucket has another purpose, or cannot be created.
            BackendUnavailableError: JetStream does not reply.
        """
        config = found = await find_stream(self._client, self._bucket.stream)
        if found is not None:
            self._refuse(found)
        report = await ensure_stream(self._client, self._wanted(found), found, change=change)
        if config is None or report:
            config = (await self._records.stream_info())["config"]
            self._refuse(config)
        self._records.configure(config)
        self._largest_message = config.get("max_msg_size", -1)
        if change and found is not None:
            removed = await self._remove_unused_parts()
            report += [f"removed {removed} parts of {self._bucket.stream} that no value uses"] if removed else []
        return report

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read keys: one request per key, all together. With a ttl, refresh the values that are read."""
        check_keys(keys)
        found = await self._find(keys)
        old = [key for key in found if self._ttl_of(key) and found[key][0].is_older_than(self._ttl * REFRESH_SHARE)]
        if old and not await self._write_found({key: found[key] for key in old}, ttl=self._ttl):
            return await self.read(keys)  # another client changed one of them meanwhile
        self._calls.add(old)
        return [found[key][1] for key in keys]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys: one message per key, all together. Values larger than a message are written one by one."""
        check_items(items, MAX_VALUE)
        self._check_sizes([value for _, value in items])
        builder = self._builder()
        last = {self._bucket.subject(key): (key, value) for key, value in items}
        for subject in last:
            self._revisions.take(subject)
        large = [subject for subject, (_, value) in last.items() if not builder.fits(value)]
        chains = [
            SwapChain(subject, None, [PendingSwap(0, ANY, value)], ttl=self._ttl_of(key))
            for subject, (key, value) in ((subject, last.pop(subject)) for subject in large)
        ]
        messages = [
            message
            for subject, (key, value) in last.items()
            for message in builder.messages(subject, value, ttl=self._ttl_of(key))
        ]
        safe = all(key.kind == "call" for key, _ in last.values())
        replies = await self._client.request_many(messages, idempotent=safe)
        for (subject, (key, value)), reply in zip(last.items(), replies, strict=True):
            error = api_error(reply.payload)
            if error is not None:
                raise write_error(error, self._client) from error
            revision = acked_revision(reply)
            self._records.note_sequence(revision)
            if key.kind == CACHED_KIND:
                self._revisions.note(subject, StoredRecord(value, revision))
        await self._perform(chains, [False])

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set: one message per key. A key whose state is unknown is read first."""
        check_swaps(swaps, MAX_VALUE)
        self._check_sizes([new for _, _, new in swaps if new is not None])
        await self._keep_calls([key for key, _, new in swaps if new is None and self._ttl_of(key)])
        results = [False] * len(swaps)
        chains: dict[str, SwapChain] = {}
        kept: list[SwapChain] = []
        for position, (key, expected, new) in enumerate(swaps):
            subject = self._bucket.subject(key)
            chain = chains.get(subject)
            if chain is None:
                # The cached state is taken out, and put back at the end: after a lost reply nothing is known.
                chain = chains[subject] = SwapChain(subject, self._revisions.take(subject), ttl=self._ttl_of(key))
                kept += [chain] if key.kind == CACHED_KIND else []
            chain.changes.append(PendingSwap(position, expected, new))
        await self._perform([*chains.values()], results)
        for chain in kept:
            if chain.known is not None and chain.known.revision:
                self._revisions.note(chain.subject, chain.known)
        ended = {
            key: new is not None and (done or expected is None)
            for (key, expected, new), done in zip(swaps, results, strict=True)
        }
        self._calls.add(key for key, there in ended.items() if there and self._ttl_of(key))
        return results

    async def close(self) -> None:
        """Wake the watches, and end the work in the background."""
        await self._notifier.close()
        await self._calls.close()

    def _ttl_of(self, key: Key) -> float:
        """Return the seconds after which a record expires, 0 for never."""
        return self._ttl if self._ttl and may_expire(key) else 0

    async def _find(self, keys: Sequence[Key]) -> dict[Key, tuple[StoredRecord, bytes | None]]:
        """Return the records of keys, and their values."""
        subjects = {key: self._bucket.subject(key) for key in keys}
        found: dict[Key, tuple[StoredRecord, bytes | None]] = {}
        for (key, name), stored in zip(subjects.items(), await self._records.find([*subjects.values()]), strict=True):
            if key.kind == CACHED_KIND and stored.revision:
                self._revisions.note(name, stored)
            found[key] = stored, stored.value if stored.parts is None else await self._read_parts(name, stored)
        return found

    async def _keep_calls(self, values: Sequence[Key]) -> None:
        """Keep the call records of values that are about to be deleted, because their calls must run again."""
        calls = [call for key in values if (call := call_record_of(key)) is not None]
        if calls:
            await self._calls.finish()
            await self._write_again(calls, ttl=0)

    async def _write_again(self, keys: Sequence[Key], *, ttl: float) -> None:
        """Write records again with another time to live."""
        await self._write_found(await self._find(keys), ttl=ttl)

    async def _write_found(self, found: Mapping[Key, tuple[StoredRecord, bytes | None]], *, ttl: float) -> bool:
        """Write records again that were just read. Return whether all of them were unchanged."""
        there = [(key, stored, value) for key, (stored, value) in found.items() if value is not None]
        chains = [
            SwapChain(self._bucket.subject(key), stored, [PendingSwap(place, value, value)], ttl=ttl)
            for place, (key, stored, value) in enumerate(there)
        ]
        unchanged = [False] * len(chains)
        await self._perform(chains, unchanged)
        return all(unchanged)

    async def _perform(self, chains: Sequence[SwapChain], results: list[bool]) -> None:
        await perform_swaps(chains, results, client=self._client, records=self._records, changes=self._builder)
        for chain in chains:
            if chain.known is not None:
                self._records.note_sequence(chain.known.revision)

    async def _read_parts(self, subject: str, stored: StoredRecord) -> bytes | None:
        """Return the value of a record that is in parts.

        Parts are removed with their record. If a part is missing, the record has probably changed, and is read again.
        """
        missing, pause = 0, FIRST_PAUSE_SECONDS
        while stored.parts is not None:
            content, number, size = stored.parts
            names = [self._bucket.part(subject, content, each) for each in range(number)]
            found = await self._records.find(names, reply_bytes=MAX_PART_BYTES)
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
                pause = await self._client.pause(pause)
            stored = again
        return stored.value

    async def _remove_unused_parts(self) -> int:
        """Remove parts that no record uses: a plain write over a large value leaves them. Return their number."""
        removed, offset, builder = 0, 0, self._builder()
        while True:
            info = await self._records.stream_info({"subjects_filter": self._bucket.parts, "offset": offset})
            parts = [*(info["state"].get("subjects") or ())]
            if not parts:
                return removed
            offset += len(parts)
            # Parts are read before their records: a part that is written again meanwhile has another revision.
            found = await self._records.find(parts, reply_bytes=MAX_PART_BYTES)
            owners = [self._bucket.owner_of(part) for part in parts]
            names = [*dict.fromkeys(name for name, _ in owners)]
            stored = dict(zip(names, await self._records.find(names), strict=True))
            removals = [
                builder.remove_part(part, here.revision)
                for part, here, (name, content) in zip(parts, found, owners, strict=True)
                if here.value is not None and content != getattr(stored[name].parts, "content", None)
            ]
            replies = await self._client.request_many(removals)
            removed += sum(api_error(reply.payload) is None for reply in replies)

    def _builder(self) -> ChangeBuilder:
        """Return the builder for the message sizes of the current server."""
        most = self._client.max_payload
        if self._largest_message > 0:
            most = min(most, self._largest_message)
        return ChangeBuilder(self._bucket, max_message_bytes=most, marker_ttl=self._marker_ttl)

    def _check_sizes(self, given: Sequence[bytes]) -> None:
        """Check that the current server takes the values. Raises `ValueTooLargeError`."""
        max_value_bytes = self._builder().max_value_bytes
        if max_value_bytes < MAX_VALUE and any(len(value) > max_value_bytes for value in given):
            raise ValueTooLargeError(
                f"a value of {max(map(len, given))} bytes is over the {max_value_bytes} bytes that nats at "
                f"{self._client.servers} takes with its max_payload of {self._client.max_payload}",
                remedy="Nothing was written. Raise the servers' max_payload or the bucket's max_msg_size.",
            )

    def _wanted(self, found: Mapping[str, Any] | None) -> StreamSpec:
        options, bucket = self._options, self._bucket
        needed: dict[str, Any] = {
            "name": bucket.stream,
            "subjects": [bucket.subjects],
            "retention": "limits",
            "storage": "file",
            "num_replicas": options.replicas,
            "max_age": 0,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "allow_atomic": True,
        }
        if found is None:
            needed |= {"max_msgs_per_subject": 1, "discard": "new", "deny_delete": True}
            needed["allow_direct"] = options.replicas == 1
        elif found.get("num_replicas", 1) < options.replicas:
            needed["allow_direct"] = False  # clients that read directly now would continue to read from any replica
        return StreamSpec(needed, unbounded=False)

    def _refuse(self, config: Mapping[str, Any]) -> None:
        """Refuse a bucket that would lose records or keep old ones."""
        stream, servers = self._bucket.stream, self._client.servers
        revisions = config.get("max_msgs_per_subject")
        if revisions != 1:
            raise BackendError(
                f"the bucket of the stream {stream} of nats at {servers} keeps {revisions} revisions of a key",
                remedy=f"Set its history to 1 (nats stream edit {stream} --max-msgs-per-subject 1), which removes "
                "old revisions, or give another bucket.",
            )
        limits = [name for name in ("max_msgs", "max_bytes") if config.get(name, -1) > 0]
        if config.get("discard") == "old" and limits:
            raise BackendError(
                f"the bucket of the stream {stream} of nats at {servers} discards records at its {limits[0]}",
                remedy=f"Set `discard` to `new`: nats stream edit {stream} --discard new.",
            )
        if config.get("mirror") or config.get("sources") or config.get("sealed"):
            raise BackendError(
                f"the stream {stream} of nats at {servers} is sealed, or a copy of another one",
                remedy="Give another bucket, or the servers of the original.",
            )
