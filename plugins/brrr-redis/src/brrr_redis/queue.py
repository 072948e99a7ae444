"""The queue role: messages of topics, with leases, delays and dead letters. `layout` says where they are."""

import asyncio
from asyncio import CancelledError, Task
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from brrr_core.backend import DeadLetter, Delivery, Queue, QueueStats
from brrr_core.backend.checks import LONGEST_DURATION, check_bodies, check_delay, check_limit, check_wait
from brrr_core.errors import BrrrError
from brrr_redis.client import Client
from brrr_redis.commands import call, command
from brrr_redis.layout import Layout, TopicKeys
from brrr_redis.options import MAX_BODY
from brrr_redis.receipts import Receipt, Tokens, dead_letter, delivery, receipts_by_topic
from brrr_redis.scripts import ACK, BURY, CLAIM, DELAY, DROP, EXTEND, REDRIVE, RELEASE, STATS, UNCLAIM, Script
from brrr_redis.waiting import Watches

__all__ = ["RedisQueue"]

MOST_CLAIMED: Final = 1_000
"""Messages that one claim takes at most: a server does nothing else meanwhile."""

MOST_MOVED: Final = 1_000
"""Dead letters that one command moves or deletes at most, for the same reason."""

MOST: Final = 2**31 - 1

PARTING: Final = 1.0
"""Seconds that closing gives to what is still being given back. A server that is away finds it when leases run out."""


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
        self._watches = Watches(client, sweep=sweep, give_back=self._give_back)
        self._tokens = Tokens()
        self._giving_back: set[Task[None]] = set()

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        """Add messages, all or none. A put whose answer was lost is repeated: a message more is harmless."""
        keys = self._layout.topic(topic)
        check_delay(delay)
        check_bodies(topic, bodies, MAX_BODY)
        if not bodies:
            return
        if delay:
            await self._client.run(call(DELAY, keys, _milliseconds(delay), self._tokens(), *bodies))
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
            left, due_in, members = await self._claim(keys, min(limit, MOST_CLAIMED))
            if members:
                watch = self._watches.get(keys)
                if watch is not None:
                    if left:
                        watch.wake()
                    watch.expect(self.lease)
                return [delivery(topic, member) for member in members]
            if loop.time() >= deadline:
                return []
            await self._watches.of(keys).wait(deadline, None if due_in < 0 else due_in / 1000)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good."""
        await self._client.run_all(
            [call(ACK, self._layout.topic(topic), *each) for topic, each in receipts_by_topic(deliveries).items()]
        )

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        """Give messages back; they queue up behind those that are ready."""
        check_delay(delay)
        members = {self._layout.topic(topic): each for topic, each in receipts_by_topic(deliveries).items()}
        await self._client.run_all([call(RELEASE, keys, _milliseconds(delay), *each) for keys, each in members.items()])
        for keys in members if delay else ():
            self._expect(keys, delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Start leases anew."""
        lease = _milliseconds(self.lease)
        await self._client.run_all(
            [
                call(EXTEND, self._layout.topic(topic), lease, *each)
                for topic, each in receipts_by_topic(deliveries).items()
            ]
        )

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        if isinstance(delivery.receipt, Receipt):
            text = reason.encode(errors="backslashreplace")
            await self._client.run(call(BURY, self._layout.topic(delivery.topic), delivery.receipt.member, text))

    async def stats(self, topic: str) -> QueueStats:
        """Exact counts, of one moment."""
        return QueueStats(*await self._client.run(call(STATS, self._layout.topic(topic))))

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        oldest = command(keys.dead, "LRANGE", keys.dead, 0, min(limit, MOST) - 1, repeat=True)
        return [dead_letter(topic, letter) for letter in await self._client.run(oldest)]

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put the oldest dead letters back as new messages."""
        return await self._of_dead(REDRIVE, topic, limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        """Delete the oldest dead letters."""
        return await self._of_dead(DROP, topic, limit)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and give back what nobody here takes any more."""
        for keys in await self._watches.close():
            self._give_back(keys)
        under_way = set(self._giving_back)
        if not under_way:
            return
        try:
            _, late = await asyncio.wait(under_way, timeout=PARTING)
        finally:
            for task in under_way:
                task.cancel()
        if late:
            await asyncio.wait(late)

    async def _of_dead(self, script: Script, topic: str, limit: int) -> int:
        """Work through dead letters in rounds; those that come meanwhile are not waited for."""
        keys = self._layout.topic(topic)
        check_limit(limit)
        done, rest = 0, min(limit, MOST)
        while rest > 0:
            count, left = await self._client.run(call(script, keys, min(rest, MOST_MOVED), again=None))
            done += count
            rest = min(rest - count, left)
        return done

    async def _claim(self, keys: TopicKeys, limit: int) -> tuple[int, int, list[bytes]]:
        token = self._tokens()
        arguments = (limit, _milliseconds(self.lease), token)
        try:
            left, due_in, members = await self._client.run(call(CLAIM, keys, *arguments, again=(*arguments, 1)))
        except CancelledError:
            self._give_back(keys, token)
            raise
        return left, due_in, members

    def _give_back(self, keys: TopicKeys, token: str = "") -> None:
        """Undo a claim that nobody waits for, and put back what a wait has moved. If that fails, its lease runs out."""
        task = asyncio.create_task(self._unclaim(keys, token), name="brrr gives back what nobody waits for")
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _unclaim(self, keys: TopicKeys, token: str) -> None:
        with suppress(BrrrError):
            await self._client.run(call(UNCLAIM, keys, token))

    def _expect(self, keys: TopicKeys, seconds: float) -> None:
        watch = self._watches.get(keys)
        if watch is not None:
            watch.expect(seconds)


def _milliseconds(seconds: float) -> int:
    """A span as scripts take it. One that is not 0 does not become 0."""
    return -int(-min(seconds, LONGEST_DURATION) * 1000 // 1)
