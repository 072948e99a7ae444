"""The loop of one worker on one topic: receives, keeps leases, and stops without leaving anything half done."""

import asyncio
import time
from collections.abc import Sequence

from brrr_core.backend.contracts import Delivery
from brrr_core.backend.tasks import start_task
from brrr_core.engine.delivery import Engine, Handle, Handling
from brrr_core.engine.hooks import BackendFailed, WorkerStarted, WorkerStopped
from brrr_core.errors import BackendClosedError

__all__ = ["Worker"]

RECEIVE_WAIT = 20.0
"""Seconds that one receive waits for a message: the longest that queues of the field offer."""


class Worker:
    """Receives from one topic and handles up to `concurrency` deliveries side by side.

    Args:
        engine: What the workers of one connection share.
        topic: Where to receive from.
        handle: Runs the handler of a call.
        concurrency: The most deliveries under way, and so the bound of this worker's memory (invariant I4).
    """

    def __init__(self, engine: Engine, topic: str, handle: Handle, concurrency: int) -> None:
        self._engine = engine
        self._queue = engine.operations.queue
        self._topic = topic
        self._handling = Handling(engine, handle)
        self._concurrency = concurrency
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._unstarted: list[Delivery] = []
        self._released = 0
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._failing_since: float | None = None

    def stop(self) -> None:
        """Stop receiving; what runs gets the policy's grace to finish."""
        self._stopping.set()
        self._freed.set()  # also where all places are taken and nothing is received until one is free

    async def run(self) -> None:
        """Work until `stop`, or until cancelled; both are graceful. A cancellation after either cuts the grace short.

        Raises:
            BackendError: The queue has not answered for longer than the policy's patience.
        """
        self._engine.hooks.emit(WorkerStarted(self._topic, self._concurrency))
        keeper = asyncio.create_task(self._keep_leases(), name=f"brrr leases of {self._topic}")
        try:
            grace = self._engine.policy.grace
            try:
                await self._receive_all()
            except asyncio.CancelledError:
                if self._stopping.is_set():  # it had no time to notice
                    grace = 0
                raise
            finally:
                await self._finish(grace)
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})
            self._engine.hooks.emit(WorkerStopped(self._topic, self._released))

    async def _receive_all(self) -> None:
        while not self._stopping.is_set():
            free = self._concurrency - len(self._running)
            if free == 0:
                self._freed.clear()
                await self._freed.wait()
                await asyncio.sleep(0)  # let those that end in the same turn free their places too
                continue
            received = await self._receive(free)
            if self._stopping.is_set():
                self._unstarted.extend(received)
                return
            for delivery in received:
                self._running[start_task(self._deliver(delivery))] = delivery

    async def _receive(self, limit: int) -> Sequence[Delivery]:
        """What one receive brings; nothing where it is told to stop, or where the queue fails for now."""
        receive = asyncio.create_task(self._queue.receive(self._topic, limit=limit, wait=RECEIVE_WAIT))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({receive, stop}, return_when=asyncio.FIRST_COMPLETED)
            await _end(receive)
        except asyncio.CancelledError:
            await _end(receive)
            if not receive.cancelled() and receive.exception() is None:
                self._unstarted.extend(receive.result())
            raise
        finally:
            stop.cancel()
        if receive.cancelled():
            return ()
        error = receive.exception()
        if error is not None:
            await self._bear(error)
            return ()
        self._failing_since = None
        return receive.result()

    async def _bear(self, error: BaseException) -> None:
        """Wait a little after a failed receive, or raise its error when patience is at its end."""
        policy = self._engine.policy
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if isinstance(error, BackendClosedError) or now - self._failing_since > policy.patience:
            raise error
        self._engine.hooks.emit(BackendFailed(self._topic, error))
        try:
            async with asyncio.timeout(min(policy.retry_delay(1), 1.0)):
                await self._stopping.wait()
        except TimeoutError:
            await self._release(self._unstarted)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._handling.handle(delivery)
        except Exception as error:  # noqa: BLE001 - not a handler's error, and the lease brings the message back
            self._engine.hooks.emit(BackendFailed(self._topic, error))
            await self._give_back(delivery)
        finally:
            task = asyncio.current_task()
            if task is not None and not self._handling.closing:  # from then on `_finish` releases what is cancelled
                del self._running[task]
                self._freed.set()

    async def _give_back(self, delivery: Delivery) -> None:
        try:
            await self._handling.give_back(delivery)
        except Exception as error:  # noqa: BLE001 - the lease brings the message back
            self._engine.hooks.emit(BackendFailed(self._topic, error))

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._queue.lease / 3)
            if not self._running:
                continue
            try:
                await self._queue.extend(list(self._running.values()))
            except Exception as error:  # noqa: BLE001 - tried again long before the leases end
                self._engine.hooks.emit(BackendFailed(self._topic, error))

    async def _finish(self, grace: float) -> None:
        """Let what runs finish within the grace, cancel the rest and release it."""
        try:
            await self._release(self._unstarted)
            if self._running:
                await asyncio.wait(set(self._running), timeout=grace)
        finally:
            self._handling.closing = True
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(set(self._running))
            await self._release([delivery for task, delivery in self._running.items() if task.cancelled()])

    async def _release(self, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        try:
            await self._queue.release(deliveries)
            self._released += len(deliveries)
        except Exception as error:  # noqa: BLE001 - their leases bring them back
            self._engine.hooks.emit(BackendFailed(self._topic, error))


async def _end(receive: "asyncio.Task[list[Delivery]]") -> None:
    """Cancel a receive if it is still waiting, and wait until it has ended."""
    if not receive.done():
        receive.cancel()
        await asyncio.wait({receive})
