"""Settle a delivery: return or fail its call, retry it, or dead-letter its message."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from brrr_core.engine.attempts import Attempts
from brrr_core.engine.calls import Again, Cancelled, HandOver, HeldDelivery, Job, NotHere
from brrr_core.engine.control import Guard
from brrr_core.engine.failures import exhausted_failure, failure_of
from brrr_core.engine.operations import Put
from brrr_core.engine.policy import NO_SETTINGS, Policy, TaskPolicy
from brrr_core.engine.returning import Completion
from brrr_core.engine.roots import split_timer
from brrr_core.engine.services import Services
from brrr_core.engine.wait_limits import check_wait
from brrr_core.errors import (
    BackendError,
    BackendUnavailableError,
    BrrrError,
    BuriedError,
    CapabilityError,
    MalformedRecordError,
    SpawnLimitError,
)
from brrr_core.hooks import BackendFailed, CallBuried, CallFailed, CallPostponed, CallReturned
from brrr_core.safe_text import describe, format_error, format_traceback
from brrr_core.wire import Buried, PendingReturn, decode_message, encode_failure

__all__ = ["Counts", "Settler"]


@dataclass(slots=True)
class Counts:
    """The runs of one worker since it last reported them."""

    returned: int = 0
    deferred: int = 0
    postponed: int = 0
    failed: int = 0
    retried: int = 0


class Settler:
    """Settles the deliveries of one worker.

    Attributes:
        last_failure: The last failure of a backend that this worker saw, in words.
        counts: The runs that were settled.
    """

    def __init__(self, services: Services, attempts: Attempts) -> None:
        self._services = services
        self._operations = services.operations
        self._hooks = services.hooks
        self._policy = services.policy
        self._attempts = attempts
        self.last_failure = ""
        self.counts = Counts()

    def report_failure(self, topic: str, error: BaseException) -> None:
        """Report that a backend failed."""
        self.last_failure = describe(error, mask=self._services.mask)
        if self._hooks.wants(BackendFailed):
            self._hooks.emit(BackendFailed(topic, error, self._reason(error)))

    def _reason(self, error: BaseException) -> str:
        """Return the message of an error and the end of its traceback, without the backends' secrets."""
        mask = self._services.mask
        summary = format_error(error, mask=mask)
        return summary if error.__traceback__ is None else f"{summary}\n\n{format_traceback(error, mask=mask)}"

    async def returned(self, job: Job, payload: bytes, hand_over: HandOver, guard: Guard | None) -> None:
        """Write the result of the call, wake its callers, and acknowledge the delivery.

        Args:
            job: The delivery and its call.
            payload: The encoded result.
            hand_over: Takes over the wake-up of a caller, if possible.
            guard: The guard of the run, if any.

        Raises:
            Outdated: The guard does not allow it. Nothing was done.
        """
        if job.held.counted:
            await self.reset_counters(job.held)
        held, call_hash = job.held, job.call.call_hash
        completion = Completion(held.delivery, call_hash, payload, held=held, hand_over=hand_over, guard=guard)
        await self._services.returner.complete(completion)
        self.counts.returned += 1
        if self._hooks.wants(CallReturned):
            topic, call = job.topic, job.call
            size, first, scheduled_at = len(payload), completion.first, completion.scheduled_at
            self._hooks.emit(
                CallReturned(topic, job.root_id, call.call_hash, call.task_name, size, first, scheduled_at)
            )

    async def failed(
        self, job: Job, error: BaseException, task_policy: TaskPolicy, guard: Callable[[], Awaitable[Guard | None]]
    ) -> None:
        """Retry the call after its handler raised `error`. If no retry can help, let it fail or dead-letter it.

        Args:
            job: The delivery and its call.
            error: The error.
            task_policy: The settings of the handler.
            guard: Returns the guard of the run, if any, before the call fails.

        Raises:
            Outdated: The guard does not allow it. The call did not fail.
        """
        held, policy = job.held, task_policy.applied_to(self._policy)
        attempt, retry_in = held.failed + 1, None
        terminal = isinstance(error, Cancelled) or task_policy.fails(error)
        if not terminal:
            attempt, retry_in = await self._count_failure(held, policy, retry=task_policy.retries(error))
        exhausted = retry_in is None and not terminal
        # Errors of brrr are those of a deployment, which would fail calls that others share.
        final = terminal or (exhausted and policy.on_exhausted == "fail" and not isinstance(error, BrrrError))
        scheduled_at = None
        if final:
            scheduled_at = await self._complete_as_failed(job, error, await guard(), exhausted=exhausted)
        if self._hooks.wants(CallFailed):
            reason = self._reason(error)
            self._hooks.emit(
                CallFailed(
                    job.topic,
                    job.root_id,
                    job.call.call_hash,
                    job.call.task_name,
                    attempt,
                    error,
                    retry_in,
                    reason,
                    final,
                    scheduled_at,
                )
            )
        if not final:
            await self._settle(held, error, attempt, retry_in)
        elif exhausted:
            await self.bury(held, error, final=True)
        else:
            self.counts.failed += 1

    async def _complete_as_failed(
        self, job: Job, error: BaseException, guard: Guard | None, *, exhausted: bool
    ) -> int | None:
        """Write the failure as the outcome and wake the callers. Acknowledge, unless the call is to be dead-lettered.

        Returns:
            The mark of the call.
        """
        record = encode_failure(failure_of(error, exhausted=exhausted, mask=self._services.mask))
        await self.reset_counters(job.held)
        held = job.held
        call_hash = job.call.call_hash
        completion = Completion(held.delivery, call_hash, record, acknowledge=not exhausted, held=held, guard=guard)
        await self._services.returner.complete(completion)
        return completion.scheduled_at

    async def finish_again(self, held: HeldDelivery, call_hash: str, value: bytes) -> None:
        """Finish a call that has an outcome: its worker may have died before it had woken all callers."""
        # The first delivery of a message comes from a caller or a redrive, after the dead letter was made.
        failure = exhausted_failure(value) if held.begun_before else None
        await self.reset_counters(held)
        await self._services.returner.complete(Completion(held.delivery, call_hash, acknowledge=failure is None))
        if failure is not None:
            what = f"{failure.error_type}: {failure.message}".rstrip(": ")
            await self.bury(held, BuriedError(what, remedy=failure.traceback), final=True)

    async def _count_failure(self, held: HeldDelivery, policy: Policy, *, retry: bool) -> tuple[int, float | None]:
        """Count a failed attempt. Return its number and the seconds until the next attempt; None if it was the last.

        The last attempt is not counted, because the counter is about to be reset. If counting fails, retry the call.
        """
        attempt = held.failed + 1
        if attempt < policy.max_attempts and retry:
            try:
                attempt = await self._attempts.count_failure(held)
            except BackendError as failure:
                self.report_failure(held.delivery.topic, failure)
            if attempt < policy.max_attempts:
                return attempt, policy.retry_delay(attempt)
        return attempt, None

    async def retry(self, held: HeldDelivery, error: BaseException) -> None:
        """Retry a delivery whose call cannot run because of `error`; dead-letter it if no retry can help."""
        attempt, retry_in = await self._count_failure(held, self._policy, retry=NO_SETTINGS.retries(error))
        await self._settle(held, error, attempt, retry_in)

    async def _settle(self, held: HeldDelivery, error: BaseException, attempt: int, retry_in: float | None) -> None:
        if retry_in is None:
            await self.bury(held, error)
            return
        if held.failed == attempt:  # it was counted: the next delivery removes the note with the counters
            try:
                await self._attempts.note(held, attempt, self._reason(error), retry_in)
            except BackendError as failure:
                self.report_failure(held.delivery.topic, failure)
        await self.release(held, retry_in)
        self.counts.retried += 1

    async def postponed(self, job: Job, again: Again) -> None:
        """Run the call again after the delay that its handler asked for, or on another topic.

        Raises:
            WaitTooLongError: The delay is longer than half of the store's `ttl`.
            CapabilityError: The queue cannot delay, and the delay is longer than a lease.
        """
        check_wait(f"the delay of `Again` in {job.call.task_name!r}", again.after, self._operations.expires_after)
        lease = self._operations.queue.lease
        if not self._operations.delays and again.after > lease:
            raise CapabilityError(
                f"the handler {job.call.task_name!r} asked to run again after {again.after:g} s, but its queue cannot "
                "delay messages",
                remedy=f"Use at most one lease, {lease:g} s, or a queue with delays.",
            )
        if self._hooks.wants(CallPostponed):
            call = job.call
            reason = again.reason if isinstance(again, NotHere) else ""
            self._hooks.emit(CallPostponed(job.topic, job.root_id, call.call_hash, call.task_name, again.after, reason))
        await self.put_again(job.held, again.after, topic=again.topic if isinstance(again, NotHere) else None)
        self.counts.postponed += 1

    async def put_again(self, held: HeldDelivery, delay: float, *, topic: str | None = None) -> None:
        """Put the message again with a delay, on its topic unless another is given, and acknowledge this delivery.

        The wait counts neither as a failed attempt nor as a delivery.
        """
        await self.reset_counters(held, failures=False)
        delay = await self._delay_in_queue(delay)
        await self._operations.put([Put(topic or held.delivery.topic, held.delivery.body, delay)])
        await self._operations.ack([held.delivery])

    async def reset_counters(self, held: HeldDelivery, *, failures: bool = True) -> None:
        """Reset the counters of the message. If that fails, its next messages have fewer attempts left."""
        try:
            await self._attempts.reset(held, failures=failures)
        except BackendError as error:
            self.report_failure(held.delivery.topic, error)

    async def release(self, held: HeldDelivery, delay: float) -> None:
        """Release the delivery, ready again after `delay` seconds."""
        await self._operations.queue.release([held.delivery], delay=await self._delay_in_queue(delay))

    async def release_interrupted(self, held: HeldDelivery) -> None:
        """Release a delivery that a backend failure interrupted, for a retry later. It is not a failed attempt.

        Raises:
            Exception: A backend failed; the delivery is still leased, or its lease brings it back.
        """
        await self._attempts.count_releases([held])
        await self.release(held, self._policy.retry_delay(held.delivery.attempt))

    async def _delay_in_queue(self, delay: float) -> float:
        """Return the delay to give to the queue. If the queue cannot delay, wait here instead, under the lease."""
        if self._operations.delays:
            return delay
        await asyncio.sleep(delay)
        return 0

    async def _strand(self, held: HeldDelivery, error: BaseException, reason: str) -> None:
        """Prepare a later schedule: a call whose message is dead-lettered, and its parents, must not stay marked.

        Raises:
            BackendError: A backend failed. If the message is dead-lettered because it was delivered too often, perhaps
                because of such failures, this lasts only for the policy's `unavailable_timeout`.
        """
        delivery, scheduler = held.delivery, self._services.scheduler
        topic, over_limit = delivery.topic, isinstance(error, SpawnLimitError)
        try:
            root_id, call_hash = decode_message(delivery.body)
            _, root_id = split_timer(root_id)
            entry = PendingReturn(root_id, call_hash, topic)
            if over_limit:  # a worker that died, or another delivery of the call, may have removed some marks only
                await self._services.reassigner.reassign(entry, again=True)
            buried = Buried(call_hash, topic, delivery.attempt, int(self._operations.clock()), reason)
            await scheduler.strand(entry, buried, alone=over_limit)
        except MalformedRecordError:
            pass  # it names no call, or its parents cannot be read
        except BackendError as failure:
            tried = asyncio.get_running_loop().time() - held.received
            away = isinstance(failure, BackendUnavailableError) and tried < self._policy.unavailable_timeout
            if away or not isinstance(error, BuriedError):
                raise
            self.report_failure(topic, failure)

    async def bury(self, held: HeldDelivery, error: BaseException, *, final: bool = False) -> None:
        """Dead-letter the message because of `error`."""
        delivery, reason = held.delivery, self._reason(error)
        if not final:
            await self._strand(held, error, reason)
        await self.reset_counters(held)
        await self._operations.queue.bury(delivery, reason)
        self.counts.failed += 1
        if self._hooks.wants(CallBuried):
            self._hooks.emit(CallBuried(delivery.topic, delivery.body, delivery.attempt, reason, error, final))
