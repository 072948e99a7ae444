"""Put missing children on their queues, and register the parents that wait for them.

The order is: write the child's call record, put its message, mark its pending record. A crash between two steps costs
a duplicate message. It never leaves a marked call without a message (invariant I1).

A call can end before its pending record is created, and then it does not delete the record. So the program that created
the record looks at the value afterwards. If there is one, it wakes the parents in the record and deletes it.
"""

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from brrr_core.backend.contracts import Key, Swap
from brrr_core.engine.batching import Batcher
from brrr_core.engine.calls import Child, Outdated, Wait
from brrr_core.engine.control import Guard, cancelled_key
from brrr_core.engine.operations import Operations, Put
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.engine.returning import Returner, drops
from brrr_core.engine.roots import (
    DROPPED,
    RETRIED,
    RootInfo,
    SpawnBudget,
    is_settling,
    parse_root_id,
    split_timer,
    timer_root_id,
)
from brrr_core.engine.starting import in_force
from brrr_core.engine.stranding import forget, given_up, is_stranded, note_key, note_of, strand
from brrr_core.wire import (
    Buried,
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_state,
    encode_call,
    encode_due,
    encode_message,
    encode_pending,
)

__all__ = ["Placed", "ScheduleOutcome", "ScheduleRequest", "Scheduler"]

MARKS_LIMIT: Final = 64
"""The most redrive marks in one record. Of more redrives within a minute, the oldest may put a call again."""


class ScheduleRequest(NamedTuple):
    """A child to schedule.

    Attributes:
        child: The child.
        root_id: The root that requests it.
        watcher: The return of the parent to register, if it waits for the child.
        guard: The guard of its run, if any.
        cancelled: The record that cancels the root, if the fleet uses cancellation. It is read after registering.
        unless_ended: Whether the child may have an outcome, and is not put then.
    """

    child: Child
    root_id: str
    watcher: PendingReturn | None = None
    guard: Guard | None = None
    cancelled: Key | None = None
    unless_ended: bool = False


class ScheduleOutcome(Enum):
    """The result of a schedule request."""

    SCHEDULED = auto()
    """The child was put, now or before. The watcher, if any, will be woken."""
    FULL = auto()
    """The child was put, but its record has no room for the watcher, or a client is settling it right now."""
    OVER_LIMIT = auto()
    """The root is over its spawn limit, and the child has no message."""
    OUTDATED = auto()
    """The guard does not allow it. The child was not put, and the watcher will not be woken."""


class Placed(NamedTuple):
    """The result of a schedule request, as of a read after registering.

    Attributes:
        outcome: Whether the child was put.
        value: The value of the child, if it is known to have one. Then the watcher must not rely on a wake-up.
        cancelled: Whether the schedule is cancelled, if that was asked, or if the child was not put for this reason.
    """

    outcome: ScheduleOutcome
    value: bytes | None = None
    cancelled: bool = False


class _Group:
    """All requests for one child in one batch, so that concurrent parents do not race for its record.

    Attributes:
        child: The child.
        clock: Returns the time, in unix seconds.
        roots: The roots that request it.
        redrives: The roots that are redrives, with the information of their ids.
        watchers: The returns to register.
        asks: Whether the child may have an outcome already.
        created: Whether this batch created its record.
        value: Its value, if it is known.
        put: The roots for which the child was put.
        notes: The roots of the notes of retries and dropped messages that were there before it was put.
        over: The roots that are over their spawn limit.
        dropped: The cancelled roots, if a message of the child was dropped. They put it no more.
        used_up: The roots that gave the stranded child up, and may put no more messages.
        stranded: Whether all its roots gave it up, so that its watchers are stranded too.
        revived: Whether it was stranded before it was put.
        turned_away: The watchers that cannot rely on its record: it is full, or a client is settling the call.
    """

    __slots__ = (
        "asks",
        "child",
        "clock",
        "created",
        "dropped",
        "notes",
        "over",
        "put",
        "redrives",
        "revived",
        "roots",
        "stranded",
        "turned_away",
        "used_up",
        "value",
        "watchers",
    )

    def __init__(self, child: Child, clock: Callable[[], float]) -> None:
        self.child = child
        self.clock = clock
        self.roots: list[str] = []
        self.redrives: dict[str, RootInfo] = {}
        self.watchers: list[PendingReturn] = []
        self.asks = False
        self.created = False
        self.value: bytes | None = None
        self.put: set[str] = set()
        self.notes: set[str] = set()
        self.over: set[str] = set()
        self.dropped: set[str] = set()
        self.used_up: set[str] = set()
        self.stranded = False
        self.revived = False
        self.turned_away: set[PendingReturn] = set()

    @property
    def key(self) -> Key:
        return Key("pending_returns", self.child.call.call_hash)

    @property
    def value_key(self) -> Key:
        return Key("value", self.child.call.call_hash)

    @property
    def over_limit(self) -> bool:
        """Whether the child had to be put, and all its roots that did not give it up are over their limits."""
        return bool(self.over) and not self.put

    def due(self, pending: PendingReturns) -> list[str]:
        """Return the roots for which the child must be put now.

        Each redrive puts it once, even if another root put it before. If the child is not marked, or no redrive can
        afford it, one other root puts it. A root that gave up the child does not put it again, even if it gave up a
        message of this batch meanwhile. If the child was retried meanwhile, or a message of it was dropped, those of
        this batch do not count.
        """
        if not self.child.topic:  # an event
            return []
        gave_up = set(self.dropped)
        if pending.scheduled_at is None:
            gave_up |= self._own_roots(pending)
        if gave_up:
            notes = {root_id for root_id in gave_up if root_id.startswith((DROPPED, RETRIED))}
            self.put -= gave_up if notes <= self.notes else self.put
            self.notes = notes
        due = [root_id for root_id, root in self.redrives.items() if self._lacks(root_id, root, pending)]
        if due or self.put or (pending.scheduled_at is not None and not self.over):
            return due
        return [root_id for root_id in self.roots if root_id not in self.over and root_id not in gave_up][:1]

    def registered(self, pending: PendingReturns) -> PendingReturns:
        """Return the record with the marks of this group, and with as many of its watchers as fit."""
        returns, own = set(pending.returns), self.child.call.call_hash
        settling = bool(returns) and any(
            e.call_hash == own and is_settling(e.root_id, self.clock()) for e in pending.returns
        )
        self.turned_away.clear()
        for watcher in self.watchers:
            if not settling and (len(returns) < RETURNS_LIMIT or watcher in returns):
                returns.add(watcher)
            else:
                self.turned_away.add(watcher)
        stranded = is_stranded(pending, own)
        self.stranded, self.revived = stranded and not self.put, stranded and bool(self.put)
        if not self.put:
            return PendingReturns(tuple(sorted(returns)), pending.scheduled_at)
        now = int(self.clock())
        marks: dict[PendingReturn, RootInfo] = {
            self._mark(root_id): root for root_id, root in self.redrives.items() if root_id in self.put
        }
        marks |= {entry: parse_root_id(entry.root_id) for entry in given_up(pending, own)}
        returns.difference_update(marks)
        needed = [mark for mark, root in marks.items() if root.redriven_at and not root.is_older_than(now, now)]
        needed.sort(key=lambda mark: marks[mark].redriven_at or 0)
        returns.update(needed[-MARKS_LIMIT:])
        return PendingReturns(tuple(sorted(returns)), now)

    def _lacks(self, root_id: str, root: RootInfo, pending: PendingReturns) -> bool:
        """Whether neither this worker nor the record knows that a redrive put the child."""
        if root_id in self.put or root_id in self.over or root_id in self.dropped:
            return False
        at = pending.scheduled_at
        return root_id not in self._own_roots(pending) and (at is None or not root.is_older_than(at, int(self.clock())))

    def _own_roots(self, pending: PendingReturns) -> set[str]:
        """Return the roots that gave the child up, or if it has a mark, the redrives that put it."""
        return {entry.root_id for entry in given_up(pending, self.child.call.call_hash)}

    def _mark(self, root_id: str) -> PendingReturn:
        """Return the mark of a redrive that put the child: a return of the child to itself, which wakes nothing."""
        return PendingReturn(root_id, self.child.call.call_hash, self.child.topic)


class Scheduler:
    """Schedules the children of all handlers of a connection, in batches."""

    def __init__(
        self, operations: Operations, budget: SpawnBudget, returner: Returner, resend_after: float | None = None
    ) -> None:
        self._operations = operations
        self._budget = budget
        self._returner = returner
        self._resend_after = resend_after
        self._requests = Batcher[ScheduleRequest, Placed](self._schedule_batch)

    async def schedule(self, requests: Sequence[ScheduleRequest]) -> Sequence[Placed]:
        """Put every child that was not put yet, and register the watchers.

        Raises:
            SpawnLimitError: A child was not put because its root is over its spawn limit.
            Outdated: A guard does not allow it.
        """
        results = await self._requests.submit(requests)
        for request, placed in zip(requests, results, strict=True):
            if placed.outcome is ScheduleOutcome.OVER_LIMIT:
                raise self._budget.exceeded(request.root_id)
            if placed.outcome is ScheduleOutcome.OUTDATED:
                raise Outdated
        return results

    async def start_timers(self, parent: PendingReturn, waits: Sequence[Wait]) -> None:
        """Put a timer message for each wait of a parent: a delayed wake-up of the parent. Then store its due time.

        So a wait with a due time has a message. Of two runs that start the timer of one wait, the first decides when it
        is due, and the message of the other is one wake-up more.

        Raises:
            SpawnLimitError: The root of the parent is over its spawn limit.
        """
        now = self._operations.clock()
        puts: list[Put] = []
        for wait, affordable in zip(waits, await self._budget.charge([parent.root_id] * len(waits)), strict=True):
            if not affordable:
                raise self._budget.exceeded(parent.root_id)
            message = ScheduleMessage(timer_root_id(parent.root_id, wait.due), parent.call_hash)
            puts.append(self._put_at(parent.topic, message, max(0.0, wait.due - now)))
        await self._operations.put(puts)
        await self._operations.swap([Swap(Key("value", wait.timer), None, encode_due(wait.due)) for wait in waits])

    async def send(self, root_id: str, child: Child, guard: Guard | None = None) -> bytes | None:
        """Put a call that no run waits for, unless it was put before or has an outcome. Return the outcome, if any.

        Raises:
            SpawnLimitError: The root is over its spawn limit.
            Outdated: The guard does not allow it.
        """
        (placed,) = await self.schedule([ScheduleRequest(child, root_id, guard=guard, unless_ended=True)])
        return placed.value

    async def strand(self, entry: PendingReturn, buried: Buried, *, alone: bool) -> None:
        """Strand a call that is about to be dead-lettered, and unless `alone` is true, every call that waits for it."""
        created = await strand(self._operations, [entry], note_of(buried), alone=alone)
        await self._returner.clear_ended(created, created=True)

    async def close(self) -> None:
        """Wait until all requests are done."""
        await self._requests.close()

    async def _schedule_batch(self, requests: Sequence[ScheduleRequest]) -> list[Placed]:
        began, groups = asyncio.get_running_loop().time(), _group(requests, self._operations.clock)
        guards = list(dict.fromkeys(request.guard for request in requests if request.guard is not None))
        unsettled = list(groups.values())
        while unsettled:
            asked = [group for group in unsettled if group.asks]
            keys = [guard.key for guard in guards]
            keys += [group.value_key for group in asked]
            keys += [group.key for group in unsettled]
            records = await self._operations.read(keys)
            states = map(decode_state, records[: len(guards)])
            outdated = {guard for guard, state in zip(guards, states, strict=True) if not guard.allows(state)}
            if outdated:
                allowed = iter(await self._schedule_batch([each for each in requests if each.guard not in outdated]))
                refused = Placed(ScheduleOutcome.OUTDATED)
                return [refused if each.guard in outdated else next(allowed) for each in requests]
            for group, value in zip(asked, records[len(guards) :], strict=False):
                group.value = value
            found = [
                (group, record, in_force(group.key.call_hash, record, self._resend_after, self._operations.clock()))
                for group, record in zip(unsettled, records[len(guards) + len(asked) :], strict=True)
                if group.value is None
            ]
            await self._heed_drops([(group, pending) for group, _, pending in found])
            await self._put([(group, pending) for group, _, pending in found])
            changed: list[tuple[_Group, Swap]] = []
            for group, record, pending in found:
                if not group.over_limit:
                    registered = group.registered(pending)
                    if registered != pending:
                        changed.append((group, Swap(group.key, record, encode_pending(registered))))
            swapped = await self._operations.swap([swap for _, swap in changed])
            unsettled = list[_Group]()
            for (group, swap), done in zip(changed, swapped, strict=True):
                group.created = done and swap.expected is None
                if not done:
                    unsettled.append(group)
        if stranded := [group for group in groups.values() if group.stranded and group.watchers]:
            await self._strand_watchers(stranded)
        if put_again := [name for name, group in groups.items() if group.revived]:
            await forget(self._operations, put_again)
        cancelled = await self._look_again(requests, groups, began)
        return [_placed(groups[each.child.call.call_hash], each, cancelled) for each in requests]

    async def _heed_drops(self, groups: Sequence[tuple[_Group, PendingReturns]]) -> None:
        """Look for notes that messages were dropped. Then a cancelled root puts the child no more.

        Its message would be dropped, too, and perhaps marked after that.
        """
        noted = [
            (group, root_id)
            for group, pending in groups
            if pending.scheduled_at is None and drops(pending, group.key.call_hash)
            for root_id in group.roots
        ]
        if noted:
            cancelled = await self._operations.read([cancelled_key(root_id) for _, root_id in noted])
            for (group, root_id), record in zip(noted, cancelled, strict=True):
                if record is not None:
                    group.dropped.add(root_id)

    async def _look_again(
        self, requests: Sequence[ScheduleRequest], groups: Mapping[str, _Group], began: float
    ) -> Container[Key | None]:
        """Read the values of calls that are waited for, or whose records were created here, in one batch of reads.

        A call with a value may have ended before it was registered. Return the records of cancelled schedules.
        """
        looked = [group for group in groups.values() if group.value is None and (group.watchers or group.created)]
        roots = list(dict.fromkeys(each.cancelled for each in requests if each.cancelled is not None))
        records = await self._operations.read([group.value_key for group in looked] + roots)
        for group, value in zip(looked, records, strict=False):
            group.value = value
        # The watchers of this batch learn of the value here. If it took long, their messages may be gone: wake them.
        leased = asyncio.get_running_loop().time() - began < self._operations.queue.lease / 2
        ended = [group for group in looked if group.created and group.value is not None]
        late = {group.key.call_hash: group.watchers if leased else [] for group in ended}
        if late:
            await self._returner.clear(late)
        return {root for root, record in zip(roots, records[len(looked) :], strict=True) if record is not None}

    async def _strand_watchers(self, groups: Sequence[_Group]) -> None:
        """Strand the parents of children that are stranded. Such parents wait until another root puts the child.

        The messages of parents whose roots have used up their spawn limits are dead-lettered instead. So other roots
        get these parents, and put the child.
        """
        roots = dict.fromkeys(watcher.root_id for group in groups for watcher in group.watchers)
        used_up = await self._budget.used_up(list(roots))
        notes = await self._operations.read([note_key(group.key.call_hash) for group in groups])
        for group, note in zip(groups, notes, strict=True):
            group.used_up = used_up
            created = await strand(
                self._operations, [each for each in group.watchers if each.root_id not in used_up], note
            )
            await self._returner.clear_ended(created, created=True)

    async def _put(self, groups: Sequence[tuple[_Group, PendingReturns]]) -> None:
        """Write the due calls and put their messages, except for the groups whose roots are over their limits."""
        charges = [(group, root_id) for group, pending in groups for root_id in group.due(pending)]
        if not charges:
            return
        calls = {group.key.call_hash: group.child.call for group, _ in charges}
        written = self._operations.write([(Key("call", name), encode_call(call)) for name, call in calls.items()])
        puts: list[Put] = []
        while charges:
            try:
                charged, _ = await asyncio.gather(self._budget.charge([root_id for _, root_id in charges]), written)
            except BaseException:
                del written  # it may hold the error, whose traceback holds this frame
                raise
            for (group, root_id), affordable in zip(charges, charged, strict=True):
                if affordable:
                    message = ScheduleMessage(root_id, group.child.call.call_hash)
                    puts.append(self._put_at(group.child.topic, message, group.child.delay))
                    group.put.add(root_id)
                else:
                    group.over.add(root_id)
            over = [(group, pending) for group, pending in groups if group.over_limit]
            charges = [(group, root_id) for group, pending in over for root_id in group.due(pending)]
        await self._operations.put(puts)

    def _put_at(self, topic: str, message: ScheduleMessage, delay: float) -> Put:
        """Return a message with a delay. If the queue cannot delay, it is a timer, for which its worker waits."""
        if delay and not self._operations.delays:
            root_id = timer_root_id(split_timer(message.root_id)[1], self._operations.clock() + delay)
            return Put(topic, encode_message(message._replace(root_id=root_id)))
        return Put(topic, encode_message(message), delay)


def _group(requests: Sequence[ScheduleRequest], clock: Callable[[], float]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for child, root_id, watcher, _, _, unless_ended in requests:
        group = groups.get(child.call.call_hash)
        if group is None:
            group = groups[child.call.call_hash] = _Group(child, clock)
        if root_id not in group.roots:
            group.roots.append(root_id)
            root = parse_root_id(root_id)
            if root.redriven_at is not None:
                group.redrives[root_id] = root
        if watcher is not None:
            group.watchers.append(watcher)
        group.asks = group.asks or unless_ended
    return groups


def _placed(group: _Group, request: ScheduleRequest, cancelled: Container[Key | None]) -> Placed:
    outcome = ScheduleOutcome.SCHEDULED
    if group.over_limit or (request.watcher is not None and request.root_id in group.used_up):
        outcome = ScheduleOutcome.OVER_LIMIT
    elif request.watcher is not None and request.watcher in group.turned_away:
        outcome = ScheduleOutcome.FULL
    return Placed(outcome, group.value, request.cancelled in cancelled or request.root_id in group.dropped)
