# ruff: noqa: E501 - lines of the engine
"""Planted bugs: each replaces a few lines of the engine by wrong ones, and a few histories find it.

Some wrong lines change nothing that a workflow can see. They are not bugs, and no history finds them:

- `Runner.resume` resumes a parked run whose call was cancelled. Its next run gets `Cancelled`, as any run that
  was under way when the request came.
- `Canceller.cancel` puts no second message. The guard message runs the call five seconds later.
- `Retrier` deletes the failure of a call before those of its causes. If its program dies between them, the call fails
  again, and the next retry takes both back.
- `DeliveryHandler` keeps the records of a message that waited for its turn. The step that completes the call compares them,
  and a single write of the value compares too. So the call runs once more than needed.
"""

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from brrr_core.app import letters
from brrr_core.engine import (
    batching,
    deferring,
    delivery,
    operations,
    retrying,
    returning,
    run,
    running,
    scheduling,
    settling,
    starting,
    waiting,
    waits,
    worker,
)
from brrr_cron import cursor
from brrr_simulation import simulate

HISTORIES = 40
"""The most histories that find a planted bug."""

QUICK = 4
"""Planted bugs that a quick run looks for."""


class Mutant(NamedTuple):
    """A planted bug.

    Attributes:
        owner: The class or module with the function.
        function: The name of the function.
        changes: Pairs of lines of the function and what takes their place.
        calm: Whether it is looked for in histories without faults.
        first: The first seed of the histories.
        theme: Their special part; by the seed if None.
    """

    owner: Any
    function: str
    changes: Sequence[tuple[str, str]]
    calm: bool = False
    first: int = 0
    theme: str | None = None


MUTANTS: dict[str, Mutant] = {
    "marks a call before it is put": Mutant(
        scheduling.Scheduler,
        "_put",
        [
            (
                "await self._operations.put(puts)",
                "asyncio.get_running_loop().call_later(0.5, self._operations.put, puts)",
            )
        ],
    ),
    "acknowledges before the effects": Mutant(
        returning.Returner,
        "_complete",
        [
            (
                "await self._write([",
                "await self._operations.ack([each.delivery for each in completions])\n    await self._write([",
            )
        ],
    ),
    "does not look again after registering": Mutant(
        scheduling.Scheduler,
        "_look_again",
        [("group.value = value", "pass")],
    ),
    "leaves the record of a call that ended before its mark": Mutant(
        scheduling.Scheduler,
        "_look_again",
        [("if late:", "if late and False:")],
        first=40,
    ),
    "does not look again after a lost swap": Mutant(
        returning.Returner, "_wake", [("if not removed:", "if not removed and False:")], first=70
    ),
    "removes the pending record before waking": Mutant(
        returning.Returner,
        "_wake",
        [
            (
                "await self._put([(waiting, entry) for waiting, _, pending in found for entry in waiting.to_wake(pending)])",
                "later = [(waiting, entry) for waiting, _, pending in found for entry in waiting.to_wake(pending)]",
            ),
            ("        unsettled = []\n", "        await self._put(later)\n        unsettled = []\n"),
            (
                "zip(found, await self._operations.swap(swaps), strict=True)",
                "zip(found, swapped, strict=True)",
            ),
            (
                "        await self._put(later)",
                "        swapped = await self._operations.swap(swaps)\n        await self._put(later)",
            ),
        ],
    ),
    "does not repeat a lost swap when it registers": Mutant(
        scheduling.Scheduler,
        "_schedule_batch",
        [("if not done:", "if not done and False:")],
    ),
    "does not extend leases": Mutant(
        worker.Worker,
        "_keep_leases",
        [("await self._queue.extend([held.delivery for held in held_deliveries])", "pass")],
        calm=True,
    ),
    "wakes the first parent only": Mutant(
        returning._Waiting, "to_wake", [("!= self.key.call_hash]", "!= self.key.call_hash][:1]")]
    ),
    "wakes the first parent only, in a step": Mutant(
        returning.Returner,
        "_complete_in_one_step",
        [("for parent in parents] if parents", "for parent in parents[:1]] if parents")],
    ),
    "does not compare the pending record in the step that returns": Mutant(
        returning.Returner,
        "_complete_in_one_step",
        [("(key, record), *(()", "*(()")],
    ),
    "overwrites the outcome in the step that returns": Mutant(
        returning.Returner,
        "_complete_in_one_step",
        [("expected=((value, None), (key", "expected=((key")],
    ),
    "does not compare records in the step that defers": Mutant(
        deferring.Deferrer,
        "_defer_in_one_step",
        [("expected=[*((key, None) for key in (*records, *values)), *not_cancelled]", "expected=not_cancelled")],
    ),
    "acknowledges a parent that a full record turned away": Mutant(
        deferring.Deferrer,
        "defer",
        [
            (
                "await self._settler.put_again(job.held, self._policy.retry_delay(previous.waits))",
                "await self._operations.ack([job.held.delivery])",
            )
        ],
    ),
    "acknowledges before it registers": Mutant(
        deferring.Deferrer,
        "defer",
        [
            (
                "        placed = Placed(ScheduleOutcome.SCHEDULED)\n",
                "        placed = Placed(ScheduleOutcome.SCHEDULED)\n        await self._operations.ack([job.held.delivery])\n",
            )
        ],
    ),
    "does not register the parent": Mutant(scheduling._Group, "registered", [("returns.add(watcher)", "pass")]),
    "does not put again what a redrive asks for": Mutant(
        scheduling._Group,
        "due",
        [("for root_id, root in self.redrives.items() if", "for root_id, root in self.redrives.items() if False and")],
    ),
    "lets a late failure overwrite a value": Mutant(
        returning.Returner,
        "_write",
        [
            (
                "swaps = [",
                "await self._operations.write([(Key('value', c.call_hash), c.payload) for c in completions])\n    swaps = [",
            )
        ],
    ),
    "lets a deadline beat a value": Mutant(
        waits.Waits,
        "look_up",
        [
            (
                "if found[child.call.call_hash] is not None or (child.is_sleep and wait.due <= self.now):",
                "if not (wait.running and wait.due <= self.now) and found[child.call.call_hash] is not None or (child.is_sleep and wait.due <= self.now):",
            )
        ],
        first=80,
    ),
    "ends a sleep early": Mutant(
        waits.Waits,
        "look_up",
        [("(child.is_sleep and wait.due <= self.now)", "(child.is_sleep and wait.running)")],
        first=30,
    ),
    "stores the due time of a timer before its message": Mutant(
        scheduling.Scheduler,
        "start_timers",
        [
            ("    await self._operations.put(puts)\n", ""),
            (
                "for wait in waits])",
                "for wait in waits])\n    await self._operations.put(puts)",
            ),
        ],
        first=100,
    ),
    "lets a cancelled call continue": Mutant(run.Run, "_raise_cancelled", [("raise Cancelled", "pass")], calm=True),
    "acknowledges before it puts again": Mutant(
        settling.Settler,
        "put_again",
        [
            (
                "    await self._operations.put([",
                "    await self._operations.ack([held.delivery])\n    await self._operations.put([",
            ),
        ],
    ),
    "drops a message in place of its release": Mutant(
        settling.Settler,
        "release",
        [
            (
                "await self._operations.queue.release([held.delivery], delay=await self._delay_in_queue(delay))",
                "await self._operations.ack([held.delivery])",
            )
        ],
    ),
    "marks a call before a client puts it": Mutant(
        starting.Starter,
        "_start_each",
        [
            ("    await self._operations.put([start.message for start in starts.values()])\n", ""),
            (
                "    self._clear_later(",
                "    await self._operations.put([start.message for start in starts.values()])\n    self._clear_later(",
            ),
        ],
    ),
    "settles an event without a guard": Mutant(
        returning.Returner,
        "settle",
        [("await self._put([(guarded, parent) for parent in guarded.to_wake(pending)], delay=delay)", "pass")],
    ),
    "ignores that a put failed": Mutant(
        operations.Operations,
        "_put",
        [
            (
                "await self._put_bodies(topic, bodies, delay=delay)",
                "await asyncio.wait({asyncio.ensure_future(self._put_bodies(topic, bodies, delay=delay))})",
            )
        ],
    ),
    "retries a call without the cause of its failure": Mutant(
        retrying.Retrier, "_take_back", [("while new:", "while new and False:")]
    ),
    "runs a call for the time of a tick, and not for its due time": Mutant(
        cursor.Cursor,
        "tick",
        [("self._put(text_of(tick)) for tick", "self._put(text_of(present)) for tick")],
        theme="schedules",
    ),
    "moves the cursor before it puts the calls of due times": Mutant(
        cursor.Cursor,
        "tick",
        [
            ("await asyncio.gather(*(self._put(text_of(tick)) for tick in chosen))", "pass"),
            (
                "    self._handled = handled\n    following",
                "    await asyncio.gather(*(self._put(text_of(tick)) for tick in chosen))\n    self._handled = handled\n    following",
            ),
        ],
        theme="schedules",
    ),
    "moves the cursor back": Mutant(
        cursor.Cursor,
        "tick",
        [("handled = max(known, default=present)", "handled = min([*known, present])")],
        theme="schedules",
    ),
    "no longer ticks after an error": Mutant(
        worker,
        "keep_ticking",
        [("due = clock() + min(policy.retry_delay(tries), LONGEST_RETRY)", "due = clock() + 10**9")],
        theme="schedules",
    ),
    "leaves a call marked whose message is dead-lettered": Mutant(
        settling.Settler,
        "_strand",
        [("await scheduler.strand(entry, buried, alone=over_limit)", "pass")],
        theme="letters",
    ),
    "leaves marks because a backend failed during the last delivery": Mutant(
        settling.Settler,
        "_strand",
        [("if away or not isinstance(error, BuriedError):", "if not isinstance(error, BuriedError):")],
        theme="letters",
        first=210,
    ),
    "dead-letters one delivery too early": Mutant(
        delivery.DeliveryHandler,
        "handle",
        [
            (
                "held.delivery.attempt > self._policy.max_deliveries",
                "held.delivery.attempt >= self._policy.max_deliveries",
            )
        ],
        theme="letters",
    ),
    "drops dead letters before their calls are completed": Mutant(
        letters.LetterSelection,
        "_settle",
        [
            (
                "        settled = await gather(",
                "        await box.drop(self._search.topic, ids_of(letters))\n        settled = await gather(",
            )
        ],
        theme="letters",
        first=60,
    ),
    "deletes the failure of a redriven call, and does not put it again": Mutant(
        retrying.Retrier,
        "put_back",
        [("count = await put()", "count = len(messages)")],
        theme="letters",
    ),
    "leaves the call of a cancelled schedule marked": Mutant(
        returning.Reassigner,
        "_reassign_one",
        [("(done,) = await self._operations.swap([Swap(key, record, encode_pending(after))])", "done = True")],
        theme="cancels",
    ),
    "marks a call whose message was dropped": Mutant(
        returning.Reassigner,
        "_reassign_one",
        [
            (
                "returns = self._with_drop(pending, entry) if cancelled else",
                "returns = pending.returns if cancelled else",
            )
        ],
        theme="cancels",
        first=30,
    ),
    "relies on the timer of another schedule": Mutant(
        running.Runner,
        "_defer",
        [("lost = self._control.in_use or ", "lost = ")],
        theme="cancels",
        first=9_090,
    ),
    "gives the call of a cancelled schedule to none of the others": Mutant(
        returning.Reassigner,
        "_reassign_one",
        [("for other in others:", "for other in ():")],
        theme="cancels",
    ),
    "reads rarely while it waits for a hint": Mutant(
        waiting._Wait,
        "begin_watch",
        [("self._pause = self._longest = READ_EVERY", "self._pause = self._longest = 60.0")],
        theme="waits",
    ),
    "counts no wake-ups": Mutant(
        returning.Returner,
        "_put",
        [
            (
                "charged = await self._budget.charge([entry.root_id for _, entry in entries])",
                "charged = [True] * len(entries)",
            )
        ],
        theme="limits",
    ),
    "leaves the marks above a call that a limit stopped": Mutant(
        returning.Reassigner,
        "_reassign_one",
        [("return pending.returns if go_on or pending.scheduled_at is not None else ()", "return ()")],
        theme="limits",
    ),
    "strands calls that other schedules need": Mutant(
        scheduling.Scheduler,
        "_strand_watchers",
        [("used_up = await self._budget.used_up(list(roots))", "used_up = set()")],
        theme="limits",
        first=39,
    ),
    "forgets the rest of a batch that failed": Mutant(
        batching.Batcher,
        "_fail",
        [("request.future.set_exception(error)", "request.future.set_result([None] * len(request.items))")],
    ),
}


def plant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace a function of the engine until the end of a test."""
    function = getattr(mutant.owner, mutant.function)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in mutant.changes:
        assert source.count(old) == 1, f"the engine has changed: {old!r} is {source.count(old)} times in\n{source}"
        source = source.replace(old, new)
    module = inspect.getmodule(function)
    assert module is not None
    names: dict[str, Any] = {}
    exec(compile(source, f"<mutant of {mutant.function}>", "exec"), module.__dict__, names)
    monkeypatch.setattr(mutant.owner, mutant.function, names[mutant.function])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if number >= QUICK else ())
        for number, name in enumerate(MUTANTS)
    ],
)
def test_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    plant(mutant, monkeypatch)
    how: dict[str, Any] = {"theme": mutant.theme, **({"kinds": ()} if mutant.calm else {})}
    assert any(simulate(mutant.first + number, **how).violations for number in range(HISTORIES))
