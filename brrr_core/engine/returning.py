"""Writes values and wakes those who wait for them (DESIGN.md section 4, step 3).

The value first, then the wake-ups, then the record of them is removed, then the delivery is acknowledged: a crash
between any two leaves a message that does the rest again, and parents that are woken once too often at worst.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from brrr_core.backend.contracts import Delivery, Key, Swap
from brrr_core.engine.batching import Batcher
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.spawn_limit import SpawnBudget
from brrr_core.errors import BrrrError, MalformedRecordError
from brrr_core.wire import (
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_pending,
    encode_message,
    encode_pending,
)

__all__ = ["Completion", "Returner"]


@dataclass(slots=True)
class Completion:
    """A call that has a value, and the delivery that is done with it.

    Attributes:
        delivery: What is acknowledged at the end.
        call_hash: The call.
        payload: Its value, or None where the store has it already.
        first: Whether `payload` became the value; if not, another one was there before.
        error: Why the delivery was not acknowledged.
    """

    delivery: Delivery
    call_hash: str
    payload: bytes | None = None
    first: bool = False
    error: BrrrError | None = None


@dataclass(slots=True)
class _Waiting:
    """Who waits for one call, and who of them was woken."""

    key: Key
    woken: set[PendingReturn] = field(default_factory=set[PendingReturn])
    over: list[PendingReturn] = field(default_factory=list[PendingReturn])
    error: BrrrError | None = None

    def fresh(self, pending: PendingReturns) -> list[PendingReturn]:
        """The returns to wake: a call's return to itself is the mark of a redrive."""
        return [e for e in pending.returns if e not in self.woken and e.call_hash != self.key.call_hash]

    def rest(self, pending: PendingReturns) -> bytes | None:
        """What must stay in the record: the returns that could not be woken."""
        return encode_pending(PendingReturns(tuple(self.over), pending.scheduled_at)) if self.over else None


class Returner:
    """Completes calls, those of all handlers of the process together."""

    def __init__(self, operations: Operations, budget: SpawnBudget) -> None:
        self._operations = operations
        self._budget = budget
        self._completions = Batcher[Completion, None](self._complete)

    async def complete(self, completion: Completion) -> None:
        """Write the value, first writer wins; wake each parent that waits; acknowledge the delivery.

        Raises:
            SpawnLimitError: A parent's root is over its limit. Its return stays in the record, the others are woken.
            MalformedRecordError: The record of those who wait cannot be read.
        """
        await self._completions.submit((completion,))
        if completion.error is not None:
            raise completion.error

    async def close(self) -> None:
        """Wait until all that was asked is done."""
        await self._completions.close()

    async def _complete(self, completions: Sequence[Completion]) -> list[None]:
        await self._write([completion for completion in completions if completion.payload is not None])
        waiting = {c.call_hash: _Waiting(Key("pending_returns", c.call_hash)) for c in completions}
        await self._wake(list(waiting.values()))
        done: list[Delivery] = []
        for completion in completions:
            completion.error = waiting[completion.call_hash].error
            if completion.error is None:
                done.append(completion.delivery)
        await self._operations.ack(done)
        return [None] * len(completions)

    async def _write(self, completions: Sequence[Completion]) -> None:
        swaps = [Swap(Key("value", c.call_hash), None, c.payload) for c in completions]
        for completion, first in zip(completions, await self._operations.swap(swaps), strict=True):
            completion.first = first

    async def _wake(self, unsettled: list[_Waiting]) -> None:
        """Put one wake-up for each return, and compare-and-delete the records; those that changed are read again."""
        while unsettled:
            records = await self._operations.read([waiting.key for waiting in unsettled])
            found: list[tuple[_Waiting, bytes, PendingReturns]] = []
            for waiting, record in zip(unsettled, records, strict=True):
                waiting.over.clear()
                if record is not None:
                    try:
                        found.append((waiting, record, decode_pending(record)))
                    except MalformedRecordError as error:
                        waiting.error = error
            await self._put([(waiting, entry) for waiting, _, pending in found for entry in waiting.fresh(pending)])
            swaps = [Swap(waiting.key, record, waiting.rest(pending)) for waiting, record, pending in found]
            unsettled = []
            for (waiting, _, _), removed in zip(found, await self._operations.swap(swaps), strict=True):
                if not removed:
                    unsettled.append(waiting)
                elif waiting.over:
                    waiting.error = self._budget.exceeded(waiting.over[0].root_id)

    async def _put(self, entries: Sequence[tuple[_Waiting, PendingReturn]]) -> None:
        charged = await self._budget.charge([entry.root_id for _, entry in entries])
        puts: list[Put] = []
        for (waiting, entry), affordable in zip(entries, charged, strict=True):
            if affordable:
                waiting.woken.add(entry)
                puts.append(Put(entry.topic, encode_message(ScheduleMessage(entry.root_id, entry.call_hash))))
            else:
                waiting.over.append(entry)
        await self._operations.put(puts)
