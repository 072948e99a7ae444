"""Operations started during one commit share the next one. A failing operation fails alone."""

import asyncio

import pytest

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_sqlite import group_commit
from brrr_testkit.waiting import until


def key(n):
    return Key("value", str(n))


async def test_operations_started_during_a_commit_share_the_next_one(backend, blocked_thread):
    queue, store, cache = backend.queue, backend.store, backend.cache
    await queue.put("t", [b"%d" % n for n in range(8)])
    held = await queue.receive("t", limit=8, wait=0)
    before = backend.transactions, backend._transactions.groups
    async with blocked_thread(backend):
        operations = [
            asyncio.ensure_future(coroutine)
            for n in range(8)
            for coroutine in (
                queue.put("t", [b"x"]),
                queue.receive("u", limit=1, wait=0),
                queue.ack([held[n]]),
                store.read([key(n)]),
                store.write([(key(n), b"1")]),
                store.swap([Swap(key(n), b"1", b"2")]),
                cache.increment({"c": 1}),
                queue.stats("t"),
            )
        ]
        await asyncio.sleep(0)
        assert not any(task.done() for task in operations)
    assert len(await asyncio.gather(*operations)) == 64
    assert backend.transactions - before[0] == 1
    assert backend._transactions.groups - before[1] == 1
    assert await store.read([key(n) for n in range(8)]) == [b"2"] * 8
    assert await cache.increment({"c": 0}) == {"c": 8}


async def test_concurrent_callers_share_transactions(backend):
    async def caller(n):
        for turn in range(20):
            await backend.store.write([(key(n), b"%d" % turn)])

    before = backend.transactions
    await asyncio.gather(*map(caller, range(64)))
    assert backend.transactions - before <= 64 * 20 / 16


async def test_group_of_reads_takes_no_lock(backend, blocked_thread):
    before = backend.transactions
    await asyncio.gather(*(backend.store.read([key(n)]) for n in range(64)))
    assert await backend.queue.receive("t", limit=1, wait=0) == []
    assert backend.transactions == before


async def test_read_sees_writes_started_before_it(backend, blocked_thread):
    async with blocked_thread(backend):
        operations = asyncio.gather(
            backend.store.write([(key(0), b"1")]),
            backend.store.read([key(0)]),
            backend.store.write([(key(0), b"2")]),
            backend.store.read([key(0)]),
        )
        await asyncio.sleep(0)
    assert await operations == [None, [b"1"], None, [b"2"]]


async def test_large_group_is_split(backend, blocked_thread, monkeypatch):
    monkeypatch.setattr(group_commit, "MAX_GROUP_OPERATIONS", 10)
    before = backend.transactions
    async with blocked_thread(backend):
        operations = asyncio.gather(*(backend.store.write([(key(n), b"1")]) for n in range(35)))
        await asyncio.sleep(0)
    await operations
    assert backend.transactions - before == 4


async def test_failing_operation_fails_alone(backend, blocked_thread):
    for amount in (2**62, 2**62 - 1):
        await backend.cache.increment({"full": amount})
    async with blocked_thread(backend):
        operations = asyncio.gather(
            backend.queue.put("t", [b"x"]),
            backend.store.swap([Swap(key(0), None, b"1")]),
            backend.cache.increment({"other": 1, "full": 1}),
            backend.store.read([key(0)]),
            backend.queue.receive("t", limit=9, wait=0),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    put, swapped, failed, read, received = await operations
    assert (put, swapped, read, [d.attempt for d in received]) == (None, [True], [b"1"], [1])
    assert isinstance(failed, BackendError)
    assert failed.__cause__ is not None
    assert await backend.cache.increment({"other": 0}) == {"other": 0}


async def test_unexpected_error_does_not_stop_the_group_commit(backend, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(backend._transactions, "run", broken)
    with pytest.raises(BackendError, match="unforeseen"):
        await backend.store.read([key(0)])
    monkeypatch.undo()
    assert await backend.store.read([key(0)]) == [None]


@pytest.mark.parametrize("taken", [False, True])
async def test_cancelled_put_stores_all_messages_or_none(backend, blocked_thread, taken):
    bodies = [b"x"] * 1000
    async with blocked_thread(backend):
        if not taken:
            first = asyncio.ensure_future(backend.store.read([key(0)]))  # runs in an earlier group
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        put = asyncio.ensure_future(backend.queue.put("t", bodies))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        put.cancel()
        await asyncio.wait([put])
    if not taken:
        await first  # pyright: ignore[reportGeneralTypeIssues, reportPossiblyUnboundVariable]
    assert (await backend.queue.stats("t")).ready == (1000 if taken else 0)


async def test_closing_finishes_pending_operations(make, blocked_thread):
    backend = make()
    await backend.open()
    store = backend.store
    async with blocked_thread(backend):
        write = asyncio.ensure_future(store.write([(key(0), b"1")]))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(backend.close())
        await asyncio.sleep(0)
        with pytest.raises(BackendClosedError):
            await store.read([key(0)])
    await write
    await closing
    async with backend:
        assert await backend.store.read([key(0)]) == [b"1"]


async def test_cancelled_close_still_ends_the_thread(make, path):
    import sqlite3

    backend = make(busy_timeout=3600.0)
    await backend.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(backend.store.write([(key(0), b"1")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(backend.close())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing, write])
    assert closing.cancelled()
    assert isinstance(write.exception(), BackendClosedError | BackendUnavailableError)
    other.close()


async def test_open_backend_runs_no_task(backend):
    await backend.queue.put("t", [b"x"])
    receiver = asyncio.ensure_future(backend.queue.receive("u", limit=1, wait=60))
    await until(lambda: backend._commits.receivers._waiting)
    assert asyncio.all_tasks() == {asyncio.current_task(), receiver}
    receiver.cancel()
    await asyncio.wait([receiver])


def test_backend_works_after_an_error_ended_the_loop_within_a_step(make, blocked_thread, monkeypatch):
    def interrupted(*_, **__):
        raise SystemExit  # a signal handler may do so at any point

    async def ask():
        async with blocked_thread(backend):
            running = asyncio.ensure_future(backend.queue.put("t", [b"x"]))
            await until(lambda: backend._commits._running)
            pending = asyncio.ensure_future(backend.queue.put("t", [b"x"]))
            await until(lambda: backend._commits._pending)
        await asyncio.wait([running, pending])

    backend = make()
    with asyncio.Runner() as runner:
        runner.run(backend.open())
        with monkeypatch.context() as patch:
            patch.setattr(group_commit.GroupCommit, "_settle_group", interrupted)
            with pytest.raises(SystemExit):
                runner.run(ask())
        assert runner.run(asyncio.wait_for(backend.queue.stats("t"), 10)).ready == 2
        runner.run(backend.close())


async def test_operation_runs_after_a_cancelled_one_lost_its_step(backend, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(group_commit.GroupCommit, "_step", lambda *_: None)
        lost = asyncio.ensure_future(backend.store.read([key(0)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    lost.cancel()
    assert await backend.store.read([key(0)]) == [None]


async def test_operation_without_company_starts_its_group_immediately(backend):
    for n in range(group_commit.GROUPS_WITHOUT_COMPANY):
        await backend.store.read([key(n)])
    before = backend._transactions.groups
    first = asyncio.create_task(backend.store.write([(key(0), b"1")]))
    await asyncio.sleep(0)
    assert backend._commits._running is not None
    others = [asyncio.create_task(backend.store.write([(key(n), b"1")])) for n in (1, 2)]

    await asyncio.gather(first, *others)

    assert backend._transactions.groups - before == 2
    third = asyncio.create_task(backend.store.write([(key(3), b"1")]))
    await asyncio.sleep(0)
    assert backend._commits._running is None, "the last group had company, so this one waits for it"
    await third
