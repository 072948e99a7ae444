"""The store role: records in a NATS key-value bucket.

**Linearizable.** A change goes through the stream's leader and a majority of its replicas, under the guard of the
revision that was compared. A read is answered by the leader. A leader that has just been deposed, and does not know it
(its machine stood still, or the network has cut it off), may answer from its own state: cut off, for the 10 to 20
seconds in which it notices that the majority is gone, to clients that still reach it; otherwise until the first word
of the new leader. A swap that rests on such an answer does not take place: a deposed leader stores nothing, and the
new one finds another revision. It may be said to have failed, though, by what was true before. What this process
changed or has read, and all that was stored before that, is not undone by such an answer: `Records` looks.

**Answers that are lost.** A swap is sent again, and `marks` tells whether it took place, or that nobody can know: then
it raises. Calls are written again too, as whoever writes the call of a hash writes the same; other plain writes raise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brrr_core.backend import Key, Store, Swap
from brrr_core.backend.checks import check_values
from brrr_core.errors import BackendError, ValueTooLargeError
from brrr_nats.client.errors import api_error
from brrr_nats.client.requests import Link
from brrr_nats.client.streams import DUPLICATES, SECOND, Wanted, ensure_stream, find_stream
from brrr_nats.options import MAX_VALUE, NatsOptions
from brrr_nats.store.idempotency import Marks
from brrr_nats.store.keys import Bucket
from brrr_nats.store.parts import Whole, sweep
from brrr_nats.store.reads import PATIENCE, Records
from brrr_nats.store.revisions import Revisions, Stored
from brrr_nats.store.swaps import ANY, Chain, Change, perform
from brrr_nats.store.writes import MARKER_TTL, Changes, not_taken, sequence

__all__ = ["NatsStore"]

REVISIONS: Final = 8 * 1024 * 1024
"""Bytes of pending returns that are kept with their revisions. Records of other kinds are written once."""

KEPT: Final = "pending_returns"


class NatsStore(Store):
    """Records in a bucket.

    Args:
        link: Asks the servers.
        options: The bucket's name, its replicas, how long records stay.
        marker_ttl: Seconds that markers of deleted records stay.
        known: Bytes of records that are kept with their revisions.
        patience: Seconds for which a read asks again that was answered by what is older than an own change.
    """

    def __init__(
        self,
        link: Link,
        options: NatsOptions,
        *,
        marker_ttl: int = MARKER_TTL,
        known: int = REVISIONS,
        patience: float = PATIENCE,
    ) -> None:
        self._link = link
        self._options = options
        self._bucket = Bucket(options.bucket)
        self._records = Records(link, self._bucket, patience=patience)
        self._whole = Whole(link, self._bucket, self._records)
        self._revisions = Revisions(known)
        self._marker_ttl = marker_ttl
        self._marks = Marks.new(min(marker_ttl, options.ttl or marker_ttl), options.timeout)
        self._largest_message = -1

    async def prepare(self, *, change: bool = False) -> list[str]:
        """See that the bucket is there, and is as it has to be. What was done, a line each.

        Raises:
            BackendError: It is made for something else, or cannot be made.
            BackendUnavailableError: JetStream does not answer.
        """
        config = found = await find_stream(self._link, self._bucket.stream)
        if found is not None:
            self._refuse(found)
        said = await ensure_stream(self._link, self._wanted(found), found, change=change)
        if config is None or said:
            config = (await self._records.info())["config"]
            self._refuse(config)
        self._records.learn(config)
        self._largest_message = config.get("max_msg_size", -1)
        if change and found is not None:
            swept = await sweep(self._link, self._bucket, self._records, self._changes())
            said += [f"removed {swept} parts that no value of {self._bucket.stream} is made of"] if swept else []
        return said

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Look keys up: one request each, all together."""
        if not keys:
            return []
        names = [self._bucket.subject(key) for key in keys]
        subjects = dict.fromkeys(names)
        found = dict(zip(subjects, await self._records.find([*subjects]), strict=True))
        values: dict[str, bytes | None] = {}
        for key, name in zip(keys, names, strict=True):
            stored = found[name]
            if key.kind == KEPT and stored.revision:
                self._revisions.note(name, stored)
            values[name] = stored.value if stored.parts is None else await self._whole.read(name, stored)
        return [values[name] for name in names]

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Set keys: one message each, all together; but values that are larger than a message one by one."""
        self._check(value for _, value in items)
        changes = self._changes()
        last = {self._bucket.subject(key): (key, value) for key, value in items}
        large = [Chain(subject, None) for subject, (_, value) in last.items() if not changes.fits(value)]
        for chain in large:
            chain.changes.append(Change(0, ANY, last.pop(chain.subject)[1]))
            self._revisions.take(chain.subject)
        for subject in last:
            self._revisions.take(subject)
        messages = [message for subject, (_, value) in last.items() for message in changes.messages(subject, value)]
        safe = all(key.kind == "call" for key, _ in last.values())
        replies = await self._link.request_many(messages, repeat=safe)
        for (subject, (key, value)), reply in zip(last.items(), replies, strict=True):
            error = api_error(reply.payload)
            if error is not None:
                raise not_taken(error, self._link) from error
            revision = sequence(reply)
            self._records.saw(revision)
            if key.kind == KEPT:
                self._revisions.note(subject, Stored(value, revision))
        await perform(large, [False], link=self._link, records=self._records, changes=self._changes)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Compare and set: one message each where what is there is known or absent, and a read before it else."""
        self._check(new for _, _, new in swaps)
        results = [False] * len(swaps)
        chains: dict[str, Chain] = {}
        kept: list[Chain] = []
        for place, (key, expected, new) in enumerate(swaps):
            subject = self._bucket.subject(key)
            chain = chains.get(subject)
            if chain is None:
                # It is taken, and noted when all is done: if an answer is lost, nothing is known.
                chain = chains[subject] = Chain(subject, self._revisions.take(subject))
                kept += [chain] if key.kind == KEPT else []
            chain.changes.append(Change(place, expected, new))
        await perform([*chains.values()], results, link=self._link, records=self._records, changes=self._changes)
        for chain in chains.values():
            if chain.known is not None:
                self._records.saw(chain.known.revision)
        for chain in kept:
            if chain.known is not None and chain.known.revision:
                self._revisions.note(chain.subject, chain.known)
        return results

    def _changes(self) -> Changes:
        """How messages are made now: another server may take larger ones."""
        room = self._link.max_payload
        if self._largest_message > 0:
            room = min(room, self._largest_message)
        return Changes(self._bucket, room=room, marks=self._marks, marker_ttl=self._marker_ttl)

    def _check(self, values: Any) -> None:
        given = [value for value in values if value is not None]
        check_values(given, MAX_VALUE)
        most = self._changes().most
        if most < MAX_VALUE and any(len(value) > most for value in given):
            raise ValueTooLargeError(
                f"a value of {max(map(len, given))} bytes is over the {most} that nats at {self._link.where} takes, in "
                f"parts that its max_payload of {self._link.max_payload} bounds",
                remedy="Nothing of the batch was written; raise the servers' max_payload or the bucket's max_msg_size.",
            )

    def _wanted(self, found: Mapping[str, Any] | None) -> Wanted:
        options, bucket = self._options, self._bucket
        age = int((options.ttl or 0) * SECOND)
        needed: dict[str, Any] = {
            "name": bucket.stream,
            "subjects": [bucket.subjects],
            "retention": "limits",
            "storage": "file",
            "num_replicas": options.replicas,
            "max_age": age,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "allow_atomic": True,
        }
        if age:
            needed["duplicate_window"] = min(age, DUPLICATES)
        if found is None:
            made = {"max_msgs_per_subject": 1, "discard": "new", "deny_delete": True}
            return Wanted({**needed, **made, "allow_direct": options.replicas == 1}, unbounded=False)
        if found.get("num_replicas", 1) < options.replicas:
            needed["allow_direct"] = False  # or those who read it now would go on to ask any of its servers
        return Wanted(needed, unbounded=False)

    def _refuse(self, config: Mapping[str, Any]) -> None:
        """Refuse a bucket that would lose records, or keep old ones."""
        stream, where = self._bucket.stream, self._link.where
        if config.get("max_msgs_per_subject") != 1:
            raise BackendError(
                f"the bucket of the stream {stream} of nats at {where} keeps "
                f"{config.get('max_msgs_per_subject')} revisions of a key",
                remedy=f"Set its history to 1 (nats stream edit {stream} --max-msgs-per-subject 1), which removes the "
                "old ones, or give another bucket.",
            )
        limits = [name for name in ("max_msgs", "max_bytes") if config.get(name, -1) > 0]
        if config.get("discard") == "old" and limits:
            raise BackendError(
                f"the bucket of the stream {stream} of nats at {where} throws records away at its {limits[0]}",
                remedy=f"Set `discard` to `new`: nats stream edit {stream} --discard new.",
            )
        if config.get("mirror") or config.get("sources") or config.get("sealed"):
            raise BackendError(
                f"the stream {stream} of nats at {where} is sealed, or a copy of another one",
                remedy="Give another bucket, or the servers that have the original.",
            )
