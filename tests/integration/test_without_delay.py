"""A queue that cannot delay: its worker holds a message that must wait, without a busy loop."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import brrr_core as brrr
from brrr_core.backend import Delivery, Queue, Roles
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.errors import CapabilityError
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, until_idle, working

TOO_MANY = 5
"""Parents that find no room in the child's record."""


def without_delay(queue: Queue) -> Queue:
    """Return the queue, which refuses every delay as if it did not declare `delay`."""
    put, release = queue.put, queue.release

    async def plain_put(topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        refuse(delay)
        await put(topic, bodies)

    async def plain_release(deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        refuse(delay)
        await release(deliveries)

    queue.put = plain_put  # type: ignore[method-assign]
    queue.release = plain_release  # type: ignore[method-assign]
    return queue


def refuse(delay: float) -> None:
    if delay:
        raise CapabilityError("this queue cannot delay")


async def put(instrument: Instrument, number: int) -> float:
    """Wait until this number of messages was put. Return the time."""

    async def enough() -> bool:
        return instrument.items["queue.put"] >= number

    await until(enough)
    return asyncio.get_running_loop().time()


def connected(backend: brrr.Connection | Roles, policy: brrr.Policy) -> brrr.Connection:
    assert backend.queue is not None
    assert backend.store is not None
    assert backend.cache is not None
    return brrr.Connection(without_delay(backend.queue), backend.store, backend.cache, policy=policy, delays=False)


async def test_failed_handler_runs_again_after_its_backoff() -> None:
    attempts: list[float] = []

    @brrr.handler_no_arg
    async def flaky() -> str:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "at last"

    async with brrr.open_backend("memory:") as backend:
        connection = connected(backend.roles, replace(QUICK, backoff=0.02, backoff_limit=0.02))
        async with working(connection, {"flaky": flaky}) as fleet:
            assert await fleet.run(flaky) == "at last"
            assert await fleet.idle() == (0, 0, 0, 0)
    assert all(later - sooner >= 0.01 for sooner, later in pairwise(attempts))  # half of the backoff is jitter


async def test_parent_waits_in_its_worker_if_its_child_has_too_many_parents() -> None:
    parents = RETURNS_LIMIT + TOO_MANY
    may_end = asyncio.Event()
    runs: Counter[str] = Counter()

    @brrr.handler_no_arg
    async def child() -> int:
        await may_end.wait()
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        runs["parent"] += 1
        return n * await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(parents))))

    policy = replace(QUICK, spawn_limit=100_000, backoff=0.05, backoff_limit=0.05)
    instrument = Instrument()
    async with brrr.open_backend("memory:") as backend:
        connection = connected(instrument.wrap(backend), policy)
        async with working(connection, {"top": top, "parent": parent, "child": child}) as fleet:
            await fleet.app.schedule(top, topic=TOPIC)()
            first = await put(instrument, 1 + parents + 1 + 1)  # each call once, and one parent again
            last = await put(instrument, 1 + parents + 1 + 1 + 4 * TOO_MANY)
            assert last - first >= 3 * 0.025  # each has waited three times at least, and did not spin
            may_end.set()
            assert await fleet.app.result(top, timeout=BOUND)() == 7 * sum(range(parents))
            assert await until_idle(connection.queue, [TOPIC]) == (0, 0, 0, 0)
    assert runs["parent"] <= 2 * parents


async def test_again_beyond_a_lease_is_refused_and_a_shorter_one_is_held(memory: str) -> None:
    runs: list[float] = []

    @brrr.handler_no_arg
    async def again(after: float) -> str:
        if after not in runs:
            runs.append(after)
            raise brrr.Again(after=after)
        return "done"

    async with brrr.open_backend(f"{memory}?lease=5s") as backend:
        connection = connected(await backend.open() if backend.queue is None else backend, QUICK)  # type: ignore[arg-type]
        async with working(connection, {"again": again}) as fleet:
            assert await fleet.run(again, 0.05) == "done"
            await fleet.app.schedule(again, topic=TOPIC)(6.0)
            (reason,) = await fleet.dead(1)
    assert "CapabilityError" in reason
    assert "at most one lease, 5 s" in reason


async def test_waits_and_delays_up_to_a_lease_are_held_by_workers() -> None:
    @brrr.handler_no_arg
    async def child() -> str:
        return "child"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[object]:
        await app.send(child, delay=0.02)()
        late = await app.call(child, delay=0.02)()
        await app.gather(app.sleep(0.02), app.sleep(0.03))
        return [late, await app.call(child, deadline=1)(), await app.event("go", deadline=1)]

    async with (
        brrr.open_backend("memory:?lease=5s") as backend,
        working(connected(backend, QUICK), {"child": child, "top": top}) as fleet,
    ):
        await fleet.app.event("go").complete("gone")
        assert await fleet.run(top) == ["child", "child", "gone"]
        assert await fleet.idle() == (0, 0, 0, 0)
