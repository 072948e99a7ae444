"""The queue role: messages of topics, with leases, delays and dead letters. `layout` says where they are."""

import asyncio
from asyncio import CancelledError, Task
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from secrets import token_urlsafe
from typing import Final, NamedTuple

from brrr_core.backend import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.checks import LONGEST_DURATION, check_bodies, check_delay, check_limit, check_wait
from brrr_core.errors import BrrrError
from brrr_redis.client.client import Client
from brrr_redis.client.commands import Script, command, script_command
from brrr_redis.layout import Layout, TopicKeys
from brrr_redis.options import MAX_BODY
from brrr_redis.receiving import WaitQueues
from brrr_redis.scripts import ACK, BURY, CLAIM, DELAY, DROP, EXTEND, REDRIVE, RELEASE, STATS, UNCLAIM

__all__ = ["Receipt", "RedisQueue"]

MAX_CLAIMED_MESSAGES: Final = 1_000
"""Messages that one claim takes at most: a server does nothing else meanwhile."""

MAX_MOVED_DEAD_LETTERS: Final = 1_000
"""Dead letters that one command moves or deletes at most, for the same reason."""

MAX_LIMIT: Final = 2**31 - 1

CLOSE_TIMEOUT_SECONDS: Final = 1.0
"""Seconds that closing gives to what is still being given back. A server that is away finds it when leases run out."""


class Receipt(NamedTuple):
    """The member of the topic's leases that is this delivery: `ID:ATTEMPT:BODY`."""

    member: bytes


class _Tokens:
    """Makes tokens of claims, never twice: a random part for this backend, and a number."""

    def __init__(self) -> None:
        self._own = token_urlsafe(9)
        self._numbers = count()

    def __call__(self) -> str:
        """A token that nobody else has. It holds neither a colon nor a full stop, which end it in an id."""
        return f"{self._own}{next(self._numbers):x}"


class RedisQueue(Queue):
    """Every operation is one command or one script, for as many messages as it is asked for.

    Args:
        client: Runs the commands.
        layout: Names the keys.
        lease: Seconds that a delivery stays with its receiver.
        sweep: Seconds between two looks of a waiting receiver.
    """

    def __init__(self, client: Client, layout: Layout, *, lease: float, sweep: float) -> None:
        self.lease = lease
        self._client = client
        self._layout = layout
        self._wait_queues = WaitQueues(client, sweep=sweep, unclaim=self._start_unclaim)
        self._tokens = _Tokens()
        self._unclaiming: set[Task[None]] = set()

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages, all or none. A put whose answer was lost is repeated: a message more is harmless."""
        keys = self._layout.topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BODY)
        if not bodies:
            return
        if delay:
            await self._client.run(script_command(DELAY, keys, _milliseconds(delay), self._tokens(), *bodies))
            self._expect(keys, delay)
        else:
            await self._client.run(command(keys.ready, "RPUSH", keys.ready, *bodies, repeat=True))

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        """Take messages, the oldest first. A cancelled one gives back at once what it may have taken."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        check_wait(wait)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            left, due_in, members = await self._claim(keys, min(limit, MAX_CLAIMED_MESSAGES))
            if members:
                wait_queue = self._wait_queues.get(keys)
                if wait_queue is not None:
                    if left:
                        wait_queue.wake()
                    wait_queue.expect(self.lease)
                return [_delivery(topic, member) for member in members]
            if loop.time() >= deadline:
                return []
            await self._wait_queues.of(keys).wait(deadline, None if due_in < 0 else due_in / 1000)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        await self._client.run_all(
            [
                script_command(ACK, self._layout.topic(topic), *each)
                for topic, each in _receipts_by_topic(deliveries).items()
            ]
        )

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Give messages back; they queue up behind those that are ready."""
        check_delay(delay)
        members = {self._layout.topic(topic): each for topic, each in _receipts_by_topic(deliveries).items()}
        await self._client.run_all(
            [script_command(RELEASE, keys, _milliseconds(delay), *each) for keys, each in members.items()]
        )
        for keys in members if delay else ():
            self._expect(keys, delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start leases anew."""
        lease = _milliseconds(self.lease)
        await self._client.run_all(
            [
                script_command(EXTEND, self._layout.topic(topic), lease, *each)
                for topic, each in _receipts_by_topic(deliveries).items()
            ]
        )

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        if isinstance(delivery.receipt, Receipt):
            text = reason.encode(errors="backslashreplace")
            await self._client.run(
                script_command(BURY, self._layout.topic(delivery.topic), delivery.receipt.member, text)
            )

    async def stats(self, topic: str) -> QueueStats:
        """Exact counts, of one moment."""
        return QueueStats(*await self._client.run(script_command(STATS, self._layout.topic(topic))))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        oldest = command(keys.dead, "LRANGE", keys.dead, 0, min(limit, MAX_LIMIT) - 1, repeat=True)
        return [_dead_letter(topic, letter) for letter in await self._client.run(oldest)]

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        return await self._in_rounds(REDRIVE, topic, limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._in_rounds(DROP, topic, limit)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and give back what nobody here takes any more."""
        for keys in await self._wait_queues.close():
            self._start_unclaim(keys)
        under_way = set(self._unclaiming)
        if not under_way:
            return
        try:
            _, late = await asyncio.wait(under_way, timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            for task in under_way:
                task.cancel()
        if late:
            await asyncio.wait(late)

    async def _in_rounds(self, script: Script, topic: str, limit: int) -> int:
        """Work through dead letters in rounds; those that come meanwhile are not waited for."""
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

    async def _claim(self, keys: TopicKeys, limit: int) -> tuple[int, int, list[bytes]]:
        token = self._tokens()
        arguments = (limit, _milliseconds(self.lease), token)
        try:
            left, due_in, members = await self._client.run(
                script_command(CLAIM, keys, *arguments, retry_arguments=(*arguments, 1))
            )
        except CancelledError:
            self._start_unclaim(keys, token)
            raise
        return left, due_in, members

    def _start_unclaim(self, keys: TopicKeys, token: str = "") -> None:
        """Undo a claim that nobody waits for, and put back what a wait has moved. If that fails, its lease runs out."""
        task = asyncio.create_task(self._unclaim(keys, token), name="brrr gives back what nobody waits for")
        self._unclaiming.add(task)
        task.add_done_callback(self._unclaiming.discard)

    async def _unclaim(self, keys: TopicKeys, token: str) -> None:
        with suppress(BrrrError):
            await self._client.run(script_command(UNCLAIM, keys, token))

    def _expect(self, keys: TopicKeys, seconds: float) -> None:
        wait_queue = self._wait_queues.get(keys)
        if wait_queue is not None:
            wait_queue.expect(seconds)


def _milliseconds(seconds: float) -> int:
    """A span as scripts take it. One that is not 0 does not become 0."""
    return -int(-min(seconds, LONGEST_DURATION) * 1000 // 1)


def _delivery(topic: str, member: bytes) -> Delivery:
    """The delivery that a member is."""
    _, attempt, body = member.split(b":", 2)
    return Delivery(topic, body, Receipt(member), int(attempt))


def _receipts_by_topic(deliveries: Iterable[Delivery]) -> dict[str, list[bytes]]:
    """The members of deliveries, by topic. A receipt of another backend is stale here, like one that was settled."""
    members: dict[str, list[bytes]] = {}
    for each in deliveries:
        if isinstance(each.receipt, Receipt):
            members.setdefault(each.topic, []).append(each.receipt.member)
    return members


def _dead_letter(topic: str, letter: bytes) -> DeadLetter:
    """The dead letter that is kept as `ATTEMPT:MILLISECOND:LENGTH:REASON` and the body."""
    attempt, millisecond, length, rest = letter.split(b":", 3)
    reason, body = rest[: int(length)], rest[int(length) :]
    return DeadLetter(topic, body, reason.decode(), int(attempt), int(millisecond) / 1000)
