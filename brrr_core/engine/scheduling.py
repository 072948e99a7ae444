"""Puts missing children on their queues and registers who waits for them (DESIGN.md section 4, step 4a and 4b).

Enqueue before mark: a child's call record is written, then its message put, and only then does its pending record say
so. A crash between any two costs a duplicate message, never a call that nobody runs (invariant I1).
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.batching import Batcher
from brrr_core.engine.calls import Child
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.engine.roots import redriven_at
from brrr_core.engine.spawning import SpawnBudget
from brrr_core.wire import (
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_pending,
    encode_call,
    encode_message,
    encode_pending,
)

__all__ = ["Outcome", "Scheduler", "Want"]


class Want(NamedTuple):
    """A child that must be on a queue on behalf of `root_id`, and the return to register on it, if any."""

    child: Child
    root_id: str
    watcher: PendingReturn | None = None


class Outcome(Enum):
    """What became of a want."""

    SCHEDULED = auto()
    """The child is on a queue, or was; the watcher, if any, will be woken."""
    FULL = auto()
    """The child is on a queue, and its record has no room for the watcher."""
    OVER_LIMIT = auto()
    """The root has used up its messages: the child was not put."""


@dataclass(slots=True)
class _Group:
    """All wants of one child in one batch, so that parents that run side by side never race for its record."""

    child: Child
    roots: list[str]
    redriven_at: int
    watchers: list[PendingReturn] = field(default_factory=list[PendingReturn])
    put: bool = False
    outcome: Outcome = Outcome.SCHEDULED
    turned_away: set[PendingReturn] = field(default_factory=set[PendingReturn])

    @property
    def key(self) -> Key:
        return Key("pending_returns", self.child.call.call_hash)

    def must_put(self, pending: PendingReturns) -> bool:
        """Whether nobody is sure that the child was put (on a redriven root: that it was put since)."""
        return not self.put and self._unsure(pending)

    def next_root(self) -> bool:
        """Go on to the next root that wants the child, the present one being over its limit."""
        self.roots.pop(0)
        if not self.roots:
            self.outcome = Outcome.OVER_LIMIT
        return bool(self.roots)

    def registered(self, pending: PendingReturns) -> PendingReturns:
        """The record with this group's mark and as many of its watchers as there is room for."""
        returns = set(pending.returns)
        self.turned_away.clear()
        for watcher in self.watchers:
            if len(returns) < RETURNS_LIMIT or watcher in returns:
                returns.add(watcher)
            else:
                self.turned_away.add(watcher)
        scheduled_at = pending.scheduled_at
        if self.put and self._unsure(pending):
            scheduled_at = max(int(time.time()), self.redriven_at + 1)
        return PendingReturns(tuple(sorted(returns)), scheduled_at)

    def _unsure(self, pending: PendingReturns) -> bool:
        return pending.scheduled_at is None or pending.scheduled_at <= self.redriven_at


class Scheduler:
    """Fulfils wants, those of all handlers of the process together."""

    def __init__(self, operations: Operations, budget: SpawnBudget) -> None:
        self._operations = operations
        self._budget = budget
        self._wants = Batcher[Want, Outcome](self._fulfil)

    async def schedule(self, wants: Sequence[Want]) -> Sequence[Outcome]:
        """Put every child that is not on a queue, and register the watchers.

        Raises:
            SpawnLimitError: A child could not be put because its root is over the limit.
        """
        outcomes = await self._wants.ask(wants)
        for want, outcome in zip(wants, outcomes, strict=True):
            if outcome is Outcome.OVER_LIMIT:
                raise self._budget.exceeded(want.root_id)
        return outcomes

    async def hand_over(self, call_hash: str, root_id: str, topic: str) -> None:
        """Leave a call that its root cannot afford to another root that waits for it, or else to one that comes later.

        Either its message is put once more on behalf of another root, or its record no longer says that it was put:
        whoever wants it next puts it.
        """
        key = Key("pending_returns", call_hash)
        tried = {root_id}
        while True:
            (record,) = await self._operations.read([key])
            if record is None:
                return
            pending = decode_pending(record)
            for other in dict.fromkeys(entry.root_id for entry in pending.returns if entry.root_id not in tried):
                tried.add(other)
                (affordable,) = await self._budget.charge([other])
                if affordable:
                    await self._operations.put([Put(topic, encode_message(ScheduleMessage(other, call_hash)))])
                    return
            (cleared,) = await self._operations.swap(
                [Swap(key, record, encode_pending(PendingReturns(pending.returns)))]
            )
            if cleared:
                return

    async def close(self) -> None:
        """Wait until all that was asked is done."""
        await self._wants.close()

    async def _fulfil(self, wants: Sequence[Want]) -> list[Outcome]:
        groups = _group(wants)
        unsettled = list(groups.values())
        while unsettled:
            records = await self._operations.read([group.key for group in unsettled])
            pendings = [PendingReturns() if record is None else decode_pending(record) for record in records]
            await self._put([g for g, pending in zip(unsettled, pendings, strict=True) if g.must_put(pending)])
            changed: list[tuple[_Group, Swap]] = []
            for group, record, pending in zip(unsettled, records, pendings, strict=True):
                if group.outcome is not Outcome.OVER_LIMIT:
                    registered = group.registered(pending)
                    if registered != pending:
                        changed.append((group, Swap(group.key, record, encode_pending(registered))))
            swapped = await self._operations.swap([swap for _, swap in changed])
            unsettled = [group for (group, _), done in zip(changed, swapped, strict=True) if not done]
        return [_outcome(groups[want.child.call.call_hash], want) for want in wants]

    async def _put(self, groups: Sequence[_Group]) -> None:
        """Write the calls and put their messages, but for the groups whose root is over the limit."""
        if not groups:
            return
        calls = [(Key("call", g.child.call.call_hash), encode_call(g.child.call)) for g in groups]
        written = self._operations.write(calls)
        puts: list[Put] = []
        while groups:
            charged, _ = await asyncio.gather(self._budget.charge([group.roots[0] for group in groups]), written)
            over: list[_Group] = []
            for group, affordable in zip(groups, charged, strict=True):
                if affordable:
                    message = ScheduleMessage(group.roots[0], group.child.call.call_hash)
                    puts.append(Put(group.child.topic, encode_message(message)))
                    group.put = True
                else:
                    over.append(group)
            groups = [group for group in over if group.next_root()]
        await self._operations.put(puts)


def _group(wants: Sequence[Want]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for child, root_id, watcher in wants:
        group = groups.get(child.call.call_hash)
        if group is None:
            group = groups[child.call.call_hash] = _Group(child, [root_id], redriven_at(root_id))
        elif root_id not in group.roots:
            group.roots.append(root_id)
            group.redriven_at = max(group.redriven_at, redriven_at(root_id))
        if watcher is not None:
            group.watchers.append(watcher)
    for group in groups.values():
        if len(group.roots) > 1:  # a redrive passes its mark on to what the child calls in turn
            group.roots.sort(key=redriven_at, reverse=True)
    return groups


def _outcome(group: _Group, want: Want) -> Outcome:
    if want.watcher is not None and want.watcher in group.turned_away:
        return Outcome.FULL
    return group.outcome
