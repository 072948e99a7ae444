"""Start calls for clients: put the first message of a schedule, unless the call is on a queue already.

If the backend offers steps, a call without records is started in one step. In all other cases the order is that of
`scheduling.py`: write the call record, put the message, mark the pending record. If a client dies between two of these,
the call has no mark, and the next schedule puts it again (invariant I1).
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Final, Literal, NamedTuple, TypeAlias

from brrr_core.backend.contracts import Key, Kind, Swap
from brrr_core.backend.steps import Count, Message, Step
from brrr_core.engine.batching import Batcher, retrieve_error
from brrr_core.engine.operations import Commit, Operations, Put
from brrr_core.engine.returning import Returner
from brrr_core.engine.roots import SpawnBudget, new_root_id
from brrr_core.engine.stranding import forget, is_stranded, revived
from brrr_core.errors import BrrrError, MalformedRecordError
from brrr_core.wire import (
    FAILURE_PREFIX,
    Call,
    PendingReturns,
    ScheduleMessage,
    decode_pending,
    encode_call,
    encode_message,
    encode_pending,
)

__all__ = ["ScheduleState", "Scheduled", "StartRequest", "Starter", "in_force"]

ScheduleState: TypeAlias = Literal["put", "scheduled", "done", "failed"]
"""The result of a schedule: a message was put, or the call was scheduled before, has a value, or failed for good."""


FEW_STARTS: Final = 8
"""The most calls of a batch that are started in a step each. The operations of more calls take less CPU in batches."""

_ABSENT: Final = PendingReturns()
_READ: Final[tuple[Kind, ...]] = ("value", "pending_returns")


class Scheduled(NamedTuple):
    """The result of `schedule`.

    Attributes:
        call_hash: The identity of the call.
        root_id: The root id of the schedule; None if nothing was put.
        topic: The topic of the call.
        state: `put` if a message was put. `scheduled` if one was put before, by this or another program. `done` if the
            call has a value, and `failed` if it failed for good.
        since: The time at which a call in the state `scheduled` was last put, in unix seconds; else None.
        was_dead_lettered: Whether a message was put because the call, or one that it waits for, had been dead-lettered.
    """

    call_hash: str
    root_id: str | None
    topic: str
    state: ScheduleState = "put"
    since: int | None = None
    was_dead_lettered: bool = False


def is_recent(scheduled_at: int | None, resend_after: float | None, now: float) -> bool:
    """Whether a mark proves that the message of the call still exists. A mark far in the future is wrong, and does not.

    Args:
        scheduled_at: The mark.
        resend_after: The setting of the policy; None if every mark counts.
        now: The present time, in unix seconds.
    """
    return scheduled_at is not None and (resend_after is None or abs(now - scheduled_at) < resend_after)


def in_force(call_hash: str, record: bytes | None, resend_after: float | None, now: float) -> PendingReturns:
    """Return the pending record of a call, without a mark that is so old that the message may be lost."""
    pending = _ABSENT if record is None else decode_pending(record)
    if pending.scheduled_at is None or is_recent(pending.scheduled_at, resend_after, now):
        return pending
    return PendingReturns(revived(pending, call_hash))


class StartRequest(NamedTuple):
    """A call to put on a topic. `Connection.schedule` describes the fields."""

    call: Call
    topic: str
    delay: float = 0
    redrive: bool = False
    spawn_limit: int | None = None


class _Start(NamedTuple):
    """A request that needs a message, the pending record of its call, and its root."""

    request: StartRequest
    record: bytes | None
    pending: PendingReturns
    root_id: str

    @property
    def key(self) -> Key:
        return Key("pending_returns", self.request.call.call_hash)

    @property
    def stranded(self) -> bool:
        return self.record is not None and is_stranded(self.pending, self.request.call.call_hash)

    @property
    def message(self) -> Put:
        body = encode_message(ScheduleMessage(self.root_id, self.request.call.call_hash))
        return Put(self.request.topic, body, self.request.delay)

    @property
    def result(self) -> Scheduled:
        call, topic, *_ = self.request
        return Scheduled(call.call_hash, self.root_id, topic, was_dead_lettered=self.stranded)


class Starter:
    """Starts the calls of all clients of a connection, in batches. A batch puts each call at most once."""

    def __init__(
        self, operations: Operations, budget: SpawnBudget, returner: Returner, resend_after: float | None
    ) -> None:
        self._operations = operations
        self._budget = budget
        self._returner = returner
        self._resend_after = resend_after
        self._created = Batcher[str, None](partial(self._clear_ended, created=True))
        self._left = Batcher[str, None](self._clear_ended)
        self._requests = Batcher[StartRequest, Scheduled | BrrrError](self._start_batch)

    async def start(self, request: StartRequest) -> Scheduled:
        """Put a call on a topic, unless it has an outcome or was put recently.

        Raises:
            SpawnLimitError: The schedule may not cause a single message.
            MalformedRecordError: The pending record of the call is not valid.
        """
        (result,) = await self._requests.submit((request,))
        if isinstance(result, BrrrError):
            raise result
        return result

    async def close(self) -> None:
        """Wait until all requests are done."""
        await self._requests.close()
        await self._created.close()
        await self._left.close()

    async def _start_batch(self, requests: Sequence[StartRequest]) -> list[Scheduled | BrrrError]:
        results: dict[int, Scheduled | BrrrError] = {}
        left = dict(enumerate(requests))
        while left:  # more than once if a call is requested twice: the second schedule finds the mark of the first
            turn = {request.call.call_hash: number for number, request in reversed(left.items())}
            results.update(await self._start_each({number: left.pop(number) for number in turn.values()}))
        return [results[number] for number in range(len(requests))]

    async def _start_each(self, requests: Mapping[int, StartRequest]) -> dict[int, Scheduled | BrrrError]:
        """Start different calls."""
        results: dict[int, Scheduled | BrrrError] = {}
        if self._operations.has_steps and len(requests) <= FEW_STARTS:
            results.update(await self._start_new(requests))
            requests = {number: request for number, request in requests.items() if number not in results}
            if not requests:
                return results
        starts: dict[int, _Start] = {}
        left: list[str] = []
        created: list[str] = []
        keys = [Key(kind, each.call.call_hash) for each in requests.values() for kind in _READ]
        records = iter(await self._operations.read(keys))
        for (number, request), value, record in zip(requests.items(), records, records, strict=True):
            try:
                found = self._look(request, value, record)
            except MalformedRecordError as error:
                results[number] = error
                continue
            if isinstance(found, Scheduled):
                results[number] = found
                if value is not None and record is not None:
                    left.append(found.call_hash)
            else:
                starts[number] = found
        calls = [start.request.call for start in starts.values()]
        affordable, _ = await asyncio.gather(
            self._budget.open_all([start.root_id for start in starts.values()]),
            self._operations.write([(Key("call", call.call_hash), encode_call(call)) for call in calls]),
        )
        for (number, start), can in zip(list(starts.items()), affordable, strict=True):
            if not can:
                results[number] = self._budget.exceeded(start.root_id)
                del starts[number]
        await self._operations.put([start.message for start in starts.values()])
        # If a swap is lost, another program has marked the call, removed its mark, or finished it.
        marks = list(filter(None, map(self._mark, starts.values())))
        for mark, done in zip(marks, await self._operations.swap(marks), strict=True):
            if done and mark.expected is None:
                created.append(mark.key.call_hash)  # perhaps it ended before
        self._clear_later(created, left)
        if stranded := [start.key.call_hash for start in starts.values() if start.stranded]:
            await forget(self._operations, stranded)
        results.update((number, start.result) for number, start in starts.items())
        return results

    def _clear_later(self, created: Sequence[str], left: Sequence[str]) -> None:
        """Clear records in the background, if there are any: those just created, and those left by ended calls."""
        for batcher, names in ((self._created, created), (self._left, left)):
            if names:
                batcher.submit(names).add_done_callback(retrieve_error)

    async def _clear_ended(self, call_hashes: Sequence[str], *, created: bool = False) -> list[None]:
        """Clear the records of calls that have ended. Nothing waits for it, and the next schedule repeats it."""
        await self._returner.clear_ended(call_hashes, created=created)
        return [None] * len(call_hashes)

    async def _start_new(self, requests: Mapping[int, StartRequest]) -> dict[int, Scheduled]:
        """Start the calls that have neither a value nor a pending record, each in one step. Return their results."""
        starts = {
            number: _Start(each, None, _ABSENT, self._new_root(each))
            for number, each in requests.items()
            if not each.redrive  # it has records
        }
        counts = self._budget.opening([start.root_id for start in starts.values()])
        steps = {
            number: Commit(self._step(start, count))
            for (number, start), count in zip(starts.items(), counts, strict=True)
            if count is not None
        }
        applied = zip(steps, await self._operations.commit(list(steps.values())), strict=True)
        return {number: starts[number].result for number, done in applied if done}

    def _step(self, start: _Start, count: Count) -> Step:
        """Return the step that starts a call without records."""
        topic, body, delay = start.message
        call, mark = start.request.call, self._mark(start)
        return Step(
            expected=((Key("value", call.call_hash), None), (start.key, None)),
            counts=(count,),
            writes=((Key("call", call.call_hash), encode_call(call)),),
            messages=(Message(topic, body, delay),),
            marks=() if mark is None else ((mark.key, mark.new),),
        )

    def _look(self, request: StartRequest, value: bytes | None, record: bytes | None) -> "Scheduled | _Start":
        """Return the result of a request, or the message to put."""
        call_hash, topic = request.call.call_hash, request.topic
        if value is not None:
            return Scheduled(call_hash, None, topic, "failed" if value.startswith(FAILURE_PREFIX) else "done")
        pending = _ABSENT if record is None else decode_pending(record)
        if not request.redrive and is_recent(pending.scheduled_at, self._resend_after, self._operations.clock()):
            return Scheduled(call_hash, None, topic, "scheduled", pending.scheduled_at)
        return _Start(request, record, pending, self._new_root(request))

    def _new_root(self, request: StartRequest) -> str:
        redriven_at = int(self._operations.clock()) if request.redrive else None
        return new_root_id(request.call.call_hash, redriven_at=redriven_at, spawn_limit=request.spawn_limit)

    def _mark(self, start: _Start) -> Swap | None:
        """Return the swap that marks a call; None if its record stays as it is."""
        at = None if start.request.delay or self._resend_after is None else int(self._operations.clock())
        if start.record is None:
            return None if at is None else Swap(start.key, None, _first_mark(at))
        if at is None and not start.stranded:
            return None
        pending = start.pending
        returns = revived(pending, start.key.call_hash) if pending.scheduled_at is None else pending.returns
        return Swap(start.key, start.record, encode_pending(PendingReturns(returns, at)))


@lru_cache(maxsize=1)
def _first_mark(at: int) -> bytes:
    """Return the pending record of a call without parents."""
    return encode_pending(PendingReturns((), at))
