"""The queue: topics with leases, delays and dead letters. `layout` has the keys, and `scripts` the Lua scripts."""

import asyncio
from asyncio import CancelledError
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from math import inf
from secrets import token_urlsafe
from typing import Final, NamedTuple, TypeAlias

from brrr_core.backend import (
    LONGEST_DURATION,
    DeadLetter,
    Delivery,
    Gate,
    Queue,
    QueueStats,
    check_bodies,
    check_delay,
    check_limit,
    check_wait,
)
from brrr_core.errors import BackendClosedError, BrrrError
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Script, Word, command, script_command
from brrr_redis.inspection import RedisInspector
from brrr_redis.layout import Layout, TopicKeys
from brrr_redis.letters import RedisLetters, dead_letter
from brrr_redis.options import MAX_BODY
from brrr_redis.receiving import WaitQueues
from brrr_redis.scripts import ACK, BURY, CLAIM, DELAY, DROP, EXTEND, REDRIVE, RELEASE, STATS, UNCLAIM

__all__ = ["Receipt", "Records", "RedisQueue", "delivery_of", "milliseconds"]

Records: TypeAlias = Sequence[bytes | None] | None
"""The records that were read with a message; None if its body is not a schedule message."""

MAX_CLAIMED_MESSAGES: Final = 1_000
"""Most messages that one script leases. A server does nothing else while a script runs."""

MAX_MOVED_DEAD_LETTERS: Final = 1_000
"""Most dead letters that one script moves or deletes, for the same reason."""

MAX_LIMIT: Final = 2**31 - 1
"""Most dead letters of one operation."""

CLOSE_TIMEOUT_SECONDS: Final = 1.0
"""Seconds that `close` waits for claims to be undone. The others become ready when their leases expire."""


class Receipt(NamedTuple):
    """The receipt of a delivery: its member in the sorted set of leases, `ID:ATTEMPT:BODY`."""

    member: bytes


class _Tokens:
    """Makes unique tokens for claims: a random part of this backend, and a number."""

    def __init__(self) -> None:
        self._random = token_urlsafe(9)
        self._numbers = count()

    def __call__(self) -> str:
        """Return a unique token. It has no colon and no full stop, which separate the parts of an id."""
        return f"{self._random}{next(self._numbers):x}"


class RedisQueue(Queue):
    """A queue whose every operation is one command or one script, for any number of messages.

    Args:
        client: Runs the commands.
        layout: Makes the names of keys.
        lease: Lease in seconds.
        sweep: Seconds between two claims of a waiting receiver.
    """

    def __init__(self, client: Client, layout: Layout, *, lease: float, sweep: float) -> None:
        self.lease = lease
        self._client = client
        self._layout = layout
        self._wait_queues = WaitQueues(client, sweep=sweep, unclaim=self.start_unclaim)
        self.new_token = _Tokens()
        self.left: dict[str, int] = {}
        """The number of ready messages that the last receive of each topic left."""
        self._gate = Gate()
        self.letters = RedisLetters(client, layout)
        self.inspector = RedisInspector(client, layout)

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add all messages or none. If the reply is lost, put them again: a duplicate is harmless."""
        keys = self._layout.topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BODY)
        if not bodies:
            return
        if delay:
            await self._client.run(script_command(DELAY, keys, milliseconds(delay), self.new_token(), *bodies))
            self.expect(keys, delay)
        else:
            await self._client.run(command(keys.ready, "RPUSH", keys.ready, *bodies, repeat=True))

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Lease messages, the oldest first. A cancelled receive immediately releases those that it leased."""
        return (await self.receive_and_read(topic, limit=limit, wait=wait))[0]

    async def receive_and_read(
        self, topic: str, *, limit: int, wait: float, readings: Sequence[Word] = ()
    ) -> tuple[list[Delivery], list[Records]]:
        """Receive messages with their records. `readings` says which records to read, as words of the script."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        check_wait(wait)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        wait_queue = self._wait_queues.get(keys)
        if wait and wait_queue is not None and wait_queue.empty:
            await wait_queue.wait(deadline)
        while True:
            left, due_in, members, records = await self._claim(keys, min(limit, MAX_CLAIMED_MESSAGES), readings)
            due = inf if due_in < 0 else due_in / 1000
            self.left[topic] = left
            wait_queue = self._wait_queues.get(keys)
            if wait_queue is not None:
                wait_queue.looked(left, due)
            if members or loop.time() >= deadline:
                return [delivery_of(topic, member) for member in members], records
            await self._wait_queues.of(keys).wait(deadline, due)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries: remove their messages."""
        await self._client.run_all(
            [
                script_command(ACK, self._layout.topic(topic), *each)
                for topic, each in _receipts_by_topic(deliveries).items()
            ]
        )

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Release deliveries. Their messages follow those that are ready."""
        check_delay(delay)
        members = {self._layout.topic(topic): each for topic, each in _receipts_by_topic(deliveries).items()}
        await self._client.run_all(
            [script_command(RELEASE, keys, milliseconds(delay), *each) for keys, each in members.items()]
        )
        for keys in members if delay else ():
            self.expect(keys, delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Restart leases."""
        lease = milliseconds(self.lease)
        await self._client.run_all(
            [
                script_command(EXTEND, self._layout.topic(topic), lease, *each)
                for topic, each in _receipts_by_topic(deliveries).items()
            ]
        )

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move the message of a delivery to the dead letters."""
        if isinstance(delivery.receipt, Receipt):
            text = reason.encode(errors="backslashreplace")
            await self._client.run(
                script_command(BURY, self._layout.topic(delivery.topic), delivery.receipt.member, text)
            )

    async def stats(self, topic: str) -> QueueStats:
        """Return exact counts of one moment."""
        return QueueStats(*await self._client.run(script_command(STATS, self._layout.topic(topic))))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        oldest = command(keys.dead, "LRANGE", keys.dead, 0, min(limit, MAX_LIMIT) - 1, repeat=True)
        return [dead_letter(topic, letter) for letter in await self._client.run(oldest)]

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back on the topic as new messages."""
        return await self._in_rounds(REDRIVE, topic, limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._in_rounds(DROP, topic, limit)

    async def close(self) -> None:
        """End waiting receives with `BackendClosedError`, and release messages that they did not receive."""
        for keys in await self._wait_queues.close():
            self.start_unclaim(keys)
        await self._gate.close(CLOSE_TIMEOUT_SECONDS)

    async def _in_rounds(self, script: Script, topic: str, limit: int) -> int:
        """Run a script on dead letters, up to `limit` or to those that exist at the start. Return the number."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        done, rest = 0, min(limit, MAX_LIMIT)
        while rest > 0:
            count, left = await self._client.run(
                script_command(script, keys, min(rest, MAX_MOVED_DEAD_LETTERS), retry_arguments=None)
            )
            done += count
            rest = min(rest - count, left)
        return done

    async def _claim(
        self, keys: TopicKeys, limit: int, readings: Sequence[Word]
    ) -> tuple[int, int, list[bytes], list[Records]]:
        token = self.new_token()
        arguments = (limit, milliseconds(self.lease), token)
        try:
            left, due_in, members, records = await self._client.run(
                script_command(CLAIM, keys, *arguments, 0, *readings, retry_arguments=(*arguments, 1, *readings))
            )
        except CancelledError:
            self.start_unclaim(keys, token)
            raise
        return left, due_in, members, records

    def start_unclaim(self, keys: TopicKeys, token: str = "") -> None:
        """Undo a claim in the background: make its messages ready, and also those that a wait has moved to the inbox.

        If that fails, the messages become ready when the lease expires, or at the next claim.
        """
        with suppress(BackendClosedError):  # the lease expires instead
            self._gate.start(self._unclaim(keys, token), name="brrr releases the messages of a cancelled receive")

    async def _unclaim(self, keys: TopicKeys, token: str) -> None:
        with suppress(BrrrError):
            await self._client.run(script_command(UNCLAIM, keys, token))

    def expect(self, keys: TopicKeys, seconds: float) -> None:
        """Let a waiting receiver of this process claim in `seconds`, when a message becomes ready."""
        wait_queue = self._wait_queues.get(keys)
        if wait_queue is not None:
            wait_queue.expect(seconds)


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, rounded up: a positive duration never becomes 0."""
    return -int(-min(seconds, LONGEST_DURATION) * 1000 // 1)


def delivery_of(topic: str, member: bytes) -> Delivery:
    """Return the delivery of a member of the leases."""
    _, attempt, body = member.split(b":", 2)
    return Delivery(topic, body, Receipt(member), int(attempt))


def _receipts_by_topic(deliveries: Iterable[Delivery]) -> dict[str, list[bytes]]:
    """Return the members of deliveries, by topic. Skip receipts of other backends, which are stale here."""
    members: dict[str, list[bytes]] = {}
    for each in deliveries:
        if isinstance(each.receipt, Receipt):
            members.setdefault(each.topic, []).append(each.receipt.member)
    return members
