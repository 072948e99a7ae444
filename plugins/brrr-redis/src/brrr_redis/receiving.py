"""How receivers wait: all those of one topic and process together, on one connection that blocks.

`BLMOVE TOPIC INBOX` moves the message that ends the wait to a list that all consumers look at. No message is ever in
the memory of a client alone: if this one dies now, the next claim of any other finds it. The server wakes one blocked
client for each message. What is due later is made ready by a claim, and so wakes a blocked client too: a receiver
claims when the next thing falls due that this process knows of, and every `sweep` seconds for what others know.
"""

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future, Task, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import Final

from brrr_core.backend import cancelled_from_outside
from brrr_core.errors import BackendClosedError
from brrr_redis.client.client import FIRST_PAUSE_SECONDS, Client
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.client.errors import closed_error
from brrr_redis.layout import TopicKeys

__all__ = ["WaitQueue", "WaitQueues"]

BLOCK_SECONDS: Final = 10.0
"""Seconds that one command blocks. A connection that is dead without a sign is noticed after this and a timeout."""

IDLE_SECONDS: Final = 30.0
"""Seconds that a connection is kept while nobody waits."""

ROUNDING_SECONDS: Final = 0.002
"""Seconds that a look is put off after something falls due: the server counts whole milliseconds."""


class WaitQueue:
    """The receivers of one topic that wait, and what wakes them.

    Args:
        keys: The topic's keys.
        client: Runs the commands.
        sweep: Seconds between two looks at what others know.
        unclaim: Puts what was moved for a receiver that is gone where it was.
        idle: Called when nobody has waited for long, and the wait_queue has ended.
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
        self._wanted = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._closed = False
        self._task: Task[None] = asyncio.create_task(self._run(), name="brrr waits for a topic")
        self._task.add_done_callback(self._on_end)

    async def wait(self, deadline: float, due_in: float | None) -> None:
        """Wait until it is this receiver's turn to look, or until `deadline`, by the loop's clock.

        Args:
            deadline: When to stop waiting; may be infinite.
            due_in: Seconds until something falls due, as a claim has just found; None for nothing.

        Raises:
            BackendClosedError: The backend was closed.
        """
        if self._closed:
            raise closed_error()
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        self._wanted.set()
        self.expect(due_in)
        try:
            async with asyncio.timeout_at(None if deadline == float("inf") else deadline):
                await turn
        except TimeoutError:
            pass
        except CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None and not self.wake():
                self._unclaim(self._keys)  # the turn was this receiver's, and nobody else here can use it
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._rest_if_empty()

    def wake(self) -> bool:
        """Give the turn to the receiver that has waited longest. Whether there is one."""
        woken = False
        while self._waiting and not woken:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken = True
        self._rest_if_empty()
        return woken

    def expect(self, due_in: float | None) -> None:
        """Have a receiver look when something falls due."""
        if not self._waiting:
            return
        seconds = self._sweep if due_in is None else min(self._sweep, due_in + ROUNDING_SECONDS)
        at = self._loop.time() + seconds
        if self._timer is None or at < self._timer.when():
            self._stop_timer()
            self._timer = self._loop.call_at(at, self._look)

    async def close(self) -> None:
        """End every wait with `BackendClosedError`, and the connection."""
        self._fail(closed_error)
        self._task.cancel()
        await asyncio.wait({self._task})

    def _fail(self, error: Callable[[], BackendClosedError]) -> None:
        """Take no more receivers, and end those that wait."""
        self._closed = True
        self._stop_timer()
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error())
        self._waiting.clear()

    def _on_end(self, task: Task[None]) -> None:
        if task.cancelled():
            if not self._closed:  # it was cancelled before it began
                self._idle()
            self._fail(cancelled_from_outside)

    def _look(self) -> None:
        self._timer = None
        self.wake()
        self.expect(None)  # for the others, if the one that looks takes long

    def _rest_if_empty(self) -> None:
        if not self._waiting:
            self._wanted.clear()
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _run(self) -> None:
        connection: PipelinedConnection | None = None
        pause = FIRST_PAUSE_SECONDS
        try:
            while await self._has_receivers():
                try:
                    connection = connection or await self._client.blocking_connection(
                        self._keys.ready, extra_timeout=BLOCK_SECONDS
                    )
                    await self._block(connection)
                    pause = FIRST_PAUSE_SECONDS
                except BackendClosedError:
                    return
                except Exception:  # noqa: BLE001 - receivers look by the timer, and tell what is wrong
                    if connection is not None:
                        self._client.router.pool.discard(connection)
                        connection = None
                    self._client.router.invalidate(None)
                    pause = await self._client.pause(pause)
        except BackendClosedError:
            pass
        finally:
            if connection is not None:
                self._client.router.pool.discard(connection)
            self._closed = True
            self._idle()

    async def _block(self, connection: PipelinedConnection) -> None:
        """Wait for one message, and give somebody the turn. Raises what is wrong with the connection."""
        ready, inbox = self._keys.ready, self._keys.inbox
        moved = await connection.send(("BLMOVE", ready, inbox, "LEFT", "RIGHT", BLOCK_SECONDS))
        if isinstance(moved, Exception):
            raise moved
        if moved is not None and not self.wake():
            # Nobody here waits any more: put the message where it was, which wakes somebody elsewhere.
            self._unclaim(self._keys)

    async def _has_receivers(self) -> bool:
        """Wait until somebody waits; false when nobody has for long."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wanted.wait()
        except TimeoutError:
            return self._wanted.is_set()
        return True


class WaitQueues:
    """The wait_queues of one backend, a topic each.

    Args:
        client: Runs their commands.
        sweep: Seconds between two looks at what others know.
        unclaim: Puts what was moved for a receiver that is gone where it was.
    """

    def __init__(self, client: Client, *, sweep: float, unclaim: Callable[[TopicKeys], None]) -> None:
        self._client = client
        self._sweep = sweep
        self._unclaim = unclaim
        self._wait_queues: dict[TopicKeys, WaitQueue] = {}
        self._closed = False

    def get(self, keys: TopicKeys) -> WaitQueue | None:
        """The wait_queue of a topic, where somebody waits or has waited."""
        return self._wait_queues.get(keys)

    def of(self, keys: TopicKeys) -> WaitQueue:
        """The wait_queue of a topic, made if need be. Raises `BackendClosedError`."""
        if self._closed:
            raise closed_error()
        wait_queue = self._wait_queues.get(keys)
        if wait_queue is None:
            wait_queue = self._wait_queues[keys] = WaitQueue(
                keys,
                self._client,
                sweep=self._sweep,
                unclaim=self._unclaim,
                idle=lambda: self._forget(keys),
            )
        return wait_queue

    async def close(self) -> tuple[TopicKeys, ...]:
        """End every wait with `BackendClosedError`. The topics for which the server may have moved something."""
        self._closed = True
        wait_queues = dict(self._wait_queues)
        for wait_queue in wait_queues.values():
            await wait_queue.close()
        return tuple(wait_queues)

    def _forget(self, keys: TopicKeys) -> None:
        self._wait_queues.pop(keys, None)
