"""Waiting receivers: all receivers of one topic in this process share one connection that blocks.

`BLMOVE TOPIC INBOX` waits for a message and moves it to the inbox, a list that every claim reads. So no message is ever
only in the memory of a client: if this process dies, the next claim of any consumer finds the message. The server wakes
one blocked client for each message.

A delayed or expired message becomes ready only by a claim. So a receiver claims when the next message that this process
knows of becomes due, and every `sweep` seconds for messages that only other processes know of.

If a claim has just left no message, a new receiver waits immediately: its own claim would also find nothing.
"""

import asyncio
from asyncio import Task
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from brrr_core.backend import WaitingReceivers, cancelled_from_outside, closed_error
from brrr_core.errors import BackendClosedError
from brrr_redis.client.client import FIRST_PAUSE_SECONDS, Client
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.layout import TopicKeys

__all__ = ["WaitQueue", "WaitQueues"]

BLOCK_SECONDS: Final = 10.0
"""Seconds that one command blocks. This plus `timeout` bounds how long a dead connection goes unnoticed."""

IDLE_SECONDS: Final = 30.0
"""Seconds that a connection stays open without a waiting receiver."""


class WaitQueue(WaitingReceivers):
    """The waiting receivers of one topic, and the connection that blocks for them.

    Args:
        keys: The keys of the topic.
        client: Runs the commands.
        sweep: Seconds between two claims for messages that only other processes know of.
        unclaim: Puts messages of the inbox back on the topic if no receiver here will claim them.
        idle: Called when the wait queue has ended, because no receiver has waited for long.
    """

    def __init__(
        self,
        keys: TopicKeys,
        client: Client,
        *,
        sweep: float,
        unclaim: Callable[[TopicKeys], None],
        idle: Callable[[], None],
    ) -> None:
        super().__init__(recheck=sweep, unused=lambda: unclaim(keys))
        self._keys = keys
        self._client = client
        self._sweep = sweep
        self._idle = idle
        self._empty_until = 0.0  # by the clock of the event loop
        self._connection: PipelinedConnection | None = None
        self._ran = False
        self._task: Task[None] = asyncio.create_task(self._run(), name="brrr waits for messages of a topic")
        self._task.add_done_callback(self._on_end)

    @property
    def empty(self) -> bool:
        """Whether a recent claim left no message, and the connection has been open since to report new ones."""
        connection = self._connection
        return connection is not None and connection.alive and self._loop.time() < self._empty_until

    def looked(self, left: int, due_in: float) -> None:
        """Record the result of a claim: how many messages it left, and the seconds until the next one becomes due."""
        self._empty_until = 0 if left else self._loop.time() + self._sweep
        super().looked(left, due_in)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and close the connection."""
        self.end()
        self._task.cancel()
        await asyncio.wait({self._task})

    def _on_end(self, task: Task[None]) -> None:
        if not self._ran:  # cancelled before it began
            self._idle()
        if task.cancelled():
            self.end(cancelled_from_outside)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while await self._has_receivers():
                try:
                    self._connection = self._connection or await self._client.blocking_connection(
                        self._keys.ready, extra_timeout=BLOCK_SECONDS
                    )
                    await self._block(self._connection)
                    pause = FIRST_PAUSE_SECONDS
                except BackendClosedError:
                    return
                except Exception:  # noqa: BLE001 - receivers claim by the timer and raise the error
                    self._discard_connection()
                    self._client.router.invalidate(None)
                    pause = await self._client.pause(pause)
        except BackendClosedError:
            pass
        finally:
            self._discard_connection()
            self._ran = True
            self._idle()

    def _discard_connection(self) -> None:
        if self._connection is not None:
            self._client.router.pool.discard(self._connection)
            self._connection = None

    async def _block(self, connection: PipelinedConnection) -> None:
        """Wait for one message, and let a receiver claim it. Raises the error of the connection."""
        ready, inbox = self._keys.ready, self._keys.inbox
        moved = await connection.send(("BLMOVE", ready, inbox, "LEFT", "RIGHT", BLOCK_SECONDS))
        if isinstance(moved, Exception):
            raise moved
        if moved is not None and not self.wake():
            # No receiver waits here now. Putting the message back wakes a receiver of another process.
            self._unused()

    async def _has_receivers(self) -> bool:
        """Wait for a receiver. Return False if none has come for `IDLE_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self.present.wait()
        return self.present.is_set()


class WaitQueues:
    """The wait queues of one backend, one for each topic.

    Args:
        client: Runs their commands.
        sweep: Seconds between two claims for messages that only other processes know of.
        unclaim: Puts messages of the inbox back on the topic if no receiver here will claim them.
    """

    def __init__(self, client: Client, *, sweep: float, unclaim: Callable[[TopicKeys], None]) -> None:
        self._client = client
        self._sweep = sweep
        self._unclaim = unclaim
        self._queues: dict[TopicKeys, WaitQueue] = {}
        self._closed = False

    def get(self, keys: TopicKeys) -> WaitQueue | None:
        """Return the wait queue of a topic, or None if it has none."""
        return self._queues.get(keys)

    def of(self, keys: TopicKeys) -> WaitQueue:
        """Return the wait queue of a topic, created if necessary. Raises `BackendClosedError`."""
        if self._closed:
            raise closed_error()
        queue = self._queues.get(keys)
        if queue is None:
            queue = self._queues[keys] = WaitQueue(
                keys,
                self._client,
                sweep=self._sweep,
                unclaim=self._unclaim,
                idle=lambda: self._forget(keys),
            )
        return queue

    async def close(self) -> tuple[TopicKeys, ...]:
        """End every wait with `BackendClosedError`. Return the topics whose inbox may hold a message."""
        self._closed = True
        queues = dict(self._queues)
        for queue in queues.values():
            await queue.close()
        return tuple(queues)

    def _forget(self, keys: TopicKeys) -> None:
        self._queues.pop(keys, None)
