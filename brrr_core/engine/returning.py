"""Write values and wake the parents that wait for them.

The order of a delivery is: write the value, put the wake-ups, delete the pending record, acknowledge the delivery.
After a crash between two steps the message is delivered again and repeats the rest. At worst, a parent wakes twice.

If a call cannot return for its root, because that root is cancelled or over its spawn limit, reassign it to another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Delivery, Key, Kind, Swap
from brrr_core.backend.steps import Message, Received, Step
from brrr_core.engine.batching import Batcher
from brrr_core.engine.calls import HandOver, HeldDelivery, Outdated
from brrr_core.engine.control import Guard, cancelled_key
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import STEP_LIMIT, Commit, Operations, Put
from brrr_core.engine.roots import (
    DROPPED,
    RETRIED,
    SETTLING,
    SpawnBudget,
    dropped_root_id,
    settling_root_id,
    split_dropped,
    timer_root_id,
)
from brrr_core.engine.stranding import forget, is_stranded
from brrr_core.errors import BrrrError, MalformedRecordError
from brrr_core.wire import (
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_pending,
    decode_state,
    encode_message,
    encode_pending,
)

__all__ = ["Completion", "Reassigner", "Returner", "drops"]

GUARD_DELAY: Final = 30.0
"""Seconds after which a parent wakes by itself if the client that settled its call died."""

REASSIGN_LIMIT: Final = 10_000
"""The most calls that one call reassigns to other roots. It bounds the work for an endless recursion."""

DROPS_LIMIT: Final = 64
"""The most notes of dropped messages in one record. The oldest ones go."""

_NO_PARENTS: Final = PendingReturns()


@dataclass(slots=True)
class Completion:
    """A call with a value, and the delivery to acknowledge for it.

    Attributes:
        delivery: The delivery.
        call_hash: The call.
        payload: Its value or failure; None if the store has one already.
        acknowledge: Whether to acknowledge the delivery. If not, `Settler` dead-letters it.
        held: The delivery with the pending record that was read with it, which may have changed; None if none was read.
        hand_over: Takes over the wake-up of a parent, if possible.
        guard: The guard of the run that returned or failed, if any.
        first: Whether `payload` became the value. Otherwise the call already had one.
        scheduled_at: The mark of the call, in unix seconds; None if it has none.
        error: The reason why the delivery was not acknowledged.
    """

    delivery: Delivery
    call_hash: str
    payload: bytes | None = None
    acknowledge: bool = True
    held: HeldDelivery | None = None
    hand_over: HandOver | None = None
    guard: Guard | None = None
    first: bool = False
    scheduled_at: int | None = None
    error: BrrrError | Outdated | None = None


class Settled(NamedTuple):
    """The result of settling a call by hand.

    Attributes:
        first: Whether its payload became the outcome.
        over_limit: The parents whose roots are over their spawn limits. They stay registered, and were not woken.
    """

    first: bool
    over_limit: Sequence[PendingReturn]


@dataclass(slots=True)
class _Waiting:
    """The mark of one call, the parents that wait for it, and those of them that were woken."""

    key: Key
    woken: set[PendingReturn] = field(default_factory=set[PendingReturn])
    over_limit: list[PendingReturn] = field(default_factory=list[PendingReturn])
    scheduled_at: int | None = None
    error: BrrrError | None = None

    def to_wake(self, pending: PendingReturns) -> list[PendingReturn]:
        """Return the parents to wake. A return of the call to itself is the mark of a redrive, and wakes nothing."""
        return [e for e in pending.returns if e not in self.woken and e.call_hash != self.key.call_hash]

    def remaining_record(self, pending: PendingReturns) -> bytes | None:
        """Return the record without the woken parents; None if nothing is left."""
        return encode_pending(PendingReturns(tuple(self.over_limit), pending.scheduled_at)) if self.over_limit else None


class Returner:
    """Completes the calls of all handlers of a connection, in batches."""

    def __init__(self, operations: Operations, budget: SpawnBudget, cache: ValueCache) -> None:
        self._operations = operations
        self._budget = budget
        self._cache = cache
        self._completions = Batcher[Completion, None](self._complete)

    async def complete(self, completion: Completion) -> None:
        """Write the value (the first writer wins), wake each waiting parent, and acknowledge the delivery.

        Raises:
            SpawnLimitError: The root of a parent is over its limit. That parent stays registered, the others wake.
            MalformedRecordError: The pending record is not valid.
            Outdated: The guard does not allow it. Nothing was done.
        """
        if await self._complete_in_one_step(completion):
            return
        await self._completions.submit((completion,))
        if completion.error is not None:
            raise completion.error

    async def _complete_in_one_step(self, completion: Completion) -> bool:
        """Complete the call in one step, if the records are as they were read. False if not: nothing was done."""
        call_hash, payload, held = completion.call_hash, completion.payload, completion.held
        if payload is None or held is None or not completion.acknowledge or not self._operations.has_steps:
            return False
        record, hand_over = held.pending, completion.hand_over
        try:
            pending = _NO_PARENTS if record is None else decode_pending(record)
        except MalformedRecordError:
            return False
        completion.scheduled_at = pending.scheduled_at
        key = Key("pending_returns", call_hash)
        parents = [parent for parent in pending.returns if parent.call_hash != call_hash]  # as `_Waiting.to_wake`
        if len(parents) > STEP_LIMIT or is_stranded(pending, call_hash):
            return False
        value, leased = Key("value", call_hash), None
        if hand_over is not None and parents:
            leased = next((parent for parent in parents if hand_over.wants(parent.topic, held)), None)

        def on_applied(received: Sequence[Received]) -> None:
            # The value is in the cache before a parent that was woken needs it.
            self._note_first(completion, payload)
            if hand_over is not None and received:
                hand_over.take(held, received)

        guard = completion.guard
        step = Step(
            expected=((value, None), (key, record), *(() if guard is None else ((guard.key, guard.record),))),
            counts=self._budget.counts([parent.root_id for parent in parents]) if parents else (),
            writes=((value, payload),),
            messages=[_wake_up(parent, leased=parent is leased) for parent in parents] if parents else (),
            marks=() if record is None else ((key, None),),
            acks=(completion.delivery,),
        )
        (applied,) = await self._operations.commit([Commit(step, on_applied)])
        return applied

    def _note_first(self, completion: Completion, payload: bytes) -> None:
        completion.first = True
        self._cache.add(completion.call_hash, payload)

    async def settle(self, call_hash: str, payload: bytes) -> Settled:
        """Settle a call for a client, which has no delivery that would be repeated after a crash.

        The order is: mark the pending record, put a guard for each parent in it, write the value, wake the parents. A
        guard is a wake-up after `GUARD_DELAY` seconds. A parent that finds the mark does not rely on a wake-up. So a
        client may die between two steps, and settling again completes it.

        Args:
            call_hash: The call.
            payload: Its value or failure.

        Returns:
            What was done. If the call had an outcome already, its parents are woken again.

        Raises:
            MalformedRecordError: The pending record is not valid.
        """
        key, first = Key("pending_returns", call_hash), False
        mark = PendingReturn(settling_root_id(self._operations.clock()), call_hash, "")
        while True:
            value, record = await self._operations.read([Key("value", call_hash), key])
            if value is not None:
                break
            pending = PendingReturns() if record is None else decode_pending(record)
            marked = PendingReturns(tuple(sorted({*pending.returns, mark})), pending.scheduled_at)
            if (await self._operations.swap([Swap(key, record, encode_pending(marked))]))[0]:
                guarded, delay = _Waiting(key), GUARD_DELAY if self._operations.delays else 0
                await self._put([(guarded, parent) for parent in guarded.to_wake(pending)], delay=delay)
                (first,) = await self._operations.swap([Swap(Key("value", call_hash), None, payload)])
                break
        waiting = _Waiting(key)
        await self._wake([waiting])
        if waiting.error is not None and not waiting.over_limit:
            raise waiting.error
        return Settled(first, waiting.over_limit)

    async def clear(self, late: Mapping[str, Iterable[PendingReturn]]) -> None:
        """Delete the pending records of calls that have outcomes, and wake their parents first.

        Such a record was created after its call had ended, so the call does not delete it.

        Args:
            late: The calls, each with the parents that know of its outcome and need no wake-up.
        """
        await self._wake([_Waiting(Key("pending_returns", name), set(known)) for name, known in late.items()])

    async def clear_ended(self, call_hashes: Sequence[str], *, created: bool = False) -> None:
        """Clear those of the calls that have outcomes and pending records all the same.

        Args:
            call_hashes: The calls.
            created: Whether the records were just created, so that few of the calls have outcomes.
        """
        kinds: Sequence[Kind] = ("value",) if created else ("pending_returns", "value")
        for kind in kinds:
            records = await self._operations.read([Key(kind, name) for name in call_hashes])
            call_hashes = [name for name, record in zip(call_hashes, records, strict=True) if record is not None]
        await self.clear(dict.fromkeys(call_hashes, ()))

    async def close(self) -> None:
        """Wait until all completions are done."""
        await self._completions.close()

    async def _complete(self, completions: Sequence[Completion]) -> list[None]:
        results = [None] * len(completions)
        if any(completion.guard is not None for completion in completions):
            await self._check_guards(completions)
            completions = [completion for completion in completions if completion.error is None]
        await self._write([completion for completion in completions if completion.payload is not None])
        waiting = {c.call_hash: _Waiting(Key("pending_returns", c.call_hash)) for c in completions}
        await self._wake(list(waiting.values()))
        done: list[Delivery] = []
        for completion in completions:
            completion.scheduled_at = waiting[completion.call_hash].scheduled_at
            completion.error = waiting[completion.call_hash].error
            if completion.error is None and completion.acknowledge:
                done.append(completion.delivery)
        await self._operations.ack(done)
        return results

    async def _check_guards(self, completions: Sequence[Completion]) -> None:
        guarded = [(completion, guard) for completion in completions if (guard := completion.guard) is not None]
        records = await self._operations.read([guard.key for _, guard in guarded])
        for (completion, guard), record in zip(guarded, records, strict=True):
            if not guard.allows(decode_state(record)):
                completion.error = Outdated()

    async def _write(self, completions: Sequence[Completion]) -> None:
        swaps = [Swap(Key("value", c.call_hash), None, c.payload) for c in completions]
        for completion, first in zip(completions, await self._operations.swap(swaps), strict=True):
            if first and completion.payload is not None:
                self._note_first(completion, completion.payload)

    async def _wake(self, unsettled: list[_Waiting]) -> None:
        """Put a wake-up for each parent, and compare-and-delete the records. Repeat for records that changed."""
        stranded: list[str] = []
        while unsettled:
            records = await self._operations.read([waiting.key for waiting in unsettled])
            found: list[tuple[_Waiting, bytes, PendingReturns]] = []
            for waiting, record in zip(unsettled, records, strict=True):
                waiting.over_limit.clear()
                if record is not None:
                    try:
                        found.append((waiting, record, decode_pending(record)))
                        waiting.scheduled_at = found[-1][2].scheduled_at
                    except MalformedRecordError as error:
                        waiting.error = error
            await self._put([(waiting, entry) for waiting, _, pending in found for entry in waiting.to_wake(pending)])
            swaps = [Swap(waiting.key, record, waiting.remaining_record(pending)) for waiting, record, pending in found]
            unsettled = []
            for (waiting, _, pending), removed in zip(found, await self._operations.swap(swaps), strict=True):
                if removed and is_stranded(pending, waiting.key.call_hash):
                    stranded.append(waiting.key.call_hash)
                if not removed:
                    unsettled.append(waiting)
                elif waiting.over_limit:
                    waiting.error = self._budget.exceeded(waiting.over_limit[0].root_id)
        if stranded:
            await forget(self._operations, stranded)

    async def _put(self, entries: Sequence[tuple[_Waiting, PendingReturn]], *, delay: float = 0) -> None:
        charged = await self._budget.charge([entry.root_id for _, entry in entries])
        puts: list[Put] = []
        for (waiting, entry), affordable in zip(entries, charged, strict=True):
            if affordable:
                waiting.woken.add(entry)
                puts.append(Put(entry.topic, encode_message(ScheduleMessage(entry.root_id, entry.call_hash)), delay))
            else:
                waiting.over_limit.append(entry)
        await self._operations.put(puts)


def _wake_up(parent: PendingReturn, *, leased: bool) -> Message:
    body = encode_message(ScheduleMessage(parent.root_id, parent.call_hash))
    return Message(parent.topic, body, leased=leased)


def drops(pending: PendingReturns, call_hash: str) -> dict[str, PendingReturn]:
    """Return the notes of dropped messages of a call by their schedules, the oldest first."""
    found = [e for e in pending.returns if e.call_hash == call_hash and e.root_id.startswith(DROPPED)]
    found.sort(key=lambda note: split_dropped(note.root_id))
    return {split_dropped(note.root_id)[1]: note for note in found}


class Reassigner:
    """Reassigns calls through one connection."""

    def __init__(self, operations: Operations, budget: SpawnBudget, returner: Returner) -> None:
        self._operations = operations
        self._budget = budget
        self._returner = returner

    async def reassign(self, entry: PendingReturn, *, again: bool, cancelled: bool = False, due: float = 0) -> None:
        """Reassign a call to another root, because its own root is cancelled or over its spawn limit.

        If another root waits for the call, put it again for that root. If not, remove the mark of its record, so that
        the next root that requests the call puts it. The parents of the call cannot continue either, so reassign them
        in the same way.

        A worker that put a call for a root, and has not marked it yet, must no longer mark it. So note in its record
        that a root over its limit gave it up, or that a message of a cancelled root was dropped.

        Args:
            entry: The call, its root and its topic.
            again: Whether this may have begun before. If so, continue at calls that no longer have a mark.
            cancelled: Whether its root is cancelled. Then other cancelled roots do not get it either.
            due: The due time, if the message of its own root was a timer.
        """
        left, seen, first = [entry], {entry.call_hash}, entry
        over: set[str] = {entry.root_id} if cancelled else set()
        while left and len(seen) <= REASSIGN_LIMIT:
            entry = left.pop()
            own = entry is first
            go_on = again or own
            due = due if own else 0
            parents = await self._reassign_one(entry, over, own=own, go_on=go_on, cancelled=cancelled, due=due)
            left.extend(parent for parent in parents if parent.call_hash not in seen)
            seen.update(parent.call_hash for parent in parents)

    async def _reassign_one(
        self, entry: PendingReturn, over: set[str], *, own: bool, go_on: bool, cancelled: bool, due: float
    ) -> Sequence[PendingReturn]:
        """Reassign one call. Return its parents if no other root can run it."""
        key = Key("pending_returns", entry.call_hash)
        while True:
            record, value = await self._operations.read([key, Key("value", entry.call_hash)])
            if value is not None and not (own and record):
                return ()  # it ended for another root, and wakes its parents
            pending = PendingReturns() if record is None else decode_pending(record)
            roots = dict.fromkeys(waiting.root_id for waiting in pending.returns)
            others = [
                root_id
                for root_id in roots
                if root_id not in over and not root_id.startswith((RETRIED, SETTLING, DROPPED))
            ]
            if over and others:
                found = await self._operations.read([cancelled_key(other) for other in others])
                over.update(other for other, note in zip(others, found, strict=True) if note is not None)
            for other in others:
                if other in over:
                    continue
                (affordable,) = await self._budget.charge([other])
                if affordable:
                    message = ScheduleMessage(timer_root_id(other, due) if due else other, entry.call_hash)
                    await self._operations.put([Put(entry.topic, encode_message(message))])
                    return ()
                over.add(other)
            returns = self._with_drop(pending, entry) if cancelled else {*pending.returns, entry}
            after = PendingReturns(tuple(sorted(returns)))
            if after != pending:
                (done,) = await self._operations.swap([Swap(key, record, encode_pending(after))])
                if not done:
                    continue
                if record is None:  # perhaps it has ended
                    await self._returner.clear_ended([entry.call_hash], created=True)
            return pending.returns if go_on or pending.scheduled_at is not None else ()

    def _with_drop(self, pending: PendingReturns, entry: PendingReturn) -> set[PendingReturn]:
        """Return the returns of a record, and a note that a message of its call was dropped. Each note is a new one."""
        notes, returns = drops(pending, entry.call_hash), set(pending.returns)
        returns.difference_update(notes.values())
        at = int(self._operations.clock() * 1000)
        if (earlier := notes.pop(entry.root_id, None)) is not None:
            at = max(at, split_dropped(earlier.root_id)[0] + 1)
        returns.update(list(notes.values())[1 - DROPS_LIMIT :])
        return returns | {entry._replace(root_id=dropped_root_id(entry.root_id, at))}
