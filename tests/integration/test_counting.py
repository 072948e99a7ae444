"""Work grows linearly (invariant I5): counted in items of the store and the queue, never timed."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

import brrr_core as brrr
from brrr_core.engine.local_cache import ENTRY_OVERHEAD, ValueCache
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, over, until_idle, working
from tests.support.backends import EXPENSIVE, beside

POLICY = replace(QUICK, spawn_limit=1_000_000)


class Cost(NamedTuple):
    """Cost of a workflow for its worker, without the operations of the client."""

    store: int
    queue: int
    counted: int  # counters, one a root in a batch
    puts: int
    runs: Counter[str]


async def cost(
    url: str,
    handlers: Callable[[Counter[str]], Mapping[str, Any]],
    task: str,
    *args: Any,
    policy: brrr.Policy = POLICY,
    concurrency: int = 64,
) -> Cost:
    """Run one call to its end on a backend of its own."""
    runs: Counter[str] = Counter()
    instrument = Instrument()
    async with brrr.open_backend(url) as backend, brrr.connect(backend, policy=policy) as client:
        connection = over(instrument.wrap(backend), policy=policy)
        made = handlers(runs)
        async with working(connection, made, concurrency=concurrency):
            consumer = brrr.AppConsumer(codec="json", connection=client)
            await consumer.schedule(task, topic=TOPIC)(*args)
            await consumer.result(task, timeout=2 * BOUND)(*args)
            assert await until_idle(backend.queue, [TOPIC]) == (0, 0, 0, 0)
        await connection.close()
    items = instrument.items
    queue = items["queue.put"] + items["received"] + items["queue.ack"] + items["queue.release"]
    return Cost(instrument.total("store"), queue, items["cache.increment"], items["queue.put"], runs)


def fan_out(runs: Counter[str]) -> Mapping[str, Any]:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker, width: int) -> int:
        runs["top"] += 1
        return sum(await app.gather(*(app.call(leaf)(n) for n in range(width))))

    return {"top": top, "leaf": leaf}


def chain(runs: Counter[str]) -> Mapping[str, Any]:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker, length: int) -> int:
        runs["top"] += 1
        return sum([await app.call(leaf)(n) for n in range(length)])

    return {"top": top, "leaf": leaf}


def shared(runs: Counter[str]) -> Mapping[str, Any]:
    @brrr.handler_no_arg
    async def child() -> int:
        runs["child"] += 1
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        runs["parent"] += 1
        return n + await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker, width: int) -> int:
        runs["top"] += 1
        return sum(await app.gather(*(app.call(parent)(n) for n in range(width))))

    return {"top": top, "parent": parent, "child": child}


def deep(runs: Counter[str]) -> Mapping[str, Any]:
    @brrr.handler
    async def top(app: brrr.ActiveWorker, n: int) -> int:
        runs["top"] += 1
        return n and 1 + await app.call(top)(n - 1)

    return {"top": top}


def tree(runs: Counter[str]) -> Mapping[str, Any]:
    @brrr.handler
    async def top(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
        runs["top"] += 1
        if not depth:
            return 1
        return sum(await app.gather(app.call(top)(depth - 1, path + "l"), app.call(top)(depth - 1, path + "r")))

    return {"top": top}


def within(share: float, small: Cost, small_calls: int, large: Cost, large_calls: int) -> None:
    """Assert that the items per call are the same for both, up to this share."""
    for kind in ("store", "queue"):
        one, other = getattr(small, kind) / small_calls, getattr(large, kind) / large_calls
        assert other == pytest.approx(one, rel=share), f"{kind} items per call: {one:.3f} and {other:.3f}"


def at_most(share: float, small: Cost, small_calls: int, large: Cost, large_calls: int) -> None:
    """Assert that the items per call grow by no more than this share; with fuller batches they shrink."""
    for kind in ("store", "queue", "counted"):
        one, other = getattr(small, kind) / small_calls, getattr(large, kind) / large_calls
        assert other <= one * (1 + share), f"{kind} items per call: {one:.3f} and {other:.3f}"


@EXPENSIVE
async def test_wide_fan_out_costs_the_same_per_call_as_a_narrow_one(url: str) -> None:
    small = await cost(url, fan_out, "top", 1_000)
    large = await cost(beside(url), fan_out, "top", 10_000)

    assert small.runs["top"] <= 3
    assert large.runs["top"] <= 3
    within(0.05, small, 1_001, large, 10_001)
    assert large.puts <= 10_001 + 3  # each child once, and the few wake-ups of the parent


@pytest.mark.parametrize("concurrency", [1, 7, 64, 500])
async def test_parent_runs_at_most_three_times_at_any_concurrency(memory: str, concurrency: int) -> None:
    spent = await cost(memory, fan_out, "top", 1_000, concurrency=concurrency)
    assert spent.runs["top"] <= 3


@pytest.mark.parametrize(
    ("workflow", "small", "large", "calls"),
    [
        (shared, 100, 900, lambda n: n + 2),
        (deep, 50, 400, lambda n: n + 1),
        (tree, 5, 9, lambda depth: 2 ** (depth + 1) - 1),
    ],
    ids=["parents of one child", "depth", "tree"],
)
async def test_items_per_call_do_not_grow(
    memory: str, workflow: Any, small: int, large: int, calls: Callable[[int], int]
) -> None:
    little = await cost(memory, workflow, "top", small)
    much = await cost(beside(memory), workflow, "top", large)
    at_most(0.15, little, calls(small), much, calls(large))
    assert much.runs.total() <= 3 * calls(large)


async def test_chain_runs_its_parent_once_per_link_and_reads_each_link_equally_often(memory: str) -> None:
    little = await cost(memory, chain, "top", 50)
    much = await cost(beside(memory), chain, "top", 400)
    at_most(0.10, little, 51, much, 401)
    assert much.runs["top"] <= 401 + 2


async def test_value_cache_of_zero_bytes_costs_reads_but_no_messages(memory: str) -> None:
    with_cache = await cost(memory, tree, "top", 6)
    without = await cost(beside(memory), tree, "top", 6, policy=replace(POLICY, cache_bytes=0))
    assert without.puts <= with_cache.puts * 1.05
    assert without.runs["top"] <= with_cache.runs["top"] * 1.05


async def test_more_parents_than_a_record_holds_still_cost_the_same_each(memory: str) -> None:
    policy = replace(POLICY, backoff=0.5, backoff_limit=0.5)
    little = await cost(memory, shared, "top", 800, policy=policy)
    much = await cost(beside(memory), shared, "top", 2_400, policy=policy)
    at_most(0.10, little, 802, much, 2_402)


async def test_memory_of_worker_does_not_grow_with_its_work(memory: str) -> None:
    """A worker's own memory, measured between two workflows of one size that share nothing."""

    async def grown(work: Callable[[int], Awaitable[None]]) -> int:
        for n in range(2):
            await work(n)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for n in range(2, 5):
            await work(n)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    @brrr.handler_no_arg
    async def leaf(n: int, filling: str) -> str:
        return filling

    @brrr.handler
    async def top(app: brrr.ActiveWorker, start: int) -> int:
        return len(await app.gather(*(app.call(leaf)(start + n, "x" * 500) for n in range(400))))

    policy = replace(POLICY, cache_bytes=100_000)
    async with brrr.open_backend(memory) as backend:
        connection = over(backend, policy=policy)
        async with working(connection, {"top": top, "leaf": leaf}) as fleet:

            async def delivered() -> bool:
                """Whether the parent's delivery is over too: it holds all values a turn beyond its acknowledgement."""
                return not any(worker._running for worker in connection._workers)

            async def work(n: int) -> None:
                assert await fleet.run(top, n * 1_000) == 400
                await fleet.idle()
                await until(delivered)
                backend.queue._session.space.records.clear()  # type: ignore[attr-defined] # the records do not belong to a worker
                backend.queue._session.space.counters.clear()  # type: ignore[attr-defined]

            tracemalloc.start()
            try:
                assert await grown(work) < 200_000
            finally:
                tracemalloc.stop()
            assert connection._services.cache._size <= 100_000
            assert connection._services.history._size < 1_000
        await connection.close()


def test_value_cache_is_bounded_by_bytes() -> None:
    cache = ValueCache(10 * (ENTRY_OVERHEAD + 100))
    for n in range(1_000):
        cache.add(str(n), b"x" * 100)
    assert [n for n in range(1_000) if cache.get(str(n)) is not None] == list(range(990, 1_000))
