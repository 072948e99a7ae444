"""A call that is scheduled again is not put again while its message exists, and recovers if it cannot continue."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Store
from brrr_core.engine.stranding import note_key, read_note
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import PendingReturns, decode_pending, encode_pending
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, Fleet, over, serving, working
from tests.support.losses import Stuck, chain, lose_everything, schedule_and_lose

ONCE = replace(QUICK, max_attempts=1)
LONG_AGO = 7_200


async def make_marks_old(store: Store, *call_hashes: str) -> None:
    """Move the marks of calls two hours into the past."""
    for call_hash in call_hashes:
        key = Key("pending_returns", call_hash)
        (record,) = await store.read([key])
        assert record is not None
        at = int(time.time()) - LONG_AGO
        await store.write([(key, encode_pending(decode_pending(record)._replace(scheduled_at=at)))])


async def pending_of(store: Store, call_hash: str) -> PendingReturns | None:
    (record,) = await store.read([Key("pending_returns", call_hash)])
    return None if record is None else decode_pending(record)


async def test_new_call_is_scheduled_in_one_step(memory: str) -> None:
    @brrr.handler_no_arg
    async def task() -> int:
        return 1

    async with brrr.open_backend(memory) as backend:
        instrument = Instrument()
        roles = instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        connection = brrr.Connection(roles.queue, roles.store, roles.cache, steps=roles.steps)
        client = brrr.AppConsumer(codec="json", connection=connection)
        done = await client.schedule(task, topic=TOPIC)()
        assert instrument.calls == {"steps.commit": 1}
        pending = await pending_of(backend.store, done.call_hash)
        assert (done.state, pending is not None and pending.scheduled_at is not None) == ("put", True)
        assert await backend.queue.stats(TOPIC) == (1, 0, 0, 0)
        assert (await client.schedule(task, topic=TOPIC)()).state == "scheduled"
        wide = await client.schedule("wide", topic=TOPIC, spawn_limit=50_000)()  # its counter begins below 0
        assert (wide.state, await backend.queue.stats(TOPIC)) == ("put", (2, 0, 0, 0))
        await connection.close()


async def test_mark_of_another_sdk_that_is_too_large_is_refused(memory: str) -> None:
    async with brrr.connect(memory) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        done = await client.schedule("task", topic=TOPIC)()
        record = b"d7:returnsle12:scheduled_ati1%se" % (b"0" * 309 + b"e")
        await connection.store.write([(Key("pending_returns", done.call_hash), record)])
        with pytest.raises(MalformedRecordError, match="64 bits"):
            await client.schedule("task", topic=TOPIC)()


async def test_five_schedules_run_a_slow_call_once(url: str) -> None:
    runs: Counter[str] = Counter()
    started, gate = asyncio.Event(), asyncio.Event()

    @brrr.handler_no_arg
    async def slow() -> int:
        runs["slow"] += 1
        started.set()
        await gate.wait()
        return 1

    async with brrr.open_backend(url) as backend:
        workers = [over(backend) for _ in range(2)]
        async with working(workers[0], {"slow": slow}), working(workers[1], {"slow": slow}) as fleet:
            first = await fleet.app.schedule(slow, topic=TOPIC)()
            async with asyncio.timeout(BOUND):
                await started.wait()
            clients = [brrr.AppConsumer(codec="json", connection=over(backend)) for _ in range(4)]
            again = [await client.schedule(slow, topic=TOPIC)() for client in clients]
            gate.set()
            assert await fleet.app.result(slow, timeout=BOUND)() == 1
            assert await fleet.idle() == (0, 0, 0, 0)
            done = await fleet.app.schedule(slow, topic=TOPIC)()
        for worker in workers:
            await worker.close()

    assert runs["slow"] == 1
    assert (first.state, done.state) == ("put", "done")
    assert {(each.state, each.root_id) for each in again} == {("scheduled", None)}
    assert all(abs(time.time() - (each.since or 0)) < BOUND for each in again)


async def test_schedules_that_one_client_makes_at_the_same_time_put_one_message(memory: str) -> None:
    async with brrr.connect(memory) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        done = await asyncio.gather(*(client.schedule("task", topic=TOPIC)(1) for _ in range(5)))
        assert sorted(each.state for each in done) == ["put", *["scheduled"] * 4]
        assert (await connection.queue.stats(TOPIC)).ready == 1


async def test_call_whose_message_is_lost_is_put_again_when_its_mark_is_old(url: str) -> None:
    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    async with brrr.connect(url) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        first = await client.schedule(leaf, topic=TOPIC)()
        assert await lose_everything(connection.queue) == 1
        assert (await client.schedule(leaf, topic=TOPIC)()).state == "scheduled"
        await make_marks_old(connection.store, first.call_hash)
        again = await client.schedule(leaf, topic=TOPIC)()
        assert (again.state, again.was_dead_lettered) == ("put", False)
        assert (await client.schedule(leaf, topic=TOPIC)()).state == "scheduled"  # its mark moved forward
        assert (await connection.queue.stats(TOPIC)).ready == 1


async def test_redrive_and_delay_put_a_call_in_any_case(memory: str) -> None:
    async with brrr.connect(memory) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        for n, (delay, redrive) in enumerate([(0, False), (0, True), (0, True)]):
            assert (await client.schedule("task", topic=TOPIC, delay=delay, redrive=redrive)()).state == "put"
            assert (await connection.queue.stats(TOPIC)).ready == n + 1
        for n in (1, 2):
            assert (await client.schedule("later", topic=TOPIC, delay=100)()).state == "put"
            assert (await connection.queue.stats(TOPIC)).delayed == n


async def test_client_without_resend_after_writes_no_mark(memory: str) -> None:
    async with brrr.connect(memory, policy=brrr.Policy(resend_after=None)) as connection:
        client = brrr.AppConsumer(codec="json", connection=connection)
        for n in (1, 2):
            done = await client.schedule("task", topic=TOPIC)()
            assert done.state == "put"
            assert await pending_of(connection.store, done.call_hash) is None
            assert (await connection.queue.stats(TOPIC)).ready == n


async def test_dead_lettered_call_is_put_again_by_the_next_schedule(url: str) -> None:
    mended = False

    @brrr.handler_no_arg
    async def fragile() -> int:
        if not mended:
            raise ValueError("broken")
        return 1

    async with serving(url, {"fragile": fragile}, policy=ONCE) as fleet:
        first = await fleet.app.schedule(fragile, topic=TOPIC)()
        await fleet.dead(1)
        mended = True
        again = await fleet.app.schedule(fragile, topic=TOPIC)()
        assert (again.state, again.was_dead_lettered) == ("put", True)
        assert again.root_id != first.root_id
        assert await fleet.app.result(fragile, timeout=BOUND)() == 1
        await fleet.idle()
        assert await fleet.connection.store.read([note_key(first.call_hash)]) == [None]


def poisoned(world: dict[str, bool], runs: Counter[str]) -> dict[str, Any]:
    """A workflow three calls deep, in which one call of a fan-out fails until it is mended."""

    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        runs[f"leaf {n}"] += 1
        if n == 1 and not world["mended"]:
            raise ValueError("poison")
        return n

    @brrr.handler
    async def middle(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf)(n) for n in range(4))))

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return 1 + await app.call(middle)()

    return {"leaf": leaf, "middle": middle, "top": top}


async def test_schedule_recovers_after_a_dead_lettered_descendant(url: str) -> None:
    world, runs = {"mended": False}, Counter[str]()
    async with serving(url, poisoned(world, runs), policy=ONCE) as fleet:
        first = await fleet.app.schedule("top", topic=TOPIC)()
        await fleet.dead(1)
        assert await fleet.idle() == (0, 0, 0, 1)
        assert runs["leaf 1"] == 1  # its root does not put it again when the parent registers on it

        (note,) = await fleet.connection.store.read([note_key(first.call_hash)])
        buried = read_note(note)
        assert buried is not None
        assert (buried.topic, buried.attempt, buried.call_hash != first.call_hash) == (TOPIC, 1, True)
        assert "poison" in buried.reason

        still = await fleet.app.schedule("top", topic=TOPIC)()
        assert (still.state, still.was_dead_lettered) == ("put", True)
        await fleet.dead(2)
        assert await fleet.idle() == (0, 0, 0, 2)
        assert runs["leaf 1"] == 2

        world["mended"] = True
        assert (await fleet.app.schedule("top", topic=TOPIC)()).was_dead_lettered
        assert await fleet.app.result("top", timeout=BOUND)() == 7
        await fleet.idle()
        assert runs == {"leaf 0": 1, "leaf 1": 3, "leaf 2": 1, "leaf 3": 1}
        assert await fleet.connection.store.read([note_key(first.call_hash), note_key(buried.call_hash)]) == [None] * 2


async def test_redriven_dead_letter_wakes_the_workflow_and_leaves_no_note(url: str) -> None:
    world, runs = {"mended": False}, Counter[str]()
    async with serving(url, poisoned(world, runs), policy=ONCE) as fleet:
        first = await fleet.app.schedule("top", topic=TOPIC)()
        await fleet.dead(1)
        await fleet.idle()
        (note,) = await fleet.connection.store.read([note_key(first.call_hash)])
        buried = read_note(note)
        assert buried is not None
        world["mended"] = True
        await fleet.connection.queue.redrive(TOPIC, limit=1)
        assert await fleet.app.result("top", timeout=BOUND)() == 7
        assert await fleet.idle() == (0, 0, 0, 0)
        keys = [note_key(first.call_hash), note_key(buried.call_hash)]
        assert await fleet.connection.store.read(keys) == [None, None]
    assert runs == {"leaf 0": 1, "leaf 1": 2, "leaf 2": 1, "leaf 3": 1}


async def test_other_workflow_puts_a_dead_lettered_call_again_and_both_end(url: str) -> None:
    world, runs = {"mended": False}, Counter[str]()
    handlers = poisoned(world, runs)

    @brrr.handler
    async def other(app: brrr.ActiveWorker) -> int:
        value: int = await app.call(handlers["middle"])()
        return 10 + value

    async with serving(url, {**handlers, "other": other}, policy=ONCE) as fleet:
        await fleet.app.schedule("top", topic=TOPIC)()
        await fleet.dead(1)
        await fleet.idle()
        world["mended"] = True
        assert await fleet.run(other) == 16
        assert await fleet.app.result("top", timeout=BOUND)() == 7


async def test_schedule_recovers_after_all_messages_were_lost_long_ago(url: str) -> None:
    stuck = Stuck()
    deep = chain(stuck)
    async with brrr.open_backend(url) as backend:
        await schedule_and_lose(backend, deep, 5, stuck)
        connection = over(backend)
        async with working(connection, {"deep": deep}) as fleet:
            hashes = [fleet.app._catalogue.encode(deep, (n,), {}).call_hash for n in range(6)]
            await make_marks_old(backend.store, *hashes)
            assert (await fleet.app.schedule(deep, topic=TOPIC)(5)).state == "put"
            assert await fleet.app.result(deep, timeout=BOUND)(5) == 5
        await connection.close()


async def test_parent_that_wakes_puts_a_child_with_an_old_mark_again(url: str) -> None:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf, topic=f"leaves {n}")(n) for n in (1, 2))))

    handlers = {"leaf": leaf, "top": top}
    async with brrr.open_backend(url) as backend:
        connection = over(backend)
        async with working(connection, handlers) as fleet:
            await fleet.app.schedule(top, topic=TOPIC)()
            await fleet.idle()
            assert await lose_everything(backend.queue, "leaves 1") == 1
            await make_marks_old(backend.store, fleet.app._catalogue.encode(leaf, (1,), {}).call_hash)
            async with working(over(backend), handlers, topics=("leaves 1", "leaves 2")):
                assert await fleet.app.result(top, timeout=BOUND)() == 3
        await connection.close()


async def test_schedule_recovers_after_a_task_that_the_topic_does_not_know(url: str) -> None:
    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    def top_that_calls(topic: str) -> dict[str, Any]:
        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            return await app.call(leaf, topic=topic)()

        return {"top": top, "leaf": leaf}

    async with brrr.open_backend(url) as backend:
        for topic in ("wrong", "right"):
            connections = [over(backend, policy=ONCE) for _ in range(3)]
            async with (
                working(connections[0], top_that_calls(topic)) as fleet,
                working(connections[1], {}, topics=("wrong",)) as wrong,
                working(connections[2], {"leaf": leaf}, topics=("right",)),
            ):
                await fleet.app.schedule("top", topic=TOPIC)()
                if topic == "wrong":
                    await wrong.dead(1)
                    await fleet.idle()
                else:
                    assert await fleet.app.result("top", timeout=BOUND)() == 1
            for connection in connections:
                await connection.close()


async def test_call_on_a_topic_without_workers_is_reported_and_put_elsewhere_by_a_redrive(url: str) -> None:
    @brrr.handler_no_arg
    async def leaf() -> int:
        return 1

    async def scheduled(fleet: Fleet, *, topic: str = TOPIC, redrive: bool = False) -> str:
        return (await fleet.app.schedule(leaf, topic=topic, redrive=redrive)()).state

    async with serving(url, {"leaf": leaf}) as fleet:
        assert await scheduled(fleet, topic="misspelt") == "put"
        assert await scheduled(fleet) == "scheduled"
        assert await scheduled(fleet, redrive=True) == "put"
        assert await fleet.app.result(leaf, timeout=BOUND)() == 1


async def test_schedule_after_a_spawn_limit_is_put_at_any_time_after_it_ended(url: str) -> None:
    @brrr.handler
    async def chain(app: brrr.ActiveWorker, n: int) -> int:
        return 1 + await app.call(chain)(n - 1) if n else 0

    async with serving(url, {"chain": chain}, policy=replace(QUICK, spawn_limit=4)) as fleet:
        for limit in (1, 4, 7):
            await fleet.app.schedule(chain, topic=TOPIC, spawn_limit=limit)(8)
            await fleet.idle()
        done = await fleet.app.schedule(chain, topic=TOPIC, spawn_limit=100)(8)
        assert done.state == "put"
        assert await fleet.app.result(chain, timeout=BOUND)(8) == 8
