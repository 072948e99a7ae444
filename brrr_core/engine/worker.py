"""The loop of one worker on one topic: it receives messages, extends their leases, and stops gracefully."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from brrr_core.backend.steps import Received
from brrr_core.backend.tasks import start_task
from brrr_core.engine.calls import HAND_OVER_LIMIT, HandOver, HeldDelivery
from brrr_core.engine.delivery import DeliveryHandler
from brrr_core.engine.parking import Parking
from brrr_core.engine.running import RunHandler
from brrr_core.engine.schedules import Tick, keep_ticking
from brrr_core.engine.services import Services
from brrr_core.engine.settling import Counts
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_core.hooks import (
    LeaseLost,
    LoopBlocked,
    ThreadsAbandoned,
    TopicUnserved,
    WorkerReported,
    WorkerStarted,
    WorkerStopped,
)

if TYPE_CHECKING:
    from brrr_core.engine.watchdog import Culprit, Watchdog

__all__ = ["Worker"]

RECEIVE_WAIT = 20.0
"""Seconds that one receive waits for a message. Common queues, such as SQS, allow no longer wait."""

BEATS = 4
"""How often a worker looks at the clock between two extensions of its leases, to notice a blocked event loop."""

REPORT_EVERY = 60.0
"""Seconds between two reports of what a worker did."""

UNSERVED_AFTER = 90.0
"""Seconds after which a topic on which a worker puts calls counts as unserved: in three looks, a minute apart."""


class Worker:
    """Receives from one topic and handles up to `concurrency` deliveries at the same time.

    Args:
        services: The services of the connection.
        topic: The topic.
        handle: Runs the handler of a call.
        concurrency: The most deliveries at the same time. It also bounds the memory of the worker (invariant I4).
        ticks: The recurring schedules to run while the worker receives.

    Attributes:
        stopping: Set when the worker is to stop.
    """

    def __init__(
        self, services: Services, topic: str, handle: RunHandler, concurrency: int, ticks: Sequence[Tick] = ()
    ) -> None:
        self._services = services
        self._queue = services.operations.queue
        self._topic = topic
        parking = Parking(
            concurrency, services.policy.park, useful=self._may_park, leave=self._leave, enter=self._enter
        )
        self._handler = DeliveryHandler(services, handle, parking, HandOver(self._wants, self._take))
        self._parking = parking
        self._concurrency = concurrency
        self._ticks = ticks
        self._time = asyncio.get_running_loop().time
        self._context = copy_context()
        self._running: dict[asyncio.Task[Any], HeldDelivery] = {}
        self._parked: set[asyncio.Task[Any]] = set()
        self._drained = False
        """Whether the last receive took all messages that were ready."""
        self._unstarted: list[HeldDelivery] = []
        self._released = 0
        self.stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._failing_since: float | None = None
        self._watchdog: Watchdog | None = None
        self._reported_at = self._time()

    def stop(self) -> None:
        """Stop receiving. Running handlers have the policy's grace to finish."""
        self.stopping.set()
        self._freed.set()  # the loop may wait for a free slot

    async def run(self) -> None:
        """Work until `stop` or a cancellation; both are graceful. A later cancellation ends the grace.

        Raises:
            BackendError: The queue has not answered for longer than the policy's `unavailable_timeout`.
        """
        self._handler.runner.loop_task = asyncio.current_task()
        self._services.hooks.emit(WorkerStarted(self._topic, self._concurrency, self._queue))
        hooks = self._services.hooks
        services = [start_task(self._keep_leases(), name=f"brrr leases of {self._topic}")]
        if hooks.wants(WorkerReported) or hooks.wants(TopicUnserved):
            services.append(start_task(self._report_regularly(), name=f"brrr reports of {self._topic}"))
        if hooks.wants(LoopBlocked):
            from brrr_core.engine.watchdog import Watchdog  # only those who listen load it

            self._watchdog = Watchdog(self._queue.lease / 3, self._report_stuck)
        try:
            grace = self._services.policy.grace
            try:
                async with self._ticking():
                    await self._receive_all()
            except asyncio.CancelledError:
                if self.stopping.is_set():  # it had no time to notice
                    grace = 0
                raise
            finally:
                try:  # a second SIGINT may raise KeyboardInterrupt even before the first line of `_finish`
                    await self._finish(grace)
                finally:
                    await self._release_running()
        finally:
            if self._watchdog is not None:
                self._watchdog.stop()
            for service in services:
                service.cancel()
            await asyncio.wait(services)
            self._report()
            hooks.emit(WorkerStopped(self._topic, self._released))

    @asynccontextmanager
    async def _ticking(self) -> AsyncGenerator[None, None]:
        """Run the schedules inside the block. A tick that is cancelled is put again by another worker."""
        report = partial(self._handler.report_failure, self._topic)
        policy, clock = self._services.policy, self._services.operations.clock
        running = [start_task(keep_ticking(tick, clock=clock, policy=policy, report=report)) for tick in self._ticks]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _receive_all(self) -> None:
        while not self.stopping.is_set():
            if self._services.isolation.closed:
                await self._wait_or_stop(self._services.isolation.wait_until_open())
                continue
            if self._services.threads.exhausted:
                threads = self._services.threads
                self._services.hooks.emit(ThreadsAbandoned(self._topic, threads.abandoned, threads.limit))
                await self._wait_or_stop(threads.wait_until_returned())
                continue
            free = self._concurrency - len(self._running)
            if free == 0:
                self._freed.clear()
                await self._freed.wait()
                await asyncio.sleep(0)  # deliveries that end in the same turn free their slots too
                continue
            received = await self._receive(free)
            if self.stopping.is_set():
                self._unstarted.extend(received)
                return
            self._drained = len(received) < free or self._services.operations.drained(self._topic)
            for held in received:
                self._begin(held)

    def _begin(self, held: HeldDelivery) -> None:
        if not self._handler.resume_at_once(held):
            # A message that was handed over begins in the context of the handler that put it.
            self._running[start_task(self._deliver(held), context=self._context.copy())] = held

    def _may_park(self) -> bool:
        """Whether a run may be parked. Some that were aborted may still clean up: they need memory, too."""
        return self._drained and len(self._parked) < 2 * self._concurrency

    def _leave(self, task: "asyncio.Task[Any]") -> None:
        """Free the slot of a handler that was parked."""
        self._running.pop(task, None)
        self._parked.add(task)
        self._freed.set()

    def _enter(self, task: "asyncio.Task[Any]", held: HeldDelivery) -> None:
        """Give a slot to a handler that was parked."""
        self._parked.discard(task)
        self._running[task] = held

    def _wants(self, topic: str, held: HeldDelivery) -> bool:
        """Whether this worker takes over a message of a topic in the slot of a delivery that ends.

        If messages were left at the last receive, they come first.
        """
        return (
            topic == self._topic
            and self._drained
            and held.handed_over < HAND_OVER_LIMIT
            and not self.stopping.is_set()
            and not self._services.isolation.closed
            and not self._services.threads.exhausted
        )

    def _take(self, ended: HeldDelivery, received: Sequence[Received]) -> None:
        """Begin messages that were handed over, in the slot of a delivery that has ended."""
        for held in self._held(received):
            held.handed_over = ended.handed_over + 1
            if self.stopping.is_set():
                self._unstarted.append(held)
            else:
                self._begin(held)

    async def _wait_or_stop(self, condition: Coroutine[Any, Any, None]) -> None:
        """Wait for a condition, or until `stop`. Until then, other workers can take the messages."""
        waits = {asyncio.create_task(condition), asyncio.create_task(self.stopping.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _receive(self, limit: int) -> Sequence[HeldDelivery]:
        """Receive once. Return nothing if the worker stops or the queue fails."""
        operations = self._services.operations
        receive = asyncio.create_task(operations.receive(self._topic, limit=limit, wait=RECEIVE_WAIT))
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({receive, stop}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel_and_wait(receive)
        except asyncio.CancelledError:
            await _cancel_and_wait(receive)
            if not receive.cancelled() and receive.exception() is None:
                self._unstarted.extend(self._held(receive.result()))
            raise
        finally:
            receive.cancel()  # if KeyboardInterrupt came between, it would take messages that are released
            stop.cancel()
        if receive.cancelled():
            return ()
        error = receive.exception()
        if error is not None:
            await self._wait_after_failure(error)
            return ()
        self._failing_since = None
        return self._held(receive.result())

    def _held(self, received: Sequence[Received]) -> list[HeldDelivery]:
        now = self._time()
        return [HeldDelivery(delivery, now, now, records=records) for delivery, records in received]

    async def _wait_after_failure(self, error: BaseException) -> None:
        """Wait after a failed receive. Raise its error if the queue has not answered for the policy's timeout."""
        policy = self._services.policy
        now = self._time()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, BackendClosedError) or now - self._failing_since > policy.unavailable_timeout:
            raise error
        self._handler.report_failure(self._topic, error)
        if not await self._stops_within(min(policy.retry_delay(1), 1.0)):
            await self._release_unstarted()

    async def _deliver(self, held: HeldDelivery) -> None:
        try:
            await self._handle_with_retries(held)
        finally:
            task = asyncio.current_task()
            if task in self._parked:  # it was aborted
                self._parked.remove(task)
            elif task is not None and not self._handler.runner.ending:  # then `_release_running` releases it
                del self._running[task]
                self._freed.set()

    async def _handle_with_retries(self, held: HeldDelivery) -> None:
        """Handle a delivery. Keep it and retry while a backend is unavailable, so that an outage uses up no deliveries.

        After the policy's `unavailable_timeout`, release the message for another worker. This needs the cache: it must
        record that the delivery did not end in a crash.
        """
        tries = 0
        while (error := await self._try(self._handler.handle, held)) is not None:
            held.interrupted = True
            away = isinstance(error, BackendUnavailableError)
            if (
                not away
                or self._lost(held)
                or self._time() - held.received >= self._services.policy.unavailable_timeout
            ):
                error = await self._try(self._handler.runner.settler.release_interrupted, held)
                if error is None or not away or self._lost(held):
                    return
            tries += 1
            if await self._stops_within(self._services.policy.retry_delay(tries)):
                await self._release([held])
                return

    async def _try(self, step: Callable[[HeldDelivery], Awaitable[None]], held: HeldDelivery) -> Exception | None:
        """Run a step and return its error. The message comes back when its lease expires."""
        try:
            await step(held)
        except Exception as error:  # noqa: BLE001 - the worker continues after any error
            self._handler.report_failure(self._topic, error)
            return error
        return None

    async def _stops_within(self, seconds: float) -> bool:
        """Wait for some seconds. True if the worker is to stop before they are over."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    def _lost(self, held: HeldDelivery) -> bool:
        """Whether the lease has certainly expired."""
        return self._time() - held.lease_began > self._queue.lease

    async def _keep_leases(self) -> None:
        lease = self._queue.lease
        while True:
            extend_at, late = self._time() + lease / 3, 0.0
            while (now := self._time()) < extend_at:
                due = min(now + lease / 3 / BEATS, extend_at)
                await asyncio.sleep(due - now)
                late = max(late, self._time() - due)
            self._report_blocked(late)
            if not self._running:
                continue
            held_deliveries = list(self._running.values())
            for held in held_deliveries:
                self._report_lost(held)
            try:
                await self._queue.extend([held.delivery for held in held_deliveries])
                now = self._time()
                for held in held_deliveries:
                    if not held.lost:
                        held.lease_began = now
                await self._handler.runner.interrupt_cancelled()
            except Exception as error:  # noqa: BLE001 - retried before the leases expire
                self._handler.report_failure(self._topic, error)

    def _report_blocked(self, late: float) -> None:
        """Report that the event loop was blocked while handlers ran, once for each time."""
        limit = self._queue.lease / 3
        culprit, reported = (None, False) if self._watchdog is None else self._watchdog.take()
        if self._running and not reported and (late > limit or culprit is not None):
            self._emit_blocked(max(late, limit), culprit, ended=True)

    def _report_stuck(self, culprit: "Culprit", seconds: float) -> None:
        """Report that the event loop is blocked. The watchdog calls it in its thread."""
        self._emit_blocked(seconds, culprit, ended=False)

    def _emit_blocked(self, seconds: float, culprit: "Culprit | None", *, ended: bool) -> None:
        running = dict(self._running)
        found = None if culprit is None else running.get(culprit.task)
        names = {held.task_name for held in ([found] if found else running.values()) if held.task_name}
        where = "" if culprit is None else culprit.where
        event = LoopBlocked(self._topic, seconds, self._queue.lease, tuple(sorted(names)), where, ended)
        self._services.hooks.emit(event)

    async def _report_regularly(self) -> None:
        """Report the runs of each minute, and the topics from which nothing receives."""
        operations, silence = self._services.operations, self._services.silence
        operations.topics = set() if operations.topics is None else operations.topics
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._report()
            for topic in sorted(operations.topics):
                try:
                    unserved = silence.observe(topic, await self._queue.stats(topic), after=UNSERVED_AFTER)
                except BackendError:
                    break  # its own operations report it
                if not unserved:
                    operations.topics.discard(topic)

    def _report(self) -> None:
        settler, now = self._handler.runner.settler, self._time()
        counts, settler.counts = settler.counts, Counts()
        seconds, self._reported_at = now - self._reported_at, now
        event = WorkerReported(
            self._topic,
            seconds,
            counts.returned,
            counts.deferred,
            counts.postponed,
            counts.failed,
            counts.retried,
            len(self._running),
        )
        self._services.hooks.emit(event)

    def _report_lost(self, held: HeldDelivery) -> None:
        """Report an expired lease once."""
        if not held.lost and self._lost(held):
            held.lost = True
            delivery, seconds = held.delivery, self._time() - held.lease_began
            event = LeaseLost(delivery.topic, delivery.body, held.task_name, seconds, self._queue.lease)
            self._services.hooks.emit(event)

    async def _finish(self, grace: float) -> None:
        """Let running deliveries finish within the grace."""
        self.stopping.set()  # deliveries that wait for a backend stop waiting
        self._parking.close()
        await self._release_unstarted()
        if tasks := {*self._running, *self._parked}:
            await asyncio.wait(tasks, timeout=grace)

    async def _release_running(self) -> None:
        """Cancel and release the deliveries that have not finished."""
        self.stopping.set()  # also if `_finish` was interrupted
        self._handler.runner.closing = True
        tasks = {*self._running, *self._parked}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._release([held for task, held in self._running.items() if task.cancelled()])
        await self._release_taken()

    async def _release_taken(self) -> None:
        """Release messages that steps handed over after the worker had stopped."""
        try:
            await self._services.operations.flush()
        except Exception as error:  # noqa: BLE001 - when the leases expire, the messages come back
            self._handler.report_failure(self._topic, error)
        await self._release_unstarted()

    async def _release_unstarted(self) -> None:
        unstarted, self._unstarted = self._unstarted, []
        await self._release(unstarted)

    async def _release(self, held_deliveries: Sequence[HeldDelivery]) -> None:
        if not held_deliveries:
            return
        try:
            await self._handler.release_unfinished(held_deliveries)
            self._released += len(held_deliveries)
        except Exception as error:  # noqa: BLE001 - when the leases expire, the messages come back
            self._handler.report_failure(self._topic, error)


async def _cancel_and_wait(receive: "asyncio.Task[Sequence[Received]]") -> None:
    """Cancel a receive if it is still waiting, and wait until it has ended."""
    if not receive.done():
        receive.cancel()
        await asyncio.wait({receive})
