"""Defer a run: schedule its missing children, register the call on the last one, and settle the delivery."""

from collections.abc import Sequence
from functools import partial

from brrr_core.backend.contracts import Key
from brrr_core.backend.steps import Message, Received, Step
from brrr_core.engine.calls import Child, HandOver, HeldDelivery, Job
from brrr_core.engine.control import Guard, cancelled_key
from brrr_core.engine.local_cache import PreviousRun
from brrr_core.engine.operations import STEP_LIMIT, Commit
from brrr_core.engine.roots import parse_root_id
from brrr_core.engine.scheduling import Placed, ScheduleOutcome, ScheduleRequest
from brrr_core.engine.services import Services
from brrr_core.engine.settling import Settler
from brrr_core.hooks import CallDeferred
from brrr_core.wire import (
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    encode_call,
    encode_message,
    encode_pending,
)

__all__ = ["Deferrer"]


class Deferrer:
    """Defers the runs of one worker."""

    def __init__(self, services: Services, settler: Settler, hand_over: HandOver) -> None:
        self._services = services
        self._hand_over_to = hand_over
        self._operations = services.operations
        self._hooks = services.hooks
        self._policy = services.policy
        self._control = services.control
        self._settler = settler

    async def schedule_early(self, job: Job, children: Sequence[Child], guard: Guard | None) -> None:
        """Schedule children of a run that continues.

        Raises:
            Outdated: The guard does not allow it.
        """
        await self.start_timers(job, children)
        calls = [child for child in children if not child.is_sleep]
        await self._services.scheduler.schedule([ScheduleRequest(child, job.root_id, guard=guard) for child in calls])

    async def start_timers(self, job: Job, children: Sequence[Child], *, again: bool = False) -> None:
        """Start the timers that do not run yet, or all of them if the queue may have lost their messages."""
        waits = [child.wait for child in children if child.wait is not None and (again or not child.wait.running)]
        if waits:
            await self._services.scheduler.start_timers(_return_of(job), waits)

    async def defer(
        self, job: Job, missing: list[Child], previous: PreviousRun, *, new: bool, guard: Guard | None = None
    ) -> bool:
        """Schedule the missing children, register the call on the last one, and settle the delivery.

        The call registers on one child only. When that child returns, most others have returned too. So a parent of
        many children runs two or three times, not once for each child. The values are read after registering, so a
        child that returns in between is noticed.

        Args:
            job: The delivery and its call.
            missing: The children without a value.
            previous: The run.
            new: Whether the call probably misses all of them for the first time.
            guard: The guard of the run, if any.

        Returns:
            True if all children have values by now. Then the delivery is still leased, and the call can run again.

        Raises:
            Outdated: The guard does not allow it. The delivery is still leased.
        """
        fits = new and self._fits_in_a_step(job, missing, previous)
        if fits and await self._defer_in_one_step(job, missing, previous, guard):
            return False
        # After a refused step, or in a later run, children may have ended meanwhile. They must not be put again.
        racing = self._operations.has_steps and (fits or not new)
        mine = _return_of(job)
        while missing:
            calls = [child for child in missing if not child.is_sleep] if previous.timed else missing
            watched = calls[-1] if calls else missing[-1]
            requests = [ScheduleRequest(child, job.root_id, guard=guard, unless_ended=racing) for child in calls[:-1]]
            root = cancelled_key(job.root_id) if self._control.in_use else None
            placed = Placed(ScheduleOutcome.SCHEDULED)
            if calls:
                requests.append(ScheduleRequest(watched, job.root_id, mine, guard, root, unless_ended=racing))
                placed = (await self._services.scheduler.schedule(requests))[-1]
            cancelled = placed.cancelled
            if root is None or not calls:  # else it was read together with the values
                cancelled = cancelled or (self._control.due and await self._control.is_cancelled(job.root_id))
            if cancelled:
                await self.drop(job.held, ScheduleMessage(job.root_id, job.call.call_hash), job.due)
                return False
            if placed.value is None:
                if placed.outcome is ScheduleOutcome.FULL:
                    previous = previous._replace(waits=previous.waits + 1, failed=job.held.failed)
                self._services.history.add(job.root_id, job.call.call_hash, previous)
                self._report(job, watched, len(missing))
                if placed.outcome is ScheduleOutcome.FULL:
                    await self._settler.put_again(job.held, self._policy.retry_delay(previous.waits))
                else:
                    await self._settler.reset_counters(job.held)
                    await self._operations.ack([job.held.delivery])
                return False
            self._services.cache.add(watched.call.call_hash, placed.value)
            missing = await self._still_missing([child for child in missing if child is not watched])
        return True

    def _fits_in_a_step(self, job: Job, missing: Sequence[Child], previous: PreviousRun) -> bool:
        return (
            self._operations.has_steps
            and not job.held.counted  # its counters are reset only if it is deferred
            and len(missing) <= STEP_LIMIT
            and not previous.timed
            and parse_root_id(job.root_id).redriven_at is None
            and all(child.topic and (self._operations.delays or not child.delay) for child in missing)
        )

    async def _defer_in_one_step(
        self, job: Job, missing: Sequence[Child], previous: PreviousRun, guard: Guard | None
    ) -> bool:
        """Defer in one step, if no child has a record. False if that was not possible: nothing was done.

        A step is atomic. So a child that returns at the same time, or is cancelled, finds all of it or nothing.
        """
        not_cancelled = () if guard is None else ((cancelled_key(job.root_id), None), (guard.key, guard.record))
        held, watched, now = job.held, missing[-1], int(self._operations.clock())
        # Only a single child: the last of several should run after the others.
        leased = len(missing) == 1 and not watched.delay and self._hand_over_to.wants(watched.topic, held)
        marks = [encode_pending(PendingReturns((), now))] * (len(missing) - 1)
        marks.append(encode_pending(PendingReturns((_return_of(job),), now)))
        records = [Key("pending_returns", child.call.call_hash) for child in missing]
        values = [Key("value", child.call.call_hash) for child in missing]
        writes = [(Key("call", child.call.call_hash), encode_call(child.call)) for child in missing]
        step = Step(
            expected=[*((key, None) for key in (*records, *values)), *not_cancelled],
            counts=self._services.budget.counts([job.root_id] * len(missing)),
            writes=writes,
            messages=[
                Message(
                    child.topic,
                    encode_message(ScheduleMessage(job.root_id, child.call.call_hash)),
                    child.delay,
                    leased,
                )
                for child in missing
            ],
            marks=list(zip(records, marks, strict=True)),
            acks=(held.delivery,),
        )
        # The step determines the records of the message that it leases. Only those of a cancellation must be read.
        known = (None, writes[-1][1], marks[-1]) if guard is None else None
        commit = Commit(step, partial(self._take, held, known), reads=known is None)
        # First, because the wake-up may arrive immediately.
        self._services.history.add(job.root_id, job.call.call_hash, previous)
        applied = False
        try:
            (applied,) = await self._operations.commit([commit])
        finally:
            if not applied:
                self._services.history.take(job.root_id, job.call.call_hash)
        if applied:
            self._report(job, watched, len(missing))
        return applied

    def _take(self, held: HeldDelivery, known: Sequence[bytes | None] | None, received: Sequence[Received]) -> None:
        """Hand a message over to this worker, with its records (`READINGS`) if they are known."""
        if known is not None:
            received = [Received(delivery, known) for delivery, _ in received]
        self._hand_over_to.take(held, received)

    async def drop(self, held: HeldDelivery, message: ScheduleMessage, due: float) -> None:
        """Drop a message of a cancelled schedule. If other schedules need its call, they get it."""
        entry = PendingReturn(message.root_id, message.call_hash, held.delivery.topic)
        await self._services.reassigner.reassign(entry, again=held.begun_before, cancelled=True, due=due)
        await self._settler.reset_counters(held)
        await self._operations.ack([held.delivery])

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

    def _report(self, job: Job, watched: Child, missing: int) -> None:
        self._settler.counts.deferred += 1
        if self._hooks.wants(CallDeferred):
            topic, call = job.topic, job.call
            event = CallDeferred(topic, job.root_id, call.call_hash, call.task_name, missing, watched.call.call_hash)
            self._hooks.emit(event)


def _return_of(job: Job) -> PendingReturn:
    return PendingReturn(job.root_id, job.call.call_hash, job.topic)
