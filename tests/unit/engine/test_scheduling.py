"""Putting children: the message before the mark, once for any number of parents, within every root's limit."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.engine.calls import Child
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.engine.returning import Reassigner, Returner
from brrr_core.engine.roots import SpawnBudget, new_root_id
from brrr_core.engine.scheduling import MARKS_LIMIT, Placed, ScheduleOutcome, Scheduler, ScheduleRequest
from brrr_core.errors import SpawnLimitError
from brrr_core.wire import (
    Call,
    PendingReturn,
    PendingReturns,
    count_key,
    decode_message,
    decode_pending,
    encode_pending,
)
from brrr_testkit.faults.instrument import Instrument, Operation

SCHEDULED = Placed(ScheduleOutcome.SCHEDULED)


class Bench:
    """A scheduler over an instrumented memory backend."""

    def __init__(self, backend: object, spawn_limit: int) -> None:
        self.backend, self.instrument = backend, Instrument()
        roles = self.instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        self.store, self.cache = backend.store, backend.cache  # type: ignore[attr-defined]
        self.operations = Operations(roles.queue, roles.store, roles.cache)
        budget = SpawnBudget(self.operations, spawn_limit)
        returner = Returner(self.operations, budget, ValueCache(1_000))
        self.scheduler = Scheduler(self.operations, budget, returner)
        self.reassigner = Reassigner(self.operations, budget, returner)

    @property
    def puts(self) -> Counter[tuple[str, ...]]:
        return Counter(
            tuple(decode_message(body))
            for operation in self.instrument.operations
            if operation.name == "queue.put"
            for body in operation.items
        )

    async def pending(self, call_hash: str) -> PendingReturns | None:
        (record,) = await self.store.read([Key("pending_returns", call_hash)])
        return None if record is None else decode_pending(record)

    async def mark(self, call_hash: str, pending: PendingReturns) -> None:
        await self.store.write([(Key("pending_returns", call_hash), encode_pending(pending))])


@asynccontextmanager
async def bench(spawn_limit: int = 10_000) -> AsyncIterator[Bench]:
    async with brrr.open_backend("memory:") as backend:
        yield Bench(backend, spawn_limit)


def child(name: str) -> Child:
    return Child(Call("task", b"[]", name), "topic")


def parent(root: str, name: str = "parent") -> PendingReturn:
    return PendingReturn(root, name, "topic")


async def test_call_is_written_then_put_then_marked() -> None:
    async with bench() as b:
        await b.scheduler.schedule([ScheduleRequest(child("c"), "r", parent("r"))])
        names = [operation.name for operation in b.instrument.operations]
        assert names.index("store.write") < names.index("queue.put") < names.index("store.swap")
        assert names.index("cache.increment") < names.index("queue.put")
        pending = await b.pending("c")
        assert pending is not None
        assert pending.returns == (parent("r"),)
        assert pending.scheduled_at is not None


async def test_child_of_many_parents_is_put_once_and_marked_in_one_swap() -> None:
    async with bench() as b:
        wants = [[ScheduleRequest(child("c"), "r", parent("r", f"p{n}"))] for n in range(20)]
        outcomes = await asyncio.gather(*(b.scheduler.schedule(want) for want in wants))
        assert outcomes == [[SCHEDULED]] * 20
        assert b.puts == {("r", "c"): 1}
        assert b.instrument.items["store.swap"] == 1
        assert len((await b.pending("c")).returns) == 20  # type: ignore[union-attr]


async def test_marked_child_is_not_put_again() -> None:
    async with bench() as b:
        await b.scheduler.schedule([ScheduleRequest(child("c"), "r")])
        before = dict(b.instrument.items)
        await b.scheduler.schedule([ScheduleRequest(child("c"), "other")])
        assert b.puts == {("r", "c"): 1}
        assert b.instrument.items["store.read"] == before["store.read"] + 1
        assert {**b.instrument.items, "store.read": 0} == {**before, "store.read": 0}  # it costs only a look


async def test_child_without_a_mark_is_put_and_marked() -> None:
    async with bench() as b:
        await b.mark("c", PendingReturns((parent("old"),), None))
        await b.scheduler.schedule([ScheduleRequest(child("c"), "r", parent("r"))])
        assert b.puts == {("r", "c"): 1}
        pending = await b.pending("c")
        assert pending is not None
        assert pending.returns == (parent("old"), parent("r"))
        assert pending.scheduled_at is not None


async def test_lost_swap_is_retried_and_puts_nothing_twice() -> None:
    async with bench() as b:

        async def interfere(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] <= 2:
                n = b.instrument.calls["store.swap"]
                await b.mark("c", PendingReturns(tuple(parent("x", f"x{m}") for m in range(n)), None))

        b.instrument.before = interfere
        assert await b.scheduler.schedule([ScheduleRequest(child("c"), "r", parent("r"))]) == [SCHEDULED]
        assert b.puts == {("r", "c"): 1}
        pending = await b.pending("c")
        assert pending is not None
        assert set(pending.returns) == {parent("r"), parent("x", "x0"), parent("x", "x1")}  # no parent is lost


async def test_child_that_completes_during_registration_is_put_again() -> None:
    """Its record is gone, so it is unknown whether the parent will wake. A second message is harmless."""
    async with bench() as b:
        await b.mark("c", PendingReturns((), 5))

        async def complete(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 1:
                await b.store.swap([Swap(Key("pending_returns", "c"), encode_pending(PendingReturns((), 5)), None)])

        b.instrument.before = complete
        await b.scheduler.schedule([ScheduleRequest(child("c"), "r", parent("r"))])
        assert b.puts == {("r", "c"): 1}
        pending = await b.pending("c")
        assert pending is not None
        assert pending.returns == (parent("r"),)


async def test_full_record_turns_away_further_parents() -> None:
    async with bench() as b:
        watchers = [parent("r", f"p{n:04}") for n in range(RETURNS_LIMIT + 5)]
        outcomes = await asyncio.gather(
            *(b.scheduler.schedule([ScheduleRequest(child("c"), "r", w)]) for w in watchers)
        )
        assert Counter(placed.outcome for (placed,) in outcomes) == {
            ScheduleOutcome.SCHEDULED: RETURNS_LIMIT,
            ScheduleOutcome.FULL: 5,
        }
        pending = await b.pending("c")
        assert pending is not None
        assert len(pending.returns) == RETURNS_LIMIT
        again = await b.scheduler.schedule([ScheduleRequest(child("c"), "r", pending.returns[0])])
        assert again == [SCHEDULED]  # who is in it already stays in it


@pytest.mark.parametrize("spent_first", [True, False])
async def test_child_is_put_for_a_root_within_its_limit(spent_first: bool) -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10})
        roots = ["spent", "rich"] if spent_first else ["rich", "spent"]
        outcomes = await asyncio.gather(
            *(b.scheduler.schedule([ScheduleRequest(child("c"), root, parent(root))]) for root in roots)
        )
        assert outcomes == [[SCHEDULED]] * 2  # it is on a queue, and both will be woken
        assert b.puts == {("rich", "c"): 1}
        pending = await b.pending("c")
        assert pending is not None
        assert set(pending.returns) == {parent("rich"), parent("spent")}


async def test_root_over_its_limit_puts_nothing_and_does_not_affect_other_roots() -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10})
        spent, rich = await asyncio.gather(
            b.scheduler.schedule([ScheduleRequest(child("a"), "spent", parent("spent"))]),
            b.scheduler.schedule([ScheduleRequest(child("b"), "rich", parent("rich"))]),
            return_exceptions=True,
        )
        assert isinstance(spent, SpawnLimitError)
        assert "spent" in str(spent)
        assert rich == [SCHEDULED]
        assert b.puts == {("rich", "b"): 1}
        assert await b.pending("a") is None  # nothing says that it was put


async def test_last_message_within_the_limit_is_put() -> None:
    async with bench(spawn_limit=3) as b:
        await b.scheduler.schedule([ScheduleRequest(child(name), "r") for name in "abc"])
        with pytest.raises(SpawnLimitError, match="more than 3"):
            await b.scheduler.schedule([ScheduleRequest(child("d"), "r")])
        assert b.puts == {("r", name): 1 for name in "abc"}


def redrive(ahead: int = 0) -> str:
    """A redrive's root by a clock that is some seconds ahead."""
    return new_root_id("call", redriven_at=int(time.time()) + ahead)


@pytest.mark.parametrize("ahead", [-30, 0, 30], ids="{} s ahead".format)
async def test_each_redrive_puts_a_child_once_more(ahead: int) -> None:
    async with bench() as b:
        await b.scheduler.schedule([ScheduleRequest(child("c"), "lost", parent("lost"))])
        roots = [redrive(), redrive(ahead), redrive()]
        for root in roots:
            for _ in range(3):
                await b.scheduler.schedule([ScheduleRequest(child("c"), root, parent(root))])
        for root in roots:
            await b.scheduler.schedule([ScheduleRequest(child("c"), root, parent(root))])
        assert b.puts == {("lost", "c"): 1} | {(root, "c"): 1 for root in roots}
        pending = await b.pending("c")
        assert pending is not None
        assert {parent("lost"), *map(parent, roots)} < set(pending.returns)


async def test_redrives_that_want_a_child_at_the_same_time_each_put_it_once() -> None:
    async with bench() as b:
        await b.scheduler.schedule([ScheduleRequest(child("c"), "lost")])
        roots = [redrive(), redrive()]
        for _ in range(2):
            await asyncio.gather(
                *(b.scheduler.schedule([ScheduleRequest(child("c"), root)]) for root in ("plain", *roots))
            )
        assert b.puts == {("lost", "c"): 1} | {(root, "c"): 1 for root in roots}


async def test_redrive_puts_a_child_once_even_if_it_is_requested_on_two_topics() -> None:
    async with bench() as b:
        root = redrive()
        await b.scheduler.schedule([ScheduleRequest(child("c")._replace(topic="misspelt"), "lost")])
        await b.scheduler.schedule([ScheduleRequest(child("c"), root)])
        await b.scheduler.schedule([ScheduleRequest(child("c")._replace(topic="other"), root)])
        ready = {topic: (await b.operations.queue.stats(topic)).ready for topic in ("misspelt", "topic", "other")}
        assert ready == {"misspelt": 1, "topic": 1, "other": 0}


async def test_redrive_puts_child_once_if_its_swap_loses() -> None:
    async with bench() as b:
        root = redrive()

        async def interfere(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 1:
                await b.mark("c", PendingReturns((parent("x"),), int(time.time())))

        b.instrument.before = interfere
        await b.scheduler.schedule([ScheduleRequest(child("c"), root)])
        assert b.puts == {(root, "c"): 1}


async def test_child_put_certainly_after_the_redrive_is_not_put_again() -> None:
    async with bench() as b:
        await b.mark("c", PendingReturns((), int(time.time())))
        await b.scheduler.schedule([ScheduleRequest(child("c"), redrive(-61))])
        assert b.puts == {}


async def test_mark_in_the_far_future_does_not_hide_child_from_redrive() -> None:
    async with bench() as b:
        root = redrive()
        await b.mark("c", PendingReturns((), int(time.time()) + 7_200))
        for _ in range(2):
            await b.scheduler.schedule([ScheduleRequest(child("c"), root)])
        assert b.puts == {(root, "c"): 1}


async def test_record_keeps_a_bounded_number_of_redrives() -> None:
    async with bench() as b:
        await b.scheduler.schedule([ScheduleRequest(child("c"), "lost", parent("lost"))])
        await b.scheduler.schedule([ScheduleRequest(child("c"), redrive(-61), parent("old"))])
        roots = [redrive() for _ in range(MARKS_LIMIT + 5)]
        for root in roots:
            await b.scheduler.schedule([ScheduleRequest(child("c"), root)])
        pending = await b.pending("c")
        assert pending is not None
        assert len(pending.returns) == 2 + MARKS_LIMIT
        assert {parent("lost"), parent("old")} < set(pending.returns)


async def test_redrive_over_its_limit_leaves_child_to_other_roots() -> None:
    async with bench(spawn_limit=10) as b:
        root = redrive()
        await b.cache.increment({count_key(root): 10})
        await b.mark("c", PendingReturns((), int(time.time())))
        wants = [[ScheduleRequest(child("c"), root)], [ScheduleRequest(child("c"), "rich")]]
        outcomes = await asyncio.gather(*map(b.scheduler.schedule, wants))
        assert outcomes == [[SCHEDULED]] * 2
        assert b.puts == {("rich", "c"): 1}


async def test_call_is_handed_over_to_a_root_within_its_limit() -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10, count_key("poor"): 10})
        returns = (parent("poor"), parent("rich", "p2"), parent("rich"), parent("spent"))
        await b.mark("c", PendingReturns(returns, 5))
        await b.reassigner.reassign(PendingReturn("spent", "c", "topic"), again=False)
        assert b.puts == {("rich", "c"): 1}
        assert await b.pending("c") == PendingReturns(returns, 5)


async def test_call_that_no_root_can_afford_loses_its_mark_for_the_next_root() -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10, count_key("poor"): 10})
        await b.mark("c", PendingReturns((parent("poor"), parent("spent")), 5))
        await b.reassigner.reassign(PendingReturn("spent", "c", "topic"), again=False)
        assert b.puts == {}
        gave_up = PendingReturn("spent", "c", "topic")
        assert await b.pending("c") == PendingReturns(tuple(sorted((parent("poor"), parent("spent"), gave_up))), None)
        await b.scheduler.schedule([ScheduleRequest(child("c"), "rich", parent("rich"))])
        assert b.puts == {("rich", "c"): 1}


async def test_call_whose_message_was_dropped_gets_no_mark_after_another_schedule_put_it_meanwhile() -> None:
    """The other schedule is cancelled too: its put removed the first note, and its drop left another one."""
    async with bench() as b:
        other = Bench(b.backend, 10_000)
        entries = [PendingReturn(root, "c", "topic") for root in ("slow", "other")]

        async def meanwhile(operation: Operation) -> None:
            if operation.name == "store.swap":
                b.instrument.before = b.instrument.after
                await b.store.write([(Key("value", "brrr.cancelled/slow"), b"")])
                await other.reassigner.reassign(entries[0], again=False, cancelled=True)
                await other.scheduler.schedule([ScheduleRequest(child("c"), "other")])
                await other.reassigner.reassign(entries[1], again=False, cancelled=True)

        b.instrument.before = meanwhile
        (placed,) = await b.scheduler.schedule([ScheduleRequest(child("c"), "slow", parent("slow"))])
        assert placed.cancelled
        pending = await b.pending("c")
        assert pending is not None
        assert pending.scheduled_at is None
        assert (b.puts, other.puts) == ({("slow", "c"): 1}, {("other", "c"): 1})


async def test_parent_that_registers_during_handover_is_seen() -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10})
        await b.mark("c", PendingReturns((parent("spent"),), 5))

        async def come(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 1:
                await b.mark("c", PendingReturns((parent("rich"), parent("spent")), 5))

        b.instrument.before = come
        await b.reassigner.reassign(PendingReturn("spent", "c", "topic"), again=False)
        assert b.puts == {("rich", "c"): 1}


@pytest.mark.parametrize("again", [False, True])
async def test_parents_of_a_handed_over_call_are_handed_over_too(again: bool) -> None:
    """c was left, and its parent p and grandparent g wait with roots that are all over their limits."""
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10})
        at = None if again else 5  # one that died had got so far
        await b.mark("c", PendingReturns((parent("spent", "p"),), None))
        await b.mark("p", PendingReturns((parent("spent", "g"),), at))
        await b.mark("g", PendingReturns((parent("spent", "top"), parent("spent", "c")), 5))
        await b.reassigner.reassign(PendingReturn("spent", "c", "topic"), again=again)
        marked = {name: (await b.pending(name)).scheduled_at for name in "cpg"}  # type: ignore[union-attr]
        assert marked == dict.fromkeys("cpg")
        assert b.puts == {}


async def test_parent_of_a_stuck_call_continues_for_another_waiting_root() -> None:
    async with bench(spawn_limit=10) as b:
        await b.cache.increment({count_key("spent"): 10})
        await b.mark("c", PendingReturns((parent("spent", "p"),), 5))
        await b.mark("p", PendingReturns((PendingReturn("rich", "q", "others"), parent("spent", "g")), 5))
        await b.mark("g", PendingReturns((parent("spent", "top"),), 5))
        await b.reassigner.reassign(PendingReturn("spent", "c", "topic"), again=False)
        assert b.puts == {("rich", "p"): 1}
        assert (await b.pending("g")).scheduled_at == 5  # type: ignore[union-attr]
