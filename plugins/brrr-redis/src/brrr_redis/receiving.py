"""Waiting receivers: all receivers of one topic in this process share one connection that blocks.

`BLMOVE TOPIC INBOX` waits for a message and moves it to the inbox, a list that every claim reads. So no message is ever
only in the memory of a client: if this process dies, the next claim of any consumer finds the message. The server wakes
one blocked client for each message.

A delayed or expired message becomes ready only by a claim. So a receiver claims when the next message that this process
knows of becomes due, and every `sweep` seconds for messages that only other processes know of.

A receiver that comes soon after a claim that left nothing waits at once: a claim of its own would find nothing either.
"""

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future, Task, TimerHandle
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from brrr_core.backend import cancelled_from_outside, closed_error
from brrr_core.errors import BackendClosedError
from brrr_redis.client.client import FIRST_PAUSE_SECONDS, Client
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.layout import TopicKeys

__all__ = ["WaitQueue", "WaitQueues"]

BLOCK_SECONDS: Final = 10.0
"""Seconds that one command blocks. This plus `timeout` bounds how long a dead connection goes unnoticed."""

IDLE_SECONDS: Final = 30.0
"""Seconds that a connection stays open without a waiting receiver."""

ROUNDING_SECONDS: Final = 0.002
"""Seconds to add to the time when a message becomes due: the server counts whole milliseconds."""


class WaitQueue:
    """The waiting receivers of one topic. A wake-up gives one of them the turn to claim.

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
        self._keys = keys
        self._client = client
        self._sweep = sweep
        self._unclaim = unclaim
        self._idle = idle
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._waiting: deque[Future[None]] = deque()
        self._has_waiting = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._due, self._empty_until = inf, 0.0  # by the clock of the event loop
        self._connection: PipelinedConnection | None = None
        self._closed = False
        self._task: Task[None] = asyncio.create_task(self._run(), name="brrr waits for messages of a topic")
        self._task.add_done_callback(self._on_end)

    @property
    def empty(self) -> bool:
        """Whether a claim has left nothing a moment ago, and the connection reports each message that came since."""
        connection = self._connection
        return connection is not None and connection.alive and self._loop.time() < self._empty_until

    def claimed(self, left: int, due_in: float) -> None:
        """Learn from a claim: how many messages it left, and the seconds until the next one becomes due."""
        now = self._loop.time()
        self._empty_until = 0 if left else now + self._sweep
        self._due = now + due_in + ROUNDING_SECONDS
        if left:
            self.wake()
        self._set_timer()

    async def wait(self, deadline: float, due_in: float) -> None:
        """Wait until it is this receiver's turn to claim, or until `deadline`.

        Args:
            deadline: When to stop waiting, by the clock of the event loop; may be infinite.
            due_in: Seconds until a message becomes due; infinite if none is known.

        Raises:
            BackendClosedError: The backend was closed.
        """
        if self._closed:
            raise closed_error()
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        self._has_waiting.set()
        self.expect(due_in)
        try:
            async with asyncio.timeout_at(None if deadline == inf else deadline):
                await turn
        except TimeoutError:
            pass
        except CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None and not self.wake():
                self._unclaim(self._keys)  # this receiver had the turn, and no other waits here
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._rest_if_empty()

    def wake(self) -> bool:
        """Give the turn to the receiver that has waited longest. Return whether one waits."""
        woken = False
        while self._waiting and not woken:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken = True
        self._rest_if_empty()
        return woken

    def expect(self, due_in: float) -> None:
        """Wake a receiver when a message becomes due."""
        self._due = min(self._due, self._loop.time() + due_in + ROUNDING_SECONDS)
        self._set_timer()

    def _set_timer(self) -> None:
        """Wake a receiver when the next message becomes due, at the latest after `sweep`."""
        if not self._waiting:
            return
        at = min(self._due, self._loop.time() + self._sweep)
        if self._timer is None or at < self._timer.when():
            self._stop_timer()
            self._timer = self._loop.call_at(at, self._on_due)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and close the connection."""
        self._fail(closed_error)
        self._task.cancel()
        await asyncio.wait({self._task})

    def _fail(self, error: Callable[[], BackendClosedError]) -> None:
        """End the waits, and take no more receivers."""
        self._closed = True
        self._stop_timer()
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error())
        self._waiting.clear()

    def _on_end(self, task: Task[None]) -> None:
        if task.cancelled():
            if not self._closed:  # cancelled before `_run` started
                self._idle()
            self._fail(cancelled_from_outside)

    def _on_due(self) -> None:
        self._timer = None
        self._due = inf  # the claim will tell
        self.wake()
        self._set_timer()  # for the other receivers, if the one that claims takes long

    def _rest_if_empty(self) -> None:
        if not self._waiting:
            self._has_waiting.clear()
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
            self._closed = True
            self._idle()

    def _discard_connection(self) -> None:
        if self._connection is not None:
            self._client.router.pool.discard(self._connection)
            self._connection = None

    async def _block(self, connection: PipelinedConnection) -> None:
        """Wait for one message, and give a receiver the turn. Raises the error of the connection."""
        ready, inbox = self._keys.ready, self._keys.inbox
        moved = await connection.send(("BLMOVE", ready, inbox, "LEFT", "RIGHT", BLOCK_SECONDS))
        if isinstance(moved, Exception):
            raise moved
        if moved is not None and not self.wake():
            # No receiver waits here any more. To put the message back wakes a receiver of another process.
            self._unclaim(self._keys)

    async def _has_receivers(self) -> bool:
        """Wait for a receiver. Return False if none has come for `IDLE_SECONDS`."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._has_waiting.wait()
        except TimeoutError:
            return self._has_waiting.is_set()
        return True


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
