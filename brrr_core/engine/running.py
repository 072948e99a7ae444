"""Run a call until its delivery is settled: its handler returns, fails, defers, or is parked and continues later."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, TypeAlias, cast

from brrr_core.engine.attempts import Attempts
from brrr_core.engine.calls import Again, Cancelled, Child, Defer, HandOver, HeldDelivery, Job, Outdated
from brrr_core.engine.control import Guard, Seen
from brrr_core.engine.deferring import Deferrer
from brrr_core.engine.local_cache import PreviousRun
from brrr_core.engine.parking import ParkedRun, Parking
from brrr_core.engine.roots import is_root, parse_root_id
from brrr_core.engine.run import Run, run_in_context
from brrr_core.engine.services import Services
from brrr_core.engine.settling import Settler
from brrr_core.engine.turns import Turns, current_task
from brrr_core.engine.waits import Waits
from brrr_core.errors import BuriedError, HandlerError, NondeterminismError
from brrr_core.hooks import CallIsolated, CallsMade, CallStarted, MadeCall
from brrr_core.wire import Call, CallState

__all__ = ["RunHandler", "Runner"]

RunHandler: TypeAlias = Callable[[Run, Call], Awaitable[bytes]]
"""Runs the handler of a call and returns its encoded result. Raises `Defer` if a child has no value yet."""


class Runner:
    """Runs the calls of one worker, many at the same time.

    Attributes:
        deferrer: Defers them.
        settler: Settles their deliveries.
        turns: The turns of calls.
    """

    def __init__(
        self, services: Services, run_handler: RunHandler, attempts: Attempts, parking: Parking, hand_over: HandOver
    ) -> None:
        self._services = services
        self._operations = services.operations
        self._hooks = services.hooks
        self._policy = services.policy
        self._control = services.control
        self._attempts = attempts
        self._run_handler = run_handler
        self._parking = parking
        self._hand_over = hand_over
        self.settler = Settler(services, attempts)
        self.deferrer = Deferrer(services, self.settler, hand_over)
        self.turns = Turns()
        self.loop_task: asyncio.Task[Any] | None = None
        """The task of the worker loop."""
        self.closing = False
        """Set by the worker before it cancels the deliveries that did not finish in time."""
        self._executing: dict[str, Run] = {}

    @property
    def ending(self) -> bool:
        """Whether the worker loop is closing or was cancelled, perhaps with every task of the program."""
        return self.closing or (self.loop_task is not None and self.loop_task.cancelling() > 0)

    async def interrupt_cancelled(self) -> None:
        """Cancel the async handlers of calls that were cancelled since their runs began. They run again immediately.

        Raises:
            BackendError: The store failed.
        """
        hashes = list(self._executing)
        if not hashes or not await self._control.known(self._control.look()):
            return
        for call_hash, state in zip(hashes, await self._control.states(hashes), strict=True):
            run, task = self._executing.get(call_hash), self.turns.task_of(call_hash)
            if run is None or task is None or not state.cancel or run.state.cancel:
                continue
            if run.interruptible and not run.interrupted:
                run.interrupted = True
                task.cancel()

    async def run_until_settled(self, job: Job, previous: PreviousRun | None, seen: Seen) -> bool:
        """Run the call until its delivery is settled. Re-run immediately if all missing values exist by then.

        False if the records of the call must be read again, because someone cancelled or retried it during the run.
        """
        try:
            return await self._run_until_settled(job, previous, seen)
        except Outdated:
            return False

    async def _run_until_settled(self, job: Job, previous: PreviousRun | None, seen: Seen) -> bool:
        """Run it, in a copy of the context variables. Hooks may set variables in the copy before the handler begins.

        Raises:
            Outdated: The run must not take effect.
        """
        context, state = copy_context(), seen.state
        while True:
            if not await self._wait_for_turn(job):
                await self.settler.release_interrupted(job.held)
                return True
            run = self._start(job, state, previous, context.copy())
            job.held.task_name = job.call.task_name
            try:
                payload = await run_in_context(run.context, self._execute(run))
            except KeyboardInterrupt:
                raise
            except Again as again_later:
                self._services.isolation.leave(job.held)
                await self._clear_ended(job, run)
                await self._keep_state(run)
                kept = run.summary()._replace(failed=job.held.failed)
                self._services.history.add(job.root_id, job.call.call_hash, kept)
                await self.settler.postponed(job, again_later)
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
                await self.settler.failed(job, error, run.policy, partial(self._end, job, run))
                return True
            finally:
                self._services.isolation.leave(job.held)
            if payload is not None:
                await self.settler.returned(job, payload, self._hand_over, await self._end(job, run))
                return True
            again = False if run.settled else await self._defer(job, run)
            if again is False:
                return True
            if again:
                state, previous = run.state, run.summary()

    def resume(self, parked: ParkedRun, held: HeldDelivery, seen: Seen) -> bool:
        """Let a parked run continue with a delivery, unless its call has changed or needs a new run."""
        run, mine = parked.run, parked.held
        if (
            held.delivery.attempt > 1
            or run.attempt != held.failed + 1
            or (seen.state.cancel, seen.state.retries) != (run.state.cancel, run.state.retries)
            or not self._services.isolation.enter_at_once(mine)
        ):
            return False
        call = run.call
        self._parking.resume(parked, held)
        self.turns.begin(call.call_hash, parked.task)
        self._executing[call.call_hash] = run
        run.settled = False
        self._report_start(run, again=True)
        return True

    async def _park(self, job: Job, run: Run) -> bool:
        """Defer a run while its handler is suspended. Return when the missing values exist.

        Returns:
            Whether the call was deferred. False if all values existed by then.

        Raises:
            Defer: The run must end. Its call is deferred already if `run.settled` is true.
            Exception: The engine or a backend failed; the run does not count.
        """
        if not self._parking.open:
            raise Defer
        try:
            again = await self._defer(job, run)
        except Outdated:
            run.outdated = True
            raise Defer from None
        except asyncio.CancelledError as error:
            raise Defer from error  # it may be deferred or not: deferring it once more is safe
        except Exception as error:
            run.backend_error = error
            raise
        if again is None:
            raise Defer
        if again:
            return False
        run.settled = True
        self._leave(job, run)
        if not await self._parking.wait(run, job.held):
            raise Defer
        return True

    def _leave(self, job: Job, run: Run) -> None:
        """Let others run: the handler is suspended without a delivery."""
        self._services.isolation.leave(job.held)
        del self._executing[run.call.call_hash]
        self.turns.end(run.call.call_hash, current_task())

    async def _defer(self, job: Job, run: Run) -> bool | None:
        """Defer a run that misses values. True if they exist by then; None if another run of the call was first.

        Raises:
            Outdated: The run must not take effect.
        """
        if run.outdated:
            raise Outdated
        if not (run.version_recorded or await run.record_version()):
            return None  # perhaps with other code
        guard = await self._commit(job, run)
        missing = list(run.missing.values())
        if run.waits.begun:
            # The first run under a redrive restores messages that the queue lost, those of timers too. And the timers
            # may be those of another schedule, whose messages are dropped if it is cancelled.
            lost = self._control.in_use or parse_root_id(job.root_id).redriven_at is not None
            await self.deferrer.start_timers(job, missing, again=lost and run.previous is None)
        new = run.previous is None or not run.previous.misses(missing)
        return await self.deferrer.defer(job, missing, run.summary(), new=new, guard=guard)

    async def _schedule_early(self, job: Job, run: Run, children: Sequence[Child]) -> None:
        """Schedule children of a run that continues."""
        await self.deferrer.schedule_early(job, children, await self._guard(run))

    async def _send(self, job: Job, run: Run, child: Child) -> bytes | None:
        """Put a call that the run does not wait for."""
        return await self._services.scheduler.send(job.root_id, child, await self._guard(run))

    async def _guard(self, run: Run) -> Guard | None:
        return await self._control.guard(run.call.call_hash, run.state)

    async def _end(self, job: Job, run: Run) -> Guard | None:
        """Prepare the end of the call by a run that returned or failed. Return its guard."""
        return await self._commit(job, run, ends=True) if run.has_looked else None

    async def _commit(self, job: Job, run: Run, *, ends: bool = False) -> Guard | None:
        """Store what the handler has seen, before the run takes effect. Return the guard for its effects.

        Raises:
            Outdated: The call was cancelled or retried since the run began, or another run got `Cancelled` first.
        """
        await self._clear_ended(job, run)
        if not ends or run.state.cancel:  # other failures that the run has seen are of no use after its end
            await self._keep_state(run, ends=ends)
        guard = await self._guard(run)
        while run.unsent:
            await self._services.scheduler.send(job.root_id, run.unsent[0], guard)
            del run.unsent[0]
        return guard

    async def _clear_ended(self, job: Job, run: Run) -> None:
        """Clear the records of children that have ended, if an earlier delivery may have died before it did so."""
        if job.held.begun_before:
            await self._services.returner.clear_ended(run.summary().reads)

    async def _keep_state(self, run: Run, *, ends: bool = False) -> None:
        """Store the failures that the handler has seen, and where it got `Cancelled`.

        Of two runs of a cancelled call, the first decides where. The other one has other values, and runs again.

        Raises:
            Outdated: The state of the call has changed.
        """
        news, guard = run.news(ends=ends), Guard(run.call.call_hash, run.state)
        if news is run.state or news == run.state:
            return

        def added(state: CallState) -> CallState:
            if not guard.allows(state):
                raise Outdated
            return replace(news, observed={**news.observed, **state.observed})

        run.state = await self._control.update(run.call.call_hash, added)

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
        elif not gate.enter_at_once(held):
            try:
                async with asyncio.timeout(self._operations.queue.lease):
                    await gate.enter(held)
            except TimeoutError:
                return False
        return True

    def _start(self, job: Job, state: CallState, previous: PreviousRun | None, context: Context) -> Run:
        longest = inf if self._operations.delays else self._operations.queue.lease
        run = Run(
            root_id=job.root_id,
            call=job.call,
            topic=job.topic,
            attempt=job.held.failed + 1,
            operations=self._operations,
            cache=self._services.cache,
            schedule=partial(self._schedule_early, job),
            send=partial(self._send, job),
            check=self._policy.check,
            waits=Waits(job.call, self._operations, due=job.due, longest=longest, retries=state.retries),
            state=state,
            previous=previous,
            park=partial(self._park, job) if self._parking.open else None,
            context=context,
            report=self._report_made if self._hooks.wants(CallsMade) else None,
        )
        self._report_start(run, again=previous is not None)
        return run

    def _report_start(self, run: Run, *, again: bool) -> None:
        if self._hooks.wants(CallStarted):
            call, size, root = run.call, len(run.call.payload), is_root(run.root_id, run.call.call_hash)
            event = CallStarted(run.topic, run.root_id, call.call_hash, call.task_name, run.attempt, size, again, root)
            run.context.run(self._hooks.emit, event)

    def _report_made(self, run: Run, children: Sequence[tuple[Child, bool]]) -> None:
        calls = tuple(
            MadeCall(topic, call.call_hash, call.task_name, len(call.payload), delay, done)
            for (call, topic, delay, _), done in children
        )
        self._hooks.emit(CallsMade(run.topic, run.root_id, run.call.call_hash, run.call.task_name, calls))

    async def _execute(self, run: Run) -> bytes | None:
        """Run the handler and return its encoded result; None if a child has no value yet.

        A run that misses a value is deferred, even if the handler catches `Defer`, wraps it, or raises another error
        while it is aborted. A genuine error appears again in the run that finds all values. If a backend failed, the
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
            if self._counts(run, error):
                raise
        finally:
            if self._executing.get(run.call.call_hash) is run:
                del self._executing[run.call.call_hash]
            if run.interrupted:
                _uncancel()
        if run.settled or run.outdated:
            return None
        if run.backend_error is not None:
            raise run.backend_error
        if self._policy.check:
            run.check(run.previous)
        return None if run.missing or run.outdated else payload

    def _counts(self, run: Run, error: BaseException) -> bool:
        """Whether the error of a handler counts. It does not if the run is deferred or repeated anyway.

        Raises:
            CancelledError: The worker ends the handler.
            HandlerError: The handler raised `Defer` itself.
            Cancelled: It raised a group that contains only `Cancelled`.
        """
        if not run.settled and (self.closing or (self.ending and isinstance(error, asyncio.CancelledError))):
            raise asyncio.CancelledError from error  # a cancelled handler may raise another error
        _uncancel()
        if run.settled or run.outdated or run.backend_error is not None or run.missing:
            return False
        if isinstance(error, Defer):
            raise HandlerError(
                "the handler raised Defer although no value is missing", remedy="Do not raise Defer yourself."
            ) from None
        if not isinstance(error, Cancelled) and _is_cancelled(error):
            raise Cancelled from error  # a TaskGroup of the handler raised it
        return True


def _is_cancelled(error: BaseException) -> bool:
    """Whether an error is `Cancelled`, or a group that contains only `Cancelled`."""
    left = [error]
    while left:  # groups can be nested deeper than Python recurses
        found = left.pop()
        if isinstance(found, BaseExceptionGroup):
            left.extend(cast("BaseExceptionGroup[BaseException]", found).exceptions)
        elif not isinstance(found, Cancelled):
            return False
    return True


def _uncancel() -> None:
    """Undo the cancellation of a handler that cancelled its own task: only the call fails, and the worker continues."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
