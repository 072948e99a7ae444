"""The invariants of `docs/explanation/engine.md`, checked at each change that could break one.

Only the calls that a change affects are checked again, so a check costs the same in a large graph.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from brrr_core.backend import Key
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import FAILURE_PREFIX, PendingReturns, ScheduleMessage, decode_message, decode_pending
from brrr_simulation.faults import Fault
from brrr_simulation.ledger import Ledger
from brrr_simulation.model import Model

__all__ = ["Invariants", "leftovers", "message_in"]

RESERVED: Final = "brrr."
FIXED: Final = ("brrr.due/", "brrr.wait/", "brrr.version/")
"""Prefixes of reserved values that never change once they are written."""

CURSOR: Final = "brrr.cron/"
"""Prefix of the cursors of recurring schedules."""

CANCELLED: Final = "brrr.cancelled/"
"""Prefix of the records of cancelled schedules."""

INTERRUPTING: Final = {"crash", "refused", "lost", "partial", "away"}
"""The kinds of faults that can keep a process from checking a call again after it created the pending record."""

_NONE: Final = PendingReturns()


class _Creation(NamedTuple):
    """The creation of a pending record after the call had ended: the process, and when it sent and made the change."""

    process: str
    sent: float
    at: float


class Invariants:
    """Watches a model, and collects violated invariants.

    Attributes:
        violations: The violated invariants, as text.
        foreign: Prefix of the names of processes that mark a call before they put it, and write values without a
            comparison.
        loses: Returns whether messages may have been lost, so that I2 no longer holds.
        ledger: The messages of each schedule.
    """

    def __init__(self, model: Model, now: Callable[[], float]) -> None:
        self.violations: list[str] = []
        self._now = now
        self.settled_at: dict[str, float] = {}
        """When each call or event got its outcome."""
        self.cursors: list[bytes] = []
        """The records of the cursors of recurring schedules, in order."""
        self.puts = 0
        self.foreign = "\0"
        self.loses: Callable[[], bool] = bool
        self.ledger = Ledger(model)
        self._model = model
        self._records = model.records
        self._lossy = False
        self._messages: Counter[str] = Counter()
        self._ever_put: set[str] = set()
        self._scheduled: set[str] = set()
        self._waits_for: defaultdict[str, set[str]] = defaultdict(set)
        self._unsure: set[str] = set()
        self._cancelled: set[str] = set()
        self._created_late: dict[str, _Creation] = {}
        """The calls whose pending records were created after they had ended."""
        self._dropped: set[str] = set()
        """The calls that had ended before their last dead letter was dropped. It would have deleted their records."""
        self._put_for: defaultdict[str, set[str]] = defaultdict(set)
        """The schedules for which each call was put."""
        self._stopped: set[str] = set()
        """Calls of cancelled schedules that nothing continues."""

    @property
    def _is_foreign(self) -> bool:
        return self._model.actor[0].startswith(self.foreign)

    def forget(self) -> None:
        """Stop checking I2, because the queue lost messages: some calls continue only after a redrive."""
        self._lossy = True

    def put(self, body: bytes) -> None:
        """A message was put."""
        root_id, call_hash = message_in(body)
        if not call_hash:
            return
        self.puts += 1
        self._messages[call_hash] += 1
        self._ever_put.add(call_hash)
        self._scheduled.add(call_hash)
        self._put_for[call_hash].add(root_id)
        self._stopped.discard(call_hash)
        self.ledger.put(body)

    def counted(self, counter: str, amount: int) -> None:
        """Report an increased counter."""
        self.ledger.counted(counter, amount)

    def removed(self, body: bytes, *, dropped: bool = False) -> None:
        """A message was removed. If it was `dropped`, its call may end without an outcome."""
        _, call_hash = message_in(body)
        if not call_hash:
            return
        self.ledger.removed(body)
        self._messages[call_hash] -= 1
        if self._messages[call_hash] <= 0:
            if dropped:
                self._drop(call_hash)
            self._unsure.add(call_hash)
            self._doubt_parents(call_hash)

    def changed(self, key: Key, before: bytes | None, after: bytes | None, *, swapped: bool) -> None:
        """A record changed."""
        kind, call_hash = key
        if kind == "pending_returns":
            if before is None and Key("value", call_hash) in self._records:
                self._created_late[call_hash] = _Creation(*self._model.actor, self._now())
            self._pending_changed(call_hash, _pending(before), _pending(after))
        elif kind == "call":
            if before is not None:
                self.violations.append(f"the call record of {call_hash} was changed")
        elif call_hash.startswith(RESERVED):
            if before is not None and call_hash.startswith(FIXED):
                self.violations.append(f"I3: {call_hash} was changed")
            if after is not None and call_hash.startswith(CURSOR):
                self.cursors.append(after)
            elif call_hash.startswith(CANCELLED):
                self._cancelled.add(call_hash.removeprefix(CANCELLED))
        elif before is None:
            self.settled_at[call_hash] = self._now()
            if not swapped and not self._is_foreign:
                self.violations.append(f"I3: the outcome of {call_hash} was written without a comparison")
            self._doubt_parents(call_hash)
        elif after is None and before.startswith(FAILURE_PREFIX):
            self._retried(call_hash)
        else:
            self.violations.append(f"I3: the outcome of {call_hash} was changed from {before!r} to {after!r}")

    def _retried(self, call_hash: str) -> None:
        """A retry deleted the failure of a call. Messages that were removed before no longer justify a mark."""
        self._scheduled.discard(call_hash)
        if self._messages[call_hash] <= 0:
            self._ever_put.discard(call_hash)

    def wrong_leftover(self, call_hash: str, faults: Iterable[Fault]) -> str | None:
        """Return why the pending record of a call with an outcome must not exist; None if a fault explains it."""
        created = self._created_late.get(call_hash)
        if created is None:
            ended = f"the call {call_hash} ended, but its pending record was not deleted"
            return None if call_hash in self._dropped else ended
        for fault in faults:
            near = created.sent <= fault.at <= created.at + 4 * self._model.lease
            if near and fault.kind in INTERRUPTING and fault.process in {created.process, "all"}:
                return None
        return f"{created.process} created the pending record of {call_hash} after its end, and did not check again"

    def settled(self) -> None:
        """Check the calls that the last operation affected."""
        if self._lossy or self.loses():
            self._unsure.clear()
        looked: set[str] = set()
        while left := self._unsure - looked:
            call_hash = min(left)
            looked.add(call_hash)
            if self._is_handled(call_hash, set()):
                continue
            if Key("value", call_hash) in self._records:
                self._doubt_parents(call_hash)
            elif (
                call_hash in self._scheduled
                and not self.ledger.may_wait(call_hash)
                and (wrong := self._stop(call_hash)) is not None
            ):
                self._scheduled.discard(call_hash)  # report it once
                self.violations.append(
                    f"I2 at {self._now():.3f}: the call {call_hash} {wrong}, but it has no message, and no other call "
                    "will wake it"
                )
        self._unsure.clear()

    def _stop(self, call_hash: str) -> str | None:
        """Return why a call that nothing continues violates I2; None if its schedules are cancelled, and no mark left.

        A resumed schedule counts as cancelled, because dropped messages stay lost.
        """
        pending = _pending(self._records.get(Key("pending_returns", call_hash)))
        parents = {each.root_id for each in pending.returns if each.call_hash != call_hash}
        if not self._cancelled or not all(map(self._is_cancelled, parents | self._put_for[call_hash])):
            return "is scheduled and has no outcome"
        if pending.scheduled_at is not None:
            return "of a cancelled schedule has a mark"
        if call_hash not in self._stopped:
            self._stopped.add(call_hash)
            self._doubt_parents(call_hash)
        return None

    def _is_handled(self, call_hash: str, seen: set[str]) -> bool:
        """Whether a worker will run a call: it has a message, or another call will wake it.

        A call wakes its callers if it has no outcome yet, or if it has one and a worker will run it again.
        """
        if self._messages[call_hash] > 0:
            return True
        seen.add(call_hash)
        children = self._waits_for[call_hash] - seen
        return any(
            (Key("value", child) not in self._records and child not in self._stopped) or self._is_handled(child, seen)
            for child in children
        )

    def _drop(self, call_hash: str) -> None:
        """Allow that a call has no message, and that no other call wakes those above it: the last dead letter is gone.

        None of them may have a mark. Otherwise the next schedule of the workflow would not put them.
        """
        if Key("value", call_hash) in self._records:
            self._dropped.add(call_hash)
        left, seen = [call_hash], {call_hash}
        while left:
            name = left.pop()
            pending = _pending(self._records.get(Key("pending_returns", name)))
            if Key("value", name) not in self._records and not self._continues(name, set()):
                self._scheduled.discard(name)
                if pending.scheduled_at is not None:
                    self.violations.append(f"the call {name} has a mark, but the dead letter that stops it was dropped")
            above = {entry.call_hash for entry in pending.returns} - seen
            seen |= above
            left += sorted(above)

    def _continues(self, call_hash: str, seen: set[str]) -> bool:
        """Whether a message will continue a call: its own, or one of a call that it waits for. Clients end events."""
        ended = Key("value", call_hash) in self._records
        if self._messages[call_hash] > 0 or not (ended or call_hash in self._ever_put):
            return True
        seen.add(call_hash)
        return any(self._continues(child, seen) for child in self._waits_for[call_hash] - seen)

    def _is_cancelled(self, root_id: str) -> bool:
        """Whether a schedule was cancelled at any time. The root id of a timer ends with that of its schedule."""
        return any(root_id.endswith(each) for each in self._cancelled)

    def _doubt_parents(self, call_hash: str) -> None:
        record = self._records.get(Key("pending_returns", call_hash))
        if record is not None:
            self._unsure.update(entry.call_hash for entry in _pending(record).returns)

    def _pending_changed(self, call_hash: str, before: PendingReturns, after: PendingReturns) -> None:
        marked = after.scheduled_at is not None and after.scheduled_at != before.scheduled_at
        if marked and call_hash not in self._ever_put and not self._is_foreign:
            self.violations.append(f"I1: the call {call_hash} is marked as scheduled, but it was not put")
        if marked and self._cancelled:
            self._unsure.add(call_hash)
        was, now = ({entry.call_hash for entry in each.returns} for each in (before, after))
        for parent in was - now:
            self._waits_for[parent].discard(call_hash)
            self._unsure.add(parent)
        for parent in now - was:
            self._waits_for[parent].add(call_hash)


def leftovers(model: Model) -> list[str]:
    """Return the calls with an outcome that still have a pending record."""
    return [
        key.call_hash
        for key in model.records
        if key.kind == "pending_returns" and Key("value", key.call_hash) in model.records
    ]


@lru_cache(maxsize=4096)
def message_in(body: bytes) -> ScheduleMessage:
    """Return the message in a body; one without a call if it is malformed."""
    try:
        return decode_message(body)
    except MalformedRecordError:
        return ScheduleMessage("", "")


def _pending(record: bytes | None) -> PendingReturns:
    return _NONE if record is None else decode_pending(record)
