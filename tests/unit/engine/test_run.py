"""One run of a handler: the values that it finds, those that it misses, and the bounds of its memory."""

from collections import Counter
from collections.abc import Sequence
from math import inf

import brrr_core as brrr
from brrr_core.backend import Backend, Key
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.engine.calls import Child
from brrr_core.engine.local_cache import PREFETCH_LIMIT, RECHECK_LIMIT, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.run import Run
from brrr_core.engine.waits import Waits
from brrr_core.wire import Call
from brrr_testkit.faults.instrument import Instrument


def child(n: int) -> Child:
    return Child(Call("task", b"%d" % n, f"h{n}"), "t")


class Bench:
    """A run over an instrumented backend, and what it put early."""

    def __init__(self, backend: Backend, *, check: bool = False) -> None:
        self.instrument = Instrument()
        self.early: Counter[str] = Counter()
        roles = self.instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        operations = Operations(roles.queue, roles.store, roles.cache)
        self.run = Run(
            root_id="r",
            call=Call("parent", b"", "parent"),
            topic="t",
            attempt=1,
            operations=operations,
            cache=ValueCache(1_000_000),
            schedule=self.schedule,
            send=self.send,
            check=check,
            waits=Waits(Call("parent", b"", "parent"), operations, due=0, longest=inf),
        )

    async def send(self, run: Run, child: Child) -> None:
        raise AssertionError(child)

    async def schedule(self, run: Run, children: Sequence[Child]) -> None:
        self.early.update(each.call.call_hash for each in children)


async def test_values_come_in_order_and_what_is_known_is_not_read_again() -> None:
    async with brrr.open_backend("memory:") as backend:
        await backend.store.write([(Key("value", f"h{n}"), b"%d" % n) for n in range(5)])
        b = Bench(backend)
        order = [child(n) for n in (3, 1, 3, 4)]
        assert await b.run.look_up(order) == [b"3", b"1", b"3", b"4"]
        assert await b.run.look_up(order) == [b"3", b"1", b"3", b"4"]
        assert await b.run.look_up([child(3), child(0)]) == [b"3", b"0"]
        assert [len(operation.items) for operation in b.instrument.operations] == [4, 1]


async def test_missing_child_is_recorded_once() -> None:
    async with brrr.open_backend("memory:") as backend:
        await backend.store.write([(Key("value", "h1"), b"1")])
        b = Bench(backend)
        assert await b.run.look_up([child(1), child(2), child(2), child(3)]) == [b"1", None, None, None]
        assert list(b.run.missing) == ["h2", "h3"]
        assert b.early == {}


async def test_wide_fan_out_is_put_in_parts_and_never_in_memory_as_a_whole() -> None:
    width = 10 * BATCH_LIMIT
    async with brrr.open_backend("memory:") as backend:
        b = Bench(backend)
        for start in range(0, width, BATCH_LIMIT):
            await b.run.look_up([child(n) for n in range(start, start + BATCH_LIMIT)])
            assert len(b.run.missing) <= BATCH_LIMIT
        assert {*b.early, *b.run.missing} == {f"h{n}" for n in range(width)}
        assert set(b.early.values()) == {1}
        assert list(b.run.missing)[-1] == f"h{width - 1}"  # the last is the one to watch


async def test_summary_of_a_run_is_bounded() -> None:
    async with brrr.open_backend("memory:") as backend:
        b = Bench(backend)
        for start in range(0, 5 * BATCH_LIMIT, BATCH_LIMIT):
            await b.run.look_up([child(n) for n in range(start, start + BATCH_LIMIT)])
        past = b.run.summary()
        assert past.reads == tuple(f"h{n}" for n in range(PREFETCH_LIMIT))
        assert [each.call.call_hash for each in past.missing] == [
            f"h{n}" for n in range(5 * BATCH_LIMIT - RECHECK_LIMIT, 5 * BATCH_LIMIT)
        ]
        assert past.asked == ()
