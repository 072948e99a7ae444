"""Handles one delivery: runs its call, and returns, defers or fails it (DESIGN.md section 4).

Every step is a batch. A crash between any two leaves only repeated work: nothing is acknowledged before all that it
stands for is written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from brrr_core.backend.contracts import Key
from brrr_core.engine.attempts import Attempts, HeldDelivery
from brrr_core.engine.calls import Child, Defer
from brrr_core.engine.contexts import run_in_context
from brrr_core.engine.hooks import (
    BackendFailed,
    CallBuried,
    CallDeferred,
    CallFailed,
    CallIsolated,
    CallReturned,
    CallStarted,
    Hooks,
)
from brrr_core.engine.isolation import IsolationGate
from brrr_core.engine.local_cache import PreviousRun, RunHistory, ValueCache
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.policy import Policy
from brrr_core.engine.returning import Completion, Returner
from brrr_core.engine.run import Run
from brrr_core.engine.scheduling import Outcome, Scheduler, ScheduleRequest
from brrr_core.errors import (
    BackendError,
    BrrrError,
    BuriedError,
    HandlerError,
    MalformedRecordError,
    RecordMissingError,
    SpawnLimitError,
)
from brrr_core.safe_text import describe, format_error, format_traceback
from brrr_core.wire import Call, PendingReturn, ScheduleMessage, decode_call, decode_message

__all__ = ["DeliveryHandler", "RunHandler", "Services"]

RunHandler: TypeAlias = Callable[[Run, Call], Awaitable[bytes]]
"""Runs the handler of a call and gives its encoded result; raises `Defer` where a value is missing."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all deliveries of one connection share."""

    operations: Operations
    scheduler: Scheduler
    returner: Returner
    cache: ValueCache
    history: RunHistory
    hooks: Hooks
    policy: Policy
    delays: bool
    """Whether the queue can delay; where it cannot, a worker holds what is to wait."""
    mask: Callable[[str], str]
    """Masks the backends' secrets in the traceback that a dead letter keeps."""
    isolation: IsolationGate
    """Where the handlers run."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One delivery with what was read for it."""

    held: HeldDelivery
    root_id: str
    call: Call

    @property
    def topic(self) -> str:
        return self.held.delivery.topic


class DeliveryHandler:
    """Handles deliveries of one loop, many side by side."""

    def __init__(self, services: Services, run_handler: RunHandler) -> None:
        self._services = services
        self._operations = services.operations
        self._hooks = services.hooks
        self._policy = services.policy
        self._attempts = Attempts(services.operations)
        self._run_handler = run_handler
        self.loop_task: asyncio.Task[Any] | None = None
        """The task of the worker's loop."""
        self.closing = False
        """Set by the worker before it cancels what has not finished in time."""
        self._under_way: dict[str, asyncio.Task[Any] | None] = {}
        self._last_failure = ""

    def report_failure(self, topic: str, error: BaseException) -> None:
        """Report that a backend failed."""
        self._last_failure = describe(error)
        if self._hooks.wants(BackendFailed):
            self._hooks.emit(BackendFailed(topic, error, self._reason(error)))

    def _reason(self, error: BaseException) -> str:
        """Return the message of an error and the end of its traceback, without the backends' secrets."""
        summary = format_error(error)
        text = summary if error.__traceback__ is None else f"{summary}\n\n{format_traceback(error)}"
        return self._services.mask(text)

    @property
    def ending(self) -> bool:
        """Whether the worker's loop was cancelled, perhaps with every task of the program, or is closing."""
        return self.closing or (self.loop_task is not None and self.loop_task.cancelling() > 0)

    async def handle(self, held: HeldDelivery) -> None:
        """Handle one delivery until it is acked, released or buried.

        Raises:
            Exception: A backend failed; the delivery is still leased.
        """
        try:
            message = decode_message(held.delivery.body)
            await self._attempts.look(held)
            if held.delivery.attempt > self._policy.max_deliveries:
                raise self._never_finished(held)
            await self._handle_in_turn(held, message)
        except BackendError as error:
            if error.retry:
                raise
            await self._bury(held, error)
        except Exception as error:  # noqa: BLE001 - no backend's: as for a handler's, some tries, and then its traceback
            await self._settle(held, error, (await self._count_failure(held, error))[1])

    async def release_interrupted(self, held: HeldDelivery) -> None:
        """Release a delivery that a backend failure interrupted, to be tried again later; not as a failed attempt.

        Raises:
            Exception: A backend failed; the delivery is still leased, or its lease brings it back.
        """
        await self._attempts.excuse([held])
        await self._release(held, self._policy.retry_delay(held.delivery.attempt))

    async def release_unfinished(self, held_deliveries: Sequence[HeldDelivery]) -> None:
        """Release deliveries because their worker stops.

        Raises:
            Exception: The queue failed; their leases bring them back.
        """
        excused, released = await asyncio.gather(
            self._attempts.excuse(held_deliveries),
            self._operations.queue.release([held.delivery for held in held_deliveries]),
            return_exceptions=True,
        )
        if excused is not None and held_deliveries:
            self.report_failure(held_deliveries[0].delivery.topic, excused)
        if released is not None:
            raise released

    def _never_finished(self, held: HeldDelivery) -> BuriedError:
        what = (
            f"the message was delivered {held.delivery.attempt} times and never finished: its handler raised "
            f"{held.failed} times, and the other workers stopped, died, lost the lease or lost a backend"
        )
        if self._last_failure:
            what += f"; the last failure of a backend that this worker saw was {self._last_failure}"
        return BuriedError(what, remedy="Look for what keeps it from finishing, then redrive it.")

    async def _handle_in_turn(self, held: HeldDelivery, message: ScheduleMessage) -> None:
        """One message of a call after the other: side by side both would run it, and wake its parents twice."""
        call_hash = message.call_hash
        while (earlier := self._under_way.get(call_hash)) is not None:
            await asyncio.wait({earlier})
        self._under_way[call_hash] = asyncio.current_task()
        try:
            await self._read_and_run(held, message)
        finally:
            del self._under_way[call_hash]

    async def _read_and_run(self, held: HeldDelivery, message: ScheduleMessage) -> None:
        call_hash = message.call_hash
        previous = self._services.history.take(message.root_id, call_hash)
        keys = [Key("value", call_hash), Key("call", call_hash)]
        absent: list[Child] = []
        if previous is None:
            value, record = await self._operations.read(keys)
        else:
            held.failed = max(held.failed, previous.failed)
            (value, record), absent = await self._read_ahead(keys, previous)
        if value is not None:
            await self._forget(held)
            await self._services.returner.complete(Completion(held.delivery, call_hash))
            return
        if record is None:
            raise RecordMissingError(
                f"the message names the call {call_hash}, and the store has no record of it",
                remedy="Check that all workers of the topic share one store, that it evicts nothing, "
                "and that its `ttl` is longer than the workflow. Then schedule the workflow again with redrive=True.",
            )
        job = _Job(held, message.root_id, decode_call(call_hash, record))
        if previous is None or not absent or await self._defer(job, absent, previous):
            await self._run_until_settled(job, previous)

    async def _read_ahead(self, keys: list[Key], previous: PreviousRun) -> tuple[list[bytes | None], list[Child]]:
        """Read `keys`, and with them what the last run asked for, so that a re-run finds it remembered.

        Also gives what the last run missed and has no value yet, which a cache that is too small could not tell.
        """
        hashes = dict.fromkeys(previous.reads)
        hashes.update(dict.fromkeys(child.call.call_hash for child in previous.missing))
        ahead = [call_hash for call_hash in hashes if self._services.cache.get(call_hash) is None]
        values = await self._operations.read([*keys, *(Key("value", call_hash) for call_hash in ahead)])
        absent: set[str] = set()
        for call_hash, found in zip(ahead, values[len(keys) :], strict=True):
            if found is None:
                absent.add(call_hash)
            else:
                self._services.cache.add(call_hash, found)
        return values[: len(keys)], [child for child in previous.missing if child.call.call_hash in absent]

    async def _run_until_settled(self, job: _Job, previous: PreviousRun | None) -> None:
        """Run the call, again and again while all that it missed turns up at once; no run sees another's context."""
        again, context = True, copy_context()
        while again:
            if not await self._wait_for_turn(job):
                await self.release_interrupted(job.held)
                return
            run = self._start(job)
            job.held.task_name = job.call.task_name
            try:
                payload = await run_in_context(context.copy(), self._execute(run, previous))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                of_backend, run.failure = error is run.failure, None  # whose traceback holds this frame
                if of_backend or (self.ending and isinstance(error, asyncio.CancelledError)):
                    raise
                self._services.isolation.leave(job.held)
                await self._fail(job, error)
                return
            finally:
                self._services.isolation.leave(job.held)
            if payload is not None:
                await self._return(job, payload)
                return
            previous = run.summary()
            again = await self._defer(job, list(run.missing.values()), previous)

    async def _wait_for_turn(self, job: _Job) -> bool:
        """Wait until the handler may run. False where another runs alone for so long that the message had better go.

        Raises:
            BuriedError: The call ended too many workers while it ran alone.
        """
        held, gate, call = job.held, self._services.isolation, job.call
        if held.suspicious:
            if self._hooks.wants(CallIsolated):
                deliveries = held.unexplained
                self._hooks.emit(CallIsolated(job.topic, job.root_id, call.call_hash, call.task_name, deliveries))
            await gate.enter_alone(held)
            try:
                crashes = await self._attempts.isolate(held)
                if crashes >= self._policy.max_crashes:
                    raise BuriedError(
                        f"a call of {call.task_name!r} ended its worker process {crashes} times while it ran alone "
                        "(or blocked it for longer than the lease)",
                        remedy="Look for what kills it: memory, native code, os._exit. Then redrive it.",
                    )
            except BaseException:
                gate.leave(held)
                raise
        elif gate.closed:
            try:
                async with asyncio.timeout(self._operations.queue.lease):
                    await gate.enter(held)
            except TimeoutError:
                return False
        else:
            await gate.enter(held)
        return True

    def _start(self, job: _Job) -> Run:
        if self._hooks.wants(CallStarted):
            topic, call, attempt = job.topic, job.call, job.held.failed + 1
            self._hooks.emit(CallStarted(topic, job.root_id, call.call_hash, call.task_name, attempt))
        return Run(
            root_id=job.root_id,
            call=job.call,
            topic=job.topic,
            attempt=job.held.failed + 1,
            operations=self._operations,
            cache=self._services.cache,
            schedule=self._schedule,
            check=self._policy.check,
        )

    async def _execute(self, run: Run, previous: PreviousRun | None) -> bytes | None:
        """The handler's encoded result, or None where it misses a value.

        Whatever a handler that misses a value makes of that (it may catch `Defer`, wrap it, or fail while it is
        aborted), the run is deferred: an error that is its own comes again in the run that finds all values. A run
        that a backend failed is tried again in the same way, whatever the handler makes of the error.

        Raises:
            BackendError: `run.failure`, the backend's.
            BaseException: What the handler raised.
        """
        payload: bytes | None = None
        try:
            payload = await self._run_handler(run, run.call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self.closing or (self.ending and isinstance(error, asyncio.CancelledError)):
                raise asyncio.CancelledError from error  # it may have made another error of its cancellation
            _uncancel()
            if run.failure is None and not run.missing:
                if isinstance(error, Defer):
                    raise HandlerError(
                        "the handler raised Defer, and misses no value", remedy="Leave it to brrr."
                    ) from None
                raise
        if run.failure is not None:
            raise run.failure
        if previous is not None and self._policy.check:
            run.check(previous)
        return None if run.missing else payload

    async def _schedule(self, root_id: str, children: Sequence[Child]) -> None:
        await self._services.scheduler.schedule([ScheduleRequest(child, root_id) for child in children])

    async def _defer(self, job: _Job, missing: list[Child], previous: PreviousRun) -> bool:
        """Put the missing children on their queues, watch the last, and settle the delivery.

        Only one child is watched: by the time it completes most others have, so a fan-out costs its parent two or
        three runs, not one a child. Values are read after registering, so a child that completes meanwhile is seen.

        Returns:
            Whether all have a value by now, and the call can run again at once; its delivery is then still leased.
        """
        mine = PendingReturn(job.root_id, job.call.call_hash, job.topic)
        while missing:
            watched = missing[-1]
            requests = [ScheduleRequest(child, job.root_id) for child in missing[:-1]]
            requests.append(ScheduleRequest(watched, job.root_id, mine))
            outcome = (await self._services.scheduler.schedule(requests))[-1]
            if await self._still_missing([watched]):
                if outcome is Outcome.FULL:
                    previous = replace(previous, waits=previous.waits + 1, failed=job.held.failed)
                self._services.history.add(job.root_id, job.call.call_hash, previous)
                self._report_deferred(job, watched, len(missing))
                if outcome is Outcome.FULL:
                    await self._put_again_later(job.held, previous.waits)
                else:
                    await self._forget(job.held)
                    await self._operations.ack([job.held.delivery])
                return False
            missing = await self._still_missing(missing[:-1])
        return True

    async def _still_missing(self, children: Sequence[Child]) -> list[Child]:
        unknown = [child for child in children if self._services.cache.get(child.call.call_hash) is None]
        values = await self._operations.read([Key("value", child.call.call_hash) for child in unknown])
        missing: list[Child] = []
        for child, value in zip(unknown, values, strict=True):
            if value is None:
                missing.append(child)
            else:
                self._services.cache.add(child.call.call_hash, value)
        return missing

    async def _return(self, job: _Job, payload: bytes) -> None:
        await self._forget(job.held)
        completion = Completion(job.held.delivery, job.call.call_hash, payload)
        try:
            await self._services.returner.complete(completion)
        finally:
            if completion.first:
                self._services.cache.add(job.call.call_hash, payload)
        if self._hooks.wants(CallReturned):
            topic, call = job.topic, job.call
            event = CallReturned(topic, job.root_id, call.call_hash, call.task_name, len(payload), completion.first)
            self._hooks.emit(event)

    async def _fail(self, job: _Job, error: BaseException) -> None:
        attempt, retry_in = await self._count_failure(job.held, error)
        if self._hooks.wants(CallFailed):
            topic, call = job.topic, job.call
            event = CallFailed(
                topic, job.root_id, call.call_hash, call.task_name, attempt, error, retry_in, self._reason(error)
            )
            self._hooks.emit(event)
        await self._settle(job.held, error, retry_in)

    async def _count_failure(self, held: HeldDelivery, error: BaseException) -> tuple[int, float | None]:
        """Which attempt failed, and the seconds until the next; None where this was the last.

        The last one is not counted: the counter is about to be set to 0. One that cannot be counted is tried again.
        """
        attempt = held.failed + 1
        if attempt < self._policy.max_attempts and (not isinstance(error, BrrrError) or error.retry):
            try:
                attempt = await self._attempts.fail(held)
            except BackendError as failure:
                self.report_failure(held.delivery.topic, failure)
            if attempt < self._policy.max_attempts:
                return attempt, self._policy.retry_delay(attempt)
        return attempt, None

    async def _settle(self, held: HeldDelivery, error: BaseException, retry_in: float | None) -> None:
        if retry_in is None:
            await self._bury(held, error)
        else:
            await self._release(held, retry_in)

    async def _put_again_later(self, held: HeldDelivery, waits: int) -> None:
        """Let a parent that found no room wait: neither a failure nor a delivery, so its message is put anew."""
        await self._forget(held, failures=False)
        delay = await self._delay_in_queue(self._policy.retry_delay(waits))
        await self._operations.put([Put(held.delivery.topic, held.delivery.body, delay)])
        await self._operations.ack([held.delivery])

    async def _forget(self, held: HeldDelivery, *, failures: bool = True) -> None:
        """Set the message's counters to 0. Where that fails its next messages are given up a little sooner."""
        try:
            await self._attempts.forget(held, failures=failures)
        except BackendError as error:
            self.report_failure(held.delivery.topic, error)

    async def _release(self, held: HeldDelivery, delay: float) -> None:
        """Give the delivery back, to come again after `delay` seconds."""
        await self._operations.queue.release([held.delivery], delay=await self._delay_in_queue(delay))

    async def _delay_in_queue(self, delay: float) -> float:
        """What of a delay the queue is left with: one that cannot delay is waited for here, under the lease."""
        if self._services.delays:
            return delay
        await asyncio.sleep(delay)
        return 0

    async def _bury(self, held: HeldDelivery, error: BaseException) -> None:
        delivery, reason = held.delivery, self._reason(error)
        if isinstance(error, SpawnLimitError):
            call_hash, again = decode_message(delivery.body).call_hash, delivery.attempt > 1
            with suppress(MalformedRecordError):  # then nobody can be read who waits
                await self._services.scheduler.hand_over(call_hash, delivery.topic, again=again)
        await self._forget(held)
        await self._operations.queue.bury(delivery, reason)
        if self._hooks.wants(CallBuried):
            self._hooks.emit(CallBuried(delivery.topic, delivery.body, delivery.attempt, reason, error))

    def _report_deferred(self, job: _Job, watched: Child, missing: int) -> None:
        if self._hooks.wants(CallDeferred):
            topic, call = job.topic, job.call
            event = CallDeferred(topic, job.root_id, call.call_hash, call.task_name, missing, watched.call.call_hash)
            self._hooks.emit(event)


def _uncancel() -> None:
    """Undo what a handler did that cancelled its own task: that is its failure, and not the worker's end."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
