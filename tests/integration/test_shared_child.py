"""One child that more parents wait for than its record has room for."""

import asyncio
from collections import Counter
from dataclasses import replace

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine.policy import RETURNS_LIMIT
from brrr_core.wire import decode_pending
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, over, serving, working
from tests.support.backends import EXPENSIVE

PARENTS = 3 * RETURNS_LIMIT
TIMEOUT = 4 * BOUND
"""Seconds. Parents that found no room look again repeatedly, on NATS even before the others have run."""


@EXPENSIVE
async def test_three_thousand_parents_of_one_child(url: str) -> None:
    may_end = asyncio.Event()
    runs: Counter[str] = Counter()
    most = 0

    @brrr.handler_no_arg
    async def child() -> int:
        runs["child"] += 1
        await may_end.wait()
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        runs["parent"] += 1
        return n * await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(PARENTS))))

    policy = replace(QUICK, spawn_limit=100_000, backoff=0.5, backoff_limit=4.0)
    async with serving(url, {"top": top, "parent": parent, "child": child}, policy=policy) as fleet:
        await fleet.app.schedule(top, topic=fleet.topics[0])()
        call_hash = fleet.app._catalogue.encode(child, (), {}).call_hash
        async with asyncio.timeout(TIMEOUT):
            while runs["parent"] < PARENTS or most < RETURNS_LIMIT:
                (record,) = await fleet.connection.store.read([Key("pending_returns", call_hash)])
                most = max(most, len(decode_pending(record).returns) if record else 0)
                await asyncio.sleep(0.1)  # a look decodes a full record
        assert most == RETURNS_LIMIT  # never more than full: parents that found no room look again later
        may_end.set()
        assert await fleet.app.result(top, timeout=TIMEOUT)() == 7 * sum(range(PARENTS))
        assert await fleet.idle() == (0, 0, 0, 0)
    assert runs["child"] == 1
    assert runs["parent"] <= 2 * PARENTS  # a look is not a run; the last parents found the value


async def test_wait_for_room_uses_up_no_attempts(memory: str) -> None:
    parents = RETURNS_LIMIT + 1
    may_end = asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        await may_end.wait()
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return n * await app.call(child)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(parent)(n) for n in range(parents))))

    charged = 2 * parents + 40  # each is put, and woken; the rest for top, which a busy machine wakes again and again
    policy = replace(QUICK, backoff_limit=0.02, spawn_limit=charged, max_attempts=1, max_deliveries=1)
    instrument = Instrument()

    async def waited() -> bool:
        return instrument.items["queue.put"] >= parents + 60  # more looks than the charge has room for

    async with brrr.open_backend(memory) as backend:
        connection = over(instrument.wrap(backend), policy=policy)
        async with working(connection, {"top": top, "parent": parent, "child": child}) as fleet:
            await fleet.app.schedule(top, topic=TOPIC)()
            await until(waited)
            may_end.set()
            assert await fleet.app.result(top, timeout=BOUND)() == 7 * sum(range(parents))
            assert await fleet.idle() == (0, 0, 0, 0)  # none was dead-lettered
