"""Handle one delivery: run its call, then return, defer or fail it.

Each step is one batch. A worker acknowledges a message only after it has written all results of the delivery, so a
crash between two steps only repeats work. `docs/explanation/engine.md` describes the steps.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias, cast

from brrr_core.backend.contracts import Key, Kind
from brrr_core.engine.attempts import Attempts
from brrr_core.engine.calls import Again, Cancelled, Child, Defer, HeldDelivery, Job
from brrr_core.engine.control import NOTHING_SEEN, Seen
from brrr_core.engine.deferring import Deferrer
from brrr_core.engine.local_cache import PreviousRun
from brrr_core.engine.roots import TIMER, parse_root_id, split_timer
from brrr_core.engine.run import Run, run_in_context
from brrr_core.engine.services import Services
from brrr_core.engine.settling import Settler
from brrr_core.engine.waits import Waits
from brrr_core.errors import (
    BackendError,
    BuriedError,
    HandlerError,
    NondeterminismError,
    RecordMissingError,
)
from brrr_core.hooks import CallIsolated, CallStarted
from brrr_core.wire import (
    Call,
    CallState,
    ScheduleMessage,
    decode_call,
    decode_message,
)

__all__ = ["DeliveryHandler", "RunHandler"]

RunHandler: TypeAlias = Callable[[Run, Call], Awaitable[bytes]]
"""Runs the handler of a call and returns its encoded result. Raises `Defer` if a child has no value yet."""


_KINDS: Final[tuple[Kind, ...]] = ("value", "call", "pending_returns")


class _Look(NamedTuple):
    """The records of a call before it runs.

    Attributes:
        value: Its value record.
        record: Its call record.
        seen: Its control records.
        absent: The children that its previous run missed, and that still have no value.
    """

    value: bytes | None
    record: bytes | None
    seen: Seen
    absent: list[Child]


class DeliveryHandler:
    """Handles the deliveries of one worker, many at the same time."""

    def __init__(self, services: Services, run_handler: RunHandler) -> None:
        self._services = services
        self._operations = services.operations
        self._hooks = services.hooks
        self._policy = services.policy
        self._attempts = Attempts(services.operations)
        self._settler = Settler(services, self._attempts)
        self._deferrer = Deferrer(services, self._settler)
        self._run_handler = run_handler
        self.loop_task: asyncio.Task[Any] | None = None
        """The task of the worker loop."""
        self.closing = False
        """Set by the worker before it cancels the deliveries that did not finish in time."""
        self._handling: dict[str, asyncio.Task[Any] | None] = {}
        self._executing: dict[str, Run] = {}
        self._control = services.control

    def report_failure(self, topic: str, error: BaseException) -> None:
        """Report that a backend failed."""
        self._settler.report_failure(topic, error)

    @property
    def ending(self) -> bool:
        """Whether the worker loop is closing or was cancelled, perhaps with every task of the program."""
        return self.closing or (self.loop_task is not None and self.loop_task.cancelling() > 0)

    async def handle(self, held: HeldDelivery) -> None:
        """Handle one delivery until it is acknowledged, released or dead-lettered.

        Raises:
            Exception: A backend failed; the delivery is still leased.
        """
        try:
            message = decode_message(held.delivery.body)
            due = 0.0
            if message.root_id.startswith(TIMER):
                due, root_id = split_timer(message.root_id)
                early = due - self._operations.clock()
                if early > 0:
                    await self._settler.put_again(held, early)
                    return
                message = message._replace(root_id=root_id)
            await self._attempts.load(held)
            if held.delivery.attempt > self._policy.max_deliveries:
                raise self._never_finished(held)
            await self._handle_in_turn(held, message, due)
        except BackendError as error:
            if error.retry:
                raise
            await self._settler.bury(held, error)
        except Exception as error:  # noqa: BLE001 - not a backend's error: retry it as a handler's
            await self._settler.retry(held, error)

    async def release_interrupted(self, held: HeldDelivery) -> None:
        """Release a delivery that a backend failure interrupted, for a retry later. It is not a failed attempt.

        Raises:
            Exception: A backend failed; the delivery is still leased, or its lease brings it back.
        """
        await self._attempts.count_releases([held])
        await self._settler.release(held, self._policy.retry_delay(held.delivery.attempt))

    async def release_unfinished(self, held_deliveries: Sequence[HeldDelivery]) -> None:
        """Release deliveries because the worker stops.

        Raises:
            Exception: The queue failed; their leases bring them back.
        """
        counted, released = await asyncio.gather(
            self._attempts.count_releases(held_deliveries),
            self._operations.queue.release([held.delivery for held in held_deliveries]),
            return_exceptions=True,
        )
        if counted is not None and held_deliveries:
            self._settler.report_failure(held_deliveries[0].delivery.topic, counted)
        if released is not None:
            raise released

    async def interrupt_cancelled(self) -> None:
        """Cancel the async handlers of calls that someone cancelled since their runs began. They run again at once.

        Raises:
            BackendError: The store failed.
        """
        hashes = list(self._executing)
        if not hashes or not await self._control.known(self._control.look()):
            return
        for call_hash, state in zip(hashes, await self._control.states(hashes), strict=True):
            run, task = self._executing.get(call_hash), self._handling.get(call_hash)
            if run is None or task is None or not state.cancel or run.state.cancel:
                continue
            if run.interruptible and not run.interrupted:
                run.interrupted = True
                task.cancel()

    def _never_finished(self, held: HeldDelivery) -> BuriedError:
        what = (
            f"the message was delivered {held.delivery.attempt} times and never finished: its handler raised "
            f"{held.failed} times, and the other deliveries ended because a worker stopped, died, lost the lease or "
            "lost a backend"
        )
        if self._settler.last_failure:
            what += f"; the last backend failure that this worker saw was {self._settler.last_failure}"
        return BuriedError(what, remedy="Fix what keeps it from finishing, then redrive it.")

    async def _handle_in_turn(self, held: HeldDelivery, message: ScheduleMessage, due: float) -> None:
        """Handle the messages of one call one by one, so that the call runs once and wakes its parents once."""
        call_hash = message.call_hash
        while (earlier := self._handling.get(call_hash)) is not None:
            await asyncio.wait({earlier})
            held.records = None
        self._handling[call_hash] = asyncio.current_task()
        try:
            while not await self._read_and_run(held, message, due):
                pass  # someone cancelled the call during the run
        finally:
            del self._handling[call_hash]

    async def _read_and_run(self, held: HeldDelivery, message: ScheduleMessage, due: float) -> bool:
        """Read the records of the call, and run it if necessary. False if the run was interrupted."""
        call_hash = message.call_hash
        previous = self._services.history.take(message.root_id, call_hash)
        if previous is not None:
            held.failed = max(held.failed, previous.failed)
        value, record, seen, absent = await self._look(held, message, due, previous)
        if value is not None:
            await self._settler.finish_again(held, call_hash, value)
            return True
        if seen.root_cancelled:
            await self._deferrer.drop(held, message, due)
            return True
        if record is None:
            raise RecordMissingError(
                f"the message names the call {call_hash}, and the store has no record of it",
                remedy="Check that all workers of the topic share one store, that it evicts nothing, "
                "and that its `ttl` is longer than the workflow. Then schedule the workflow again with redrive=True.",
            )
        if seen.state.cancel:
            previous = None  # it may be a run that was not told
        job = Job(held, message.root_id, decode_call(call_hash, record), due)
        if previous is None or not absent or await self._deferrer.defer(job, absent, previous, new=False):
            return await self._run_until_settled(job, previous, seen)
        return True

    async def _look(
        self, held: HeldDelivery, message: ScheduleMessage, due: float, previous: PreviousRun | None
    ) -> _Look:
        """Read the records of a call in one batch, unless they came with the message."""
        looking = self._control.look() if self._control.due else None
        control_keys = self._control.keys(*message) if self._control.in_use else ()
        given, held.records = held.records, None
        absent: list[Child] = []
        if given is None:
            kinds: tuple[Kind, ...] = _KINDS if self._operations.has_steps else _KINDS[:2]
            keys = [*(Key(kind, message.call_hash) for kind in kinds), *control_keys]
            if previous is None:
                records = await self._operations.read(keys)
            else:
                records, absent = await self._read_ahead(keys, previous)
            found = records[len(kinds) :]
        else:
            records, found = list(given), list(given[len(_KINDS) :])
            if not found or due:  # it was received before the marker was known, or under the root id of a timer
                control_keys = ()
            if previous is not None:
                _, absent = await self._read_ahead((), previous)
        if self._operations.has_steps:
            held.pending = records[2]
        seen = NOTHING_SEEN
        if looking is not None or self._control.in_use:
            seen = await self._control.seen(looking, control_keys, found, *message)
        return _Look(records[0], records[1], seen, absent)

    async def _read_ahead(self, keys: Sequence[Key], previous: PreviousRun) -> tuple[list[bytes | None], list[Child]]:
        """Read `keys`, and in the same batch the values that the previous run read, so that the re-run has them.

        Also return the children that the previous run missed and that still have no value; none if one of them has a
        deadline, which only a run notices.
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
        if previous.timed and any(child.wait is not None for child in previous.missing):
            absent.clear()
        return values[: len(keys)], [child for child in previous.missing if child.call.call_hash in absent]

    async def _run_until_settled(self, job: Job, previous: PreviousRun | None, seen: Seen) -> bool:
        """Run the call until its delivery is settled. Re-run at once if all missing values exist by then.

        False if the handler was interrupted because someone cancelled the call.

        Each run has its own copy of the context variables.
        """
        again, context, state = True, copy_context(), seen.state
        while again:
            if not await self._wait_for_turn(job):
                await self.release_interrupted(job.held)
                return True
            run = self._start(job, state)
            job.held.task_name = job.call.task_name
            try:
                payload = await run_in_context(context.copy(), self._execute(run, previous))
            except KeyboardInterrupt:
                raise
            except Again as again_later:
                self._services.isolation.leave(job.held)
                await self._keep_state(run)
                kept = replace(run.summary(), failed=job.held.failed)
                self._services.history.add(job.root_id, job.call.call_hash, kept)
                await self._settler.postponed(job, again_later)
                return True
            except BaseException as error:
                of_backend, run.backend_error = error is run.backend_error, None  # its traceback holds this frame
                if of_backend or (self.ending and isinstance(error, asyncio.CancelledError)):
                    raise
                self._services.isolation.leave(job.held)
                if run.interrupted:
                    return False
                if self._policy.check and previous is not None and not isinstance(error, NondeterminismError):
                    self._services.history.add(job.root_id, job.call.call_hash, previous)  # to check the next attempt
                await self._settler.failed(job, error, run.policy)
                return True
            finally:
                self._services.isolation.leave(job.held)
            if payload is not None:
                await self._settler.returned(job, payload)
                return True
            if not (run.version_recorded or await run.record_version()):
                continue  # another run of the call deferred first, perhaps with other code
            state = await self._keep_state(run)
            missing = list(run.missing.values())
            if run.waits.begun:
                # The first run under a redrive restores messages that the queue lost, those of timers too.
                redriven = previous is None and parse_root_id(job.root_id).redriven_at is not None
                await self._deferrer.start_timers(job, missing, again=redriven)
            new = previous is None or not previous.misses(missing)
            previous = run.summary()
            again = await self._deferrer.defer(job, missing, previous, new=new)
        return True

    async def _keep_state(self, run: Run) -> CallState:
        """Keep what the run showed its handler, before the run is repeated. Return the new state of the call."""
        news = run.news()
        if news is run.state or news == run.state:
            return news

        def added(state: CallState) -> CallState:
            if state.retries != news.retries:
                return state  # the call was retried meanwhile, and begins anew
            told_at = state.cancelled_at or news.cancelled_at
            return replace(state, cancelled_at=told_at, observed={**news.observed, **state.observed})

        return await self._control.update(run.call.call_hash, added)

    async def _wait_for_turn(self, job: Job) -> bool:
        """Wait until the handler may run. False if an isolated call kept it waiting for longer than a lease.

        Raises:
            BuriedError: The call ended its worker process too often while it ran alone.
        """
        held, gate, call = job.held, self._services.isolation, job.call
        if held.suspicious:
            if self._hooks.wants(CallIsolated):
                deliveries = held.unexplained
                self._hooks.emit(CallIsolated(job.topic, job.root_id, call.call_hash, call.task_name, deliveries))
            await gate.enter_alone(held)
            try:
                crashes = await self._attempts.begin_alone(held)
                if crashes >= self._policy.max_crashes:
                    raise BuriedError(
                        f"a call of {call.task_name!r} ended its worker process {crashes} times while it ran alone "
                        "(or blocked it for longer than the lease)",
                        remedy="Check its memory use, native code and calls of os._exit. Then redrive it.",
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

    def _start(self, job: Job, state: CallState) -> Run:
        if self._hooks.wants(CallStarted):
            topic, call, attempt = job.topic, job.call, job.held.failed + 1
            self._hooks.emit(CallStarted(topic, job.root_id, call.call_hash, call.task_name, attempt))
        longest = inf if self._operations.delays else self._operations.queue.lease
        return Run(
            root_id=job.root_id,
            call=job.call,
            topic=job.topic,
            attempt=job.held.failed + 1,
            operations=self._operations,
            cache=self._services.cache,
            schedule=partial(self._deferrer.schedule_early, job),
            send=self._services.scheduler.send,
            check=self._policy.check,
            waits=Waits(job.call, self._operations, due=job.due, longest=longest, retries=state.retries),
            state=state,
        )

    async def _execute(self, run: Run, previous: PreviousRun | None) -> bytes | None:
        """Run the handler and return its encoded result; None if a child has no value yet.

        A run that misses a value is deferred, even if the handler catches `Defer`, wraps it, or raises another error
        while it is aborted. An error of its own comes again in the run that finds all values. If a backend failed, the
        run is retried, even if the handler catches that error.

        Raises:
            BackendError: The backend's error, `run.backend_error`.
            BaseException: The handler's error.
        """
        payload: bytes | None = None
        self._executing[run.call.call_hash] = run
        try:
            payload = await self._run_handler(run, run.call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self.closing or (self.ending and isinstance(error, asyncio.CancelledError)):
                raise asyncio.CancelledError from error  # a cancelled handler may raise another error
            _uncancel()
            if run.backend_error is None and not run.missing:
                if isinstance(error, Defer):
                    raise HandlerError(
                        "the handler raised Defer although no value is missing", remedy="Leave raising Defer to brrr."
                    ) from None
                if not isinstance(error, Cancelled) and _is_cancelled(error):
                    raise Cancelled from error  # a TaskGroup of the handler raised it
                raise
        finally:
            del self._executing[run.call.call_hash]
            if run.interrupted:
                _uncancel()
        if run.backend_error is not None:
            raise run.backend_error
        if self._policy.check:
            run.check(previous)
        return None if run.missing else payload


def _is_cancelled(error: BaseException) -> bool:
    """Whether an error is `Cancelled`, or a group of nothing else."""
    left = [error]
    while left:  # groups can be nested deeper than Python recurses
        found = left.pop()
        if isinstance(found, BaseExceptionGroup):
            left.extend(cast("BaseExceptionGroup[BaseException]", found).exceptions)
        elif not isinstance(found, Cancelled):
            return False
    return True


def _uncancel() -> None:
    """Undo the cancellation of a handler that cancelled its own task: only the call fails, and the worker goes on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
