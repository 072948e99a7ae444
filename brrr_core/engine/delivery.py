"""Handle one delivery: read the records of its call, then run, finish or drop it.

Each step is one batch. A worker acknowledges a message only after it has written all results of the delivery, so a
crash between two steps only repeats work. `docs/explanation/engine.md` describes the steps.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Key, Kind
from brrr_core.backend.steps import split_message
from brrr_core.engine.attempts import Attempts
from brrr_core.engine.calls import Child, HandOver, HeldDelivery, Job
from brrr_core.engine.control import NOTHING_SEEN, READINGS, Seen
from brrr_core.engine.local_cache import PreviousRun
from brrr_core.engine.parking import Parking
from brrr_core.engine.roots import TIMER, split_timer
from brrr_core.engine.running import RunHandler, Runner
from brrr_core.engine.services import Services
from brrr_core.engine.turns import current_task
from brrr_core.errors import BackendError, BuriedError, MalformedRecordError, RecordMissingError
from brrr_core.wire import (
    PendingReturns,
    ScheduleMessage,
    decode_call,
    decode_message,
    decode_pending,
    decode_state,
)

__all__ = ["DeliveryHandler"]

_KINDS: Final[Sequence[Kind]] = [reading.kind for reading in READINGS]


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
    """Handles the deliveries of one worker, many at the same time.

    Attributes:
        runner: Runs the calls.
    """

    def __init__(self, services: Services, run_handler: RunHandler, parking: Parking, hand_over: HandOver) -> None:
        self._services = services
        self._operations = services.operations
        self._policy = services.policy
        self._control = services.control
        self._parking = parking
        self._attempts = Attempts(services.operations)
        self.runner = Runner(services, run_handler, self._attempts, parking, hand_over)
        self._settler = self.runner.settler
        self._turns = self.runner.turns
        self._reads_pending = services.operations.has_steps or services.silence.stale_after is not None

    def report_failure(self, topic: str, error: BaseException) -> None:
        """Report that a backend failed."""
        self._settler.report_failure(topic, error)

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
            if held.delivery.attempt > 1:
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

    def _never_finished(self, held: HeldDelivery) -> BuriedError:
        what = (
            f"the message was delivered {held.delivery.attempt} times and never finished: its handler raised "
            f"{held.failed} times, and the other deliveries ended because a worker stopped, died, lost the lease or "
            "lost a backend"
        )
        if self._settler.last_failure:
            what += f"; the last backend failure that this worker saw was {self._settler.last_failure}"
        return BuriedError(what, remedy="Fix the cause, then redrive it.")

    async def _handle_in_turn(self, held: HeldDelivery, message: ScheduleMessage, due: float) -> None:
        """Handle the messages of one call one by one, so that the call runs once and wakes its parents once."""
        call_hash, task = message.call_hash, current_task()
        if self._turns.task_of(call_hash) is not None:
            await self._turns.wait(call_hash)
            held.records = None
        self._turns.begin(call_hash, task)
        try:
            while not await self._read_and_run(held, message, due):
                pass  # someone cancelled the call during the run
        finally:
            self._turns.end(call_hash, task)

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
            await self.runner.deferrer.drop(held, message, due)
            return True
        if record is None:
            raise RecordMissingError(
                f"the message names the call {call_hash}, and the store has no record of it",
                remedy="Check that all workers of the topic share one store, that it evicts nothing, "
                "and that its `ttl` is longer than the workflow. Then schedule the workflow again with redrive=True.",
            )
        job = Job(held, message.root_id, decode_call(call_hash, record), due)
        if self._services.silence.stale_after is not None:
            self._tell_if_stale(job)
        if seen.state.cancel:
            previous = None  # it may be a run that did not get `Cancelled`
        if previous is not None and absent and not await self.runner.deferrer.defer(job, absent, previous, new=False):
            return True
        parked = self._parking.find(message.root_id, call_hash)
        if parked is not None:
            if not due and self.runner.resume(parked, held, seen):
                return True
            self._parking.abort(parked)
            await asyncio.wait({parked.task})
        return await self.runner.run_until_settled(job, previous, seen)

    def _tell_if_stale(self, job: Job) -> None:
        silence = self._services.silence
        try:
            pending = PendingReturns() if job.held.pending is None else decode_pending(job.held.pending)
        except MalformedRecordError:
            return  # the run fails because of it, and says so
        left = silence.stale_in(pending)
        if left is not None and left <= 0:
            silence.report_stale(job.topic, job.root_id, job.call.call_hash, job.call.task_name, pending)

    def resume_at_once(self, held: HeldDelivery) -> bool:
        """Let a parked run continue, if this is its wake-up and all that it needs is known. False if not."""
        if held.records is None or not self._parking.used:
            return False
        parts = split_message(held.delivery.body)
        parked = None if parts is None else self._parking.find(*parts)
        if parts is None or parked is None or self._control.due != self._control.in_use:
            return False
        root_id, call_hash = parts
        value, record, held.pending, *found = held.records
        if (
            value is not None
            or record is None
            or self._turns.task_of(call_hash) is not None
            or len(found) != 2 * self._control.in_use
        ):
            return False
        state, cancelled = found or (None, None)
        known = self._services.cache.get
        if cancelled is not None or any(known(child.call.call_hash) is None for child in parked.run.missing.values()):
            return False
        previous = self._services.history.take(root_id, call_hash)
        if previous is not None:
            held.failed = previous.failed
        if self.runner.resume(parked, held, Seen(decode_state(state))):
            return True
        if previous is not None:
            self._services.history.add(root_id, call_hash, previous)
        return False

    async def _look(
        self, held: HeldDelivery, message: ScheduleMessage, due: float, previous: PreviousRun | None
    ) -> _Look:
        """Read the records of a call in one batch, unless they came with the message."""
        looking = self._control.look() if self._control.due else None
        control_keys = self._control.keys(*message) if self._control.in_use else ()
        given, held.records = held.records, None
        absent: list[Child] = []
        if given is None:
            kinds = _KINDS if self._reads_pending else _KINDS[:2]
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
        if self._reads_pending:
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
