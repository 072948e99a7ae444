"""The steps: operations of the queue, the store and the cache that one script carries out together."""

from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from itertools import chain
from struct import Struct
from typing import Final

from brrr_core.backend import (
    REFRESH_SHARE,
    Key,
    Message,
    Reading,
    Received,
    Step,
    Steps,
    call_record_of,
    check_step,
    is_awaited,
    keys_of,
    may_expire,
)
from brrr_core.errors import BrrrError
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Word, script_command
from brrr_redis.layout import Layout, TopicKeys
from brrr_redis.options import MAX_BODY, MAX_VALUE
from brrr_redis.queue import Receipt, RedisQueue, delivery_of, milliseconds
from brrr_redis.scripts import COMMIT
from brrr_redis.store import encode_optional

__all__ = ["RedisSteps"]

MAX_WORDS: Final = 4_000
"""Arguments of a script after which the next step begins another one. A server runs one script at a time."""

MAX_CACHED_READINGS: Final = 64

MAX_COUNTER: Final = 2**63 - 1
"""The largest counter of a server."""

pack_lengths: Final = Struct(">8I").pack
"""Packs the lengths of a step."""


class RedisSteps(Steps):
    """Steps on one server. A cluster has none, because a script needs all its keys in one slot.

    Args:
        client: Runs the commands.
        layout: Makes the names of keys.
        queue: The queue on the same server.
        ttl: Milliseconds that a value and its call record stay after the last write or read of the value; 0 for no
            limit.
        counter_ttl: Milliseconds that a counter stays after its last increment.
    """

    def __init__(self, client: Client, layout: Layout, queue: RedisQueue, *, ttl: int, counter_ttl: int) -> None:
        self._client = client
        self._layout = layout
        self._queue = queue
        self._ttl = ttl
        self._least = int(ttl * (1 - REFRESH_SHARE))
        self._head = (milliseconds(queue.lease), counter_ttl, ttl, self._least)
        self._words: dict[tuple[Reading, ...], Sequence[Word]] = {}

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        """Lease messages, and read their records in the same script."""
        deliveries, records = await self._queue.receive_and_read(
            topic, limit=limit, wait=wait, readings=self._words_of(readings)
        )
        return [*map(Received, deliveries, records)]

    def drained(self, topic: str) -> bool:
        """Whether the last claim left no ready message."""
        return self._queue.left.get(topic) == 0

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        """Apply steps. If it fails or is cancelled, release the messages that it may have leased."""
        scripts = [*self._scripts(steps, readings)]
        results: list[list[Received] | None] = []
        tokens: list[tuple[TopicKeys, str]] = []
        try:
            for script in scripts:
                token = self._queue.new_token()
                tokens += [(keys, token) for keys in script.leasing]
                names = [*chain.from_iterable(script.topics), *script.names]
                arguments = (*self._head, token, len(script.topics), len(readings), *script.words)
                reply = await self._client.run(script_command(COMMIT, names, *arguments, retry_arguments=None))
                results += map(_result, script.leased, reply)
                for keys, seconds in script.due.items():
                    self._queue.expect(keys, seconds)
        except (BrrrError, CancelledError):
            for keys, token in tokens:
                self._queue.start_unclaim(keys, token)
            raise
        return results

    def _scripts(self, steps: Sequence[Step], readings: Sequence[Reading]) -> Iterator["_Script"]:
        """Yield the scripts to run, one after another. Raises the errors of wrong arguments."""
        script: _Script | None = None
        for step in steps:
            if script is None or len(script.words) > MAX_WORDS:
                if script is not None:
                    yield script
                script = _Script(self._layout, readings, lease=self._queue.lease, expires=self._ttl > 0)
            script.add(step)
        if script is not None:
            yield script

    def _words_of(self, readings: Sequence[Reading]) -> Sequence[Word]:
        """Return readings as the words that `scripts/records.lua` takes."""
        key = tuple(readings)
        words = self._words.get(key)
        if words is None:
            if len(self._words) >= MAX_CACHED_READINGS:
                self._words.clear()
            words = self._words[key] = (
                *(self._ttl, self._least, len(readings)),
                *(word for reading in readings for word in self._words_of_one(reading)),
            )
        return words

    def _words_of_one(self, reading: Reading) -> Sequence[Word]:
        key = Key(reading.kind, reading.prefix)
        call = call_record_of(key)
        return reading.part, self._layout.record(key), b"" if call is None else self._layout.record(call)


class _Script:
    """The words of one script for some steps, as `scripts/commit.lua` takes them.

    Attributes:
        topics: The topics, and the index of the first key of each.
        names: The keys that follow those of the topics.
        words: The arguments for the steps.
        leased: For each step, its leased messages: the topic, and whether the body is a schedule message.
        leasing: The topics with leased messages.
        due: Seconds until the first delayed or leased message of each topic becomes ready, if the steps are applied.
    """

    def __init__(self, layout: Layout, readings: Sequence[Reading], *, lease: float, expires: bool) -> None:
        self._layout = layout
        self._readings = readings
        self._lease = lease
        self._expires = expires
        self.topics: dict[TopicKeys, int] = {}
        self.names: list[bytes] = []
        self.words: list[Word] = []
        self.leased: list[Sequence[tuple[str, bool]]] = []
        self.leasing: set[TopicKeys] = set()
        self.due: dict[TopicKeys, float] = {}

    def add(self, step: Step) -> None:
        """Add a step. Raises the errors of wrong arguments."""
        names, words, record_of = self.names, self.words, self._layout.record
        expected, counts, writes, messages, marks, acks = step
        check_step(step, max_body=MAX_BODY, max_value=MAX_VALUE)
        first_word, first_name = len(words), len(names)
        words.append(b"")
        for key, record in expected:
            names.append(record_of(key))
            words.append(encode_optional(record))
        for counter, amount, limit in counts:
            names.append(self._layout.counter(counter))
            words += (amount, min(limit, MAX_COUNTER) - amount)
        for key, value in writes:
            self._add_record(key, value)
        for message in messages:
            self._add_message(message)
        for key, mark in marks:
            self._add_record(key, mark)
        held = 0
        for topic, _, receipt, _ in acks:
            if isinstance(receipt, Receipt):
                held += 1
                words += (self._topic(self._layout.topic(topic)), receipt.member)
        leased = [(message.topic, self._add_readings(message)) for message in messages if message.leased]
        self.leased.append(leased)
        lengths = (len(expected), len(counts), len(writes), len(messages), len(marks), held, len(leased))
        words[first_word] = pack_lengths(*lengths, len(names) - first_name)

    def _add_record(self, key: Key, value: bytes | None) -> None:
        name = self._layout.record(key)
        self.names.append(name)
        tells = key.kind == "value" and is_awaited(key)
        if self._expires and may_expire(key):
            self.names.append(self._call_of(key) or name)
            self.words += (b"forget", b"") if value is None else (b"expire and tell" if tells else b"expire", value)
        else:
            self.words += (b"delete", b"") if value is None else (b"tell" if tells else b"set", value)

    def _add_message(self, message: Message) -> None:
        topic, body, delay, leased = message
        keys = self._layout.topic(topic)
        how: Word = b"leased" if leased else milliseconds(delay) if delay else b"ready"
        self.words += (self._topic(keys), how, body)
        if leased:
            self.leasing.add(keys)
        if leased or delay:
            due = self._lease if leased else delay
            self.due[keys] = min(self.due.get(keys, due), due)

    def _add_readings(self, message: Message) -> bool:
        """Add the records to read with a leased message. Return False if its body is not a schedule message."""
        keys = keys_of(message.body, self._readings)
        if keys is None:
            unread = self._layout.topic(message.topic).ready
            self.names += (unread,) * (len(self._readings) * (2 if self._expires else 1))
            return False
        names = [self._layout.record(key) for key in keys]
        self.names += names
        if self._expires:
            self.names += [self._call_of(key) or name for key, name in zip(keys, names, strict=True)]
        return True

    def _call_of(self, value: Key) -> bytes | None:
        """Return the name of the call record that expires with a value."""
        call = call_record_of(value)
        return None if call is None else self._layout.record(call)

    def _topic(self, keys: TopicKeys) -> int:
        """Return the index of the first key of a topic."""
        return self.topics.setdefault(keys, len(keys) * len(self.topics) + 1)


def _result(
    messages: Sequence[tuple[str, bool]], reply: Sequence[tuple[bytes, Sequence[bytes | None]]] | None
) -> list[Received] | None:
    """Return the result of a step from the member and the records of each leased message."""
    if reply is None:
        return None
    return [
        Received(delivery_of(topic, member), records if is_schedule else None)
        for (topic, is_schedule), (member, records) in zip(messages, reply, strict=True)
    ]
