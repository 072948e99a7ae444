"""Steps: each call is one transaction, each step is applied as a whole or not at all, and cancelling loses nothing."""

import asyncio
import signal
import sqlite3
from contextlib import closing

import pytest

from brrr_core.backend import Count, Delivery, Key, Message, QueueStats, Reading, Step
from brrr_core.errors import (
    ArgumentError,
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    BodyTooLargeError,
    ForkedError,
    ValueTooLargeError,
)
from brrr_sqlite import receivers, steps
from brrr_testkit.waiting import until

CALL, PENDING, VALUE = Key("call", "h"), Key("pending_returns", "h"), Key("value", "h")
READINGS = (Reading("call"), Reading("value"), Reading("value", "brrr.", "root_id"))


def body(call_hash="h", root_id="r"):
    return f"li2e{len(root_id)}:{root_id}{len(call_hash)}:{call_hash}e".encode()


def step(expected=(), **effects):
    return Step(expected, **effects)


def receive(backend, wait=10.0, topic="t", limit=10):
    return backend.steps.receive(topic, limit=limit, wait=wait, readings=READINGS)


def waiting(backend):
    return sum(map(len, backend._commits.receivers._waiting.values()))


async def everything(backend):
    """Return all that the file holds."""

    def read(connection):
        tables = ("message", "dead", "record", "counter")
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]

    return await backend._connection.run(read)


async def test_receive_claims_and_reads_in_one_transaction(backend):
    await backend.store.write([(CALL, b"1"), (Key("value", "brrr.r"), b"2")])
    await backend.queue.put("t", [body(), b"no message"])
    before = backend.transactions, backend._transactions.groups
    first, second = await receive(backend)
    assert (first.delivery.body, first.delivery.attempt, first.records) == (body(), 1, [b"1", None, b"2"])
    assert (second.delivery.body, second.records) == (b"no message", None)
    assert (backend.transactions, backend._transactions.groups) == (before[0] + 1, before[1] + 1)


async def test_receive_without_readings_reads_nothing(backend):
    await backend.queue.put("t", [body()])
    (received,) = await backend.steps.receive("t", limit=1, wait=0, readings=())
    assert received.records == []


async def test_receive_without_messages_writes_nothing(backend):
    before = backend.transactions
    assert await receive(backend, wait=0) == []
    assert backend.transactions == before


async def test_waiting_receive_gets_the_message_and_records_of_a_commit_in_its_transaction(make):
    async with make(poll=3600.0) as backend:
        receiver = asyncio.create_task(receive(backend))
        await until(lambda: waiting(backend))
        before = backend.transactions
        put = step(writes=[(CALL, b"1")], messages=[Message("t", body())], marks=[(VALUE, b"2")])
        assert await backend.steps.commit([put]) == [[]]
        (received,) = await receiver
        assert received.records == [b"1", b"2", None]
        assert backend.transactions == before + 1


async def test_commit_applies_all_effects_in_one_transaction(backend, clocks):
    await backend.queue.put("t", [b"held"])
    held = await backend.queue.receive("t", limit=1, wait=0)
    await backend.store.write([(PENDING, b"p"), (Key("value", "gone"), b"v")])
    await backend.cache.increment({"n": 5})
    before = backend.transactions
    outcomes = await backend.steps.commit(
        [
            step(
                [(PENDING, b"p"), (VALUE, None)],
                counts=[Count("n", 2, 7), Count("m", 1, 1)],
                writes=[(VALUE, b"v")],
                messages=[Message("u", b"now"), Message("u", b"later", delay=5)],
                marks=[(PENDING, None), (CALL, b"c"), (Key("value", "gone"), None)],
                acks=held,
            )
        ]
    )
    assert outcomes == [[]]
    assert backend.transactions == before + 1
    assert await backend.store.read([PENDING, VALUE, CALL, Key("value", "gone")]) == [None, b"v", b"c", None]
    assert await backend.cache.increment({"n": 0, "m": 0}) == {"n": 7, "m": 1}
    assert await backend.queue.stats("t") == QueueStats(0, 0, 0, 0)
    assert await backend.queue.stats("u") == QueueStats(1, 0, 1, 0)
    clocks.now += 5
    assert [d.body for d in await backend.queue.receive("u", limit=9, wait=0)] == [b"now", b"later"]


@pytest.mark.parametrize(
    "unlike",
    [
        step([(PENDING, b"other")]),
        step([(PENDING, None)]),
        step([(PENDING, b"p"), (VALUE, b"v")]),
        step([(PENDING, b"p")], counts=[Count("m", 1, 9), Count("n", 3, 7)]),
        step(counts=[Count("new", 2, 1)]),
    ],
)
async def test_step_that_does_not_match_has_no_effect_and_needs_no_fsync(backend, unlike):
    await backend.queue.put("t", [b"held"])
    held = await backend.queue.receive("t", limit=1, wait=0)
    await backend.store.write([(PENDING, b"p")])
    await backend.cache.increment({"n": 5})
    before = await everything(backend), backend.transactions
    refused = unlike._replace(
        writes=[(CALL, b"c")],
        messages=[Message("t", b"x"), Message("t", b"y", leased=True)],
        marks=[(PENDING, None)],
        acks=held,
    )
    assert await backend.steps.commit([refused, refused]) == [None, None]
    assert (await everything(backend), backend.transactions) == before


async def test_each_step_sees_the_effects_of_those_before_it(backend):
    first = step([(VALUE, None)], counts=[Count("n", 1, 2)], writes=[(VALUE, b"1")], marks=[(PENDING, b"p")])
    second = step([(VALUE, b"1"), (PENDING, b"p")], counts=[Count("n", 1, 2)], marks=[(VALUE, b"2"), (PENDING, None)])
    third = step([(PENDING, None)], counts=[Count("n", 1, 2)])
    assert await backend.steps.commit([first, first, second, third]) == [[], None, [], None]
    assert await backend.store.read([VALUE, PENDING]) == [b"2", None]
    assert await backend.cache.increment({"n": 0}) == {"n": 2}


async def test_mark_follows_the_write_of_the_same_key(backend):
    await backend.steps.commit([step(writes=[(VALUE, b"1")], marks=[(VALUE, b"2"), (CALL, None)])])
    assert await backend.store.read([VALUE]) == [b"2"]


async def test_leased_message_belongs_to_the_caller_until_its_lease_expires(backend, clocks):
    put = step(
        writes=[(CALL, b"1")],
        messages=[Message("t", body(), leased=True), Message("u", b"other", leased=True)],
        marks=[(VALUE, b"2")],
    )
    before = backend.transactions
    ((first, second),) = await backend.steps.commit([put], readings=READINGS)
    assert backend.transactions == before + 1
    assert (first.delivery.topic, first.delivery.body, first.delivery.attempt) == ("t", body(), 1)
    assert first.records == [b"1", b"2", None]
    assert (second.delivery.topic, second.delivery.attempt, second.records) == ("u", 1, None)
    assert await backend.queue.stats("t") == QueueStats(0, 1, 0, 0)
    assert await receive(backend, wait=0) == []
    clocks.now += backend.queue.lease - 1
    await backend.queue.extend([first.delivery])
    clocks.now += 2
    assert await receive(backend, wait=0) == []  # extended
    assert [r.delivery.attempt for r in await receive(backend, wait=0, topic="u")] == [2]
    await backend.queue.ack([first.delivery])
    assert await backend.queue.stats("t") == QueueStats(0, 0, 0, 0)


async def test_every_leased_message_has_a_receipt_of_its_own(backend):
    put = step(messages=[Message("t", b"x", leased=True)] * 3)
    outcomes = await backend.steps.commit([put, put])
    assert [len(outcome) for outcome in outcomes] == [3, 3]
    await backend.queue.ack([received.delivery for received in outcomes[0]])
    assert await backend.queue.stats("t") == QueueStats(0, 3, 0, 0)


async def test_stale_and_settled_receipts_are_skipped_and_the_other_effects_stay(backend, clocks):
    await backend.queue.put("t", [b"settled", b"stale"])
    settled, stale = await backend.queue.receive("t", limit=2, wait=0)
    await backend.queue.ack([settled])
    clocks.now += backend.queue.lease
    foreign = Delivery("t", b"", object(), 1)
    assert await backend.steps.commit([step(writes=[(VALUE, b"1")], acks=[settled, stale, foreign])]) == [[]]
    assert await backend.store.read([VALUE]) == [b"1"]
    assert (await backend.queue.stats("t")).ready == 1


async def test_commit_of_nothing_does_nothing(backend):
    before = backend._transactions.groups
    assert await backend.steps.commit([]) == []
    assert backend._transactions.groups == before


BAD = {
    "topic": (step(messages=[Message("", b"x")]), ArgumentError),
    "name": (step(messages=[Message("\ud800", b"x")]), ArgumentError),
    "delay": (step(messages=[Message("t", b"x", delay=-1)]), ArgumentError),
    "body": (step(messages=[Message("t", b"xxx")]), BodyTooLargeError),
    "written value": (step(writes=[(VALUE, b"xxx")]), ValueTooLargeError),
    "mark": (step(marks=[(VALUE, b"xxx")]), ValueTooLargeError),
    "expected key": (step([(Key("value", "\ud800"), None)]), ArgumentError),
    "written key": (step(writes=[(Key("value", "\ud800"), b"")]), ArgumentError),
    "marked key": (step(marks=[(Key("value", "\ud800"), None)]), ArgumentError),
    "counter": (step(counts=[Count("\ud800", 1, 1)]), ArgumentError),
    "amount": (step(counts=[Count("n", 2**63, 2**64)]), ArgumentError),
}


@pytest.mark.parametrize("what", BAD)
async def test_step_with_a_bad_item_raises_before_any_step_is_applied(backend, what, monkeypatch):
    monkeypatch.setattr(steps, "MAX_BYTES", 2)
    bad, error = BAD[what]
    before = backend._transactions.groups
    with pytest.raises(error):
        await backend.steps.commit([step(writes=[(CALL, b"1")]), bad])
    assert backend._transactions.groups == before


async def test_sum_over_64_bits_fails_the_whole_commit(backend):
    for amount in (2**62, 2**62 - 1):
        await backend.cache.increment({"n": amount})
    before = await everything(backend)
    with pytest.raises(BackendError):
        await backend.steps.commit([step(writes=[(CALL, b"1")]), step(counts=[Count("n", 1, 2**64)])])
    assert await everything(backend) == before


async def test_full_disk_fails_the_whole_commit(make):
    async with make() as backend:
        await backend._connection.run(lambda c: c.execute("PRAGMA max_page_count = 20").fetchone())
        before = await everything(backend)
        large = step(messages=[Message("t", b"x" * 100_000)])
        with pytest.raises(BackendUnavailableError, match="disk is full"):
            await backend.steps.commit([step(writes=[(CALL, b"1")]), large])
        assert await everything(backend) == before


async def test_lock_held_longer_than_busy_timeout_fails_a_commit(make, path):
    async with make(busy_timeout=0.05) as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendUnavailableError, match="locked by another process"):
                await backend.steps.commit([step(writes=[(CALL, b"1")])])
        assert await backend.steps.commit([step([(CALL, None)])]) == [[]]


@pytest.mark.parametrize("expected", [None, b"other"])
async def test_steps_fail_after_the_file_was_moved(make, path, expected):
    async with make() as backend:
        path.rename(path.with_name("moved.db"))
        for operation in (backend.steps.commit([step([(CALL, expected)])]), receive(backend, wait=0)):
            with pytest.raises(BackendClosedError, match="removed, moved or replaced"):
                await operation


async def test_steps_of_a_closed_backend_fail(make):
    async with make() as backend:
        its = backend.steps
    with pytest.raises(BackendClosedError):
        await its.commit([step()])
    with pytest.raises(BackendClosedError):
        await its.receive("t", limit=1, wait=0, readings=())


async def test_steps_of_another_process_fail(backend, monkeypatch):
    monkeypatch.setattr(backend._commits.gate, "_process", 0)
    with pytest.raises(ForkedError):
        await backend.steps.commit([step()])


LEASING = step(
    [(VALUE, None)], writes=[(VALUE, b"1")], messages=[Message("t", b"x", leased=True), Message("u", b"y", leased=True)]
)


async def left_by_cancelled(backend, commit):
    """Return whether the cancelled commit was stored. Check that it is stored as a whole, and that no lease is left."""
    (value,) = await backend.store.read([VALUE])
    stats = [await backend.queue.stats(topic) for topic in "tu"]
    assert stats == [QueueStats(0 if value is None else 1, 0, 0, 0)] * 2
    taken = [d for topic in "tu" for d in await backend.queue.receive(topic, limit=9, wait=0)]
    assert [d.attempt for d in taken] == ([] if value is None else [1, 1])
    await backend.queue.ack(taken)
    assert commit.cancelled()
    return value is not None


async def test_commit_cancelled_at_any_moment_is_stored_as_a_whole_and_leaves_no_lease(make):
    seen = set()
    async with make() as backend:
        for turns in range(60):
            commit = asyncio.create_task(backend.steps.commit([LEASING]))
            for _ in range(turns):
                await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait([commit])
            if commit.cancelled():
                seen.add(await left_by_cancelled(backend, commit))
            else:
                ((first, second),) = commit.result()
                await backend.queue.ack([first.delivery, second.delivery])
            await backend.steps.commit([step(marks=[(VALUE, None)])])
    assert False in seen


async def test_commit_cancelled_while_it_runs_leaves_no_lease(make, blocked_thread):
    async with make() as backend:
        async with blocked_thread(backend):
            commit = asyncio.create_task(backend.steps.commit([LEASING]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # now the commit is in a group, which waits for the blocked thread
            commit.cancel()
            await asyncio.wait([commit])
        assert await left_by_cancelled(backend, commit)


@pytest.mark.parametrize("what", ["commit", "receive"])
async def test_steps_cancelled_with_their_messages_leave_no_lease(make, monkeypatch, what):
    async with make() as backend:
        if what == "receive":
            await backend.store.write([(VALUE, b"1")])
            await backend.queue.put("t", [b"x"])
            await backend.queue.put("u", [b"x"])
        kind = receivers.Claim if what == "receive" else receivers.Leasing
        settle = kind.settle

        def settle_and_cancel(operation, outcome):
            settle(operation, outcome)
            assert operation.future.done()
            caller.cancel()

        monkeypatch.setattr(kind, "settle", settle_and_cancel)
        operation = backend.steps.commit([LEASING]) if what == "commit" else receive(backend)
        caller = asyncio.create_task(operation)
        await asyncio.wait([caller])
        monkeypatch.undo()
        assert await left_by_cancelled(backend, caller)


async def test_leases_of_a_cancelled_commit_wake_waiting_receivers(make, blocked_thread, monkeypatch):
    monkeypatch.setattr(receivers, "RECHECK_SECONDS", 3600.0)
    async with make(poll=3600.0) as backend:
        waiters = [asyncio.create_task(receive(backend, wait=3600, topic=topic)) for topic in "tu"]
        await until(lambda: waiting(backend) == 2)
        async with blocked_thread(backend):
            commit = asyncio.create_task(backend.steps.commit([LEASING]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait([commit])
        assert [[r.delivery.attempt for r in await waiter] for waiter in waiters] == [[1], [1]]


async def test_commits_and_receives_share_a_transaction(backend, blocked_thread):
    async with blocked_thread(backend):
        commits = [
            asyncio.ensure_future(backend.steps.commit([step([(CALL, None)], messages=[Message("t", body(str(n)))])]))
            for n in range(8)
        ]
        receives = [asyncio.ensure_future(receive(backend, limit=1)) for _ in range(8)]
        await asyncio.sleep(0)
        before = backend.transactions
    assert await asyncio.gather(*commits) == [[[]]] * 8
    got = await asyncio.gather(*receives)
    assert sorted(received.delivery.body for (received,) in got) == sorted(body(str(n)) for n in range(8))
    assert backend.transactions == before + 1


async def test_sequential_calls_of_a_worker_need_one_transaction_for_each_step(make):
    """A parent defers a child, and the child wakes its parent, while the worker waits for more messages."""
    async with make(poll=3600.0) as backend:
        await backend.queue.put("t", [body("parent")])
        ((held, _),) = await receive(backend)
        before = backend.transactions
        for n in range(10):
            waiter = asyncio.create_task(receive(backend))
            await until(lambda: waiting(backend))
            put = Message("t", body(f"{n % 2}"))
            assert await backend.steps.commit([step(messages=[put], acks=[held])]) == [[]]
            ((held, _),) = await waiter
        assert backend.transactions == before + 10


async def test_commit_of_another_process_wakes_a_receive(make, processes):
    async with make(poll=0.01) as backend:
        receiver = asyncio.create_task(receive(backend, wait=30))
        await until(lambda: waiting(backend))
        processes.start("""
from brrr_core.backend import Message, Step
async def main():
    async with backend() as b:
        put = Step((), writes=[(Key("call", "h"), b"1")], messages=[Message("t", b"li2e1:r1:he")])
        assert await b.steps.commit([put]) == [[]]
asyncio.run(main())
""")
        ((delivery, records),) = await receiver
        assert (delivery.body, records) == (body(), [b"1", None, None])


RACER = """
from brrr_core.backend import Count, Message, Step
async def main():
    key, won = Key("pending_returns", "h"), 0
    async with backend() as b:
        wait_for_go()
        for _ in range(40):
            (now,) = await b.store.read([key])
            step = Step(
                [(key, now)],
                counts=[Count("n", 1, 100)],
                messages=[Message("t", b"x")],
                marks=[(key, b"%d" % (int(now or 0) + 1))],
            )
            won += await b.steps.commit([step]) == [[]]
    say(won)
asyncio.run(main())
"""


async def test_steps_of_several_processes_lose_no_update_and_keep_the_limit(make, processes):
    won = sum(map(int, await asyncio.to_thread(processes.race, 4, RACER)))
    async with make() as backend:
        assert won <= 100
        assert await backend.store.read([PENDING]) == [b"%d" % won]
        assert await backend.cache.increment({"n": 0}) == {"n": won}
        assert (await backend.queue.stats("t")).ready == won


WRITER = """
from brrr_core.backend import Count, Message, Step
async def main():
    async with backend() as b:
        async def client(n):
            for turn in range(10**9):
                name = f"{n}.{turn}"
                step = Step(
                    [(Key("value", name), None)],
                    counts=[Count("n", 1, 2**62)],
                    writes=[(Key("value", name), b"v")],
                    messages=[Message("t", name.encode(), leased=bool(turn % 2))],
                    marks=[(Key("call", name), b"c")],
                )
                assert len(await b.steps.commit([step, step])) == 2
                say(name)
        await asyncio.gather(*map(client, range(8)))
asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 40, 77])
async def test_killed_process_leaves_whole_steps(make, processes, lines):
    writer = processes.start(WRITER)
    said = [await asyncio.to_thread(writer.stdout.readline) for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    said += await asyncio.to_thread(writer.stdout.readlines)
    names = {line.strip() for line in said if line.endswith("\n")}
    async with make() as backend:
        messages, _, records, counters = await everything(backend)
        stored = {row[5].decode() for row in messages}
        assert names <= stored
        assert len(messages) == len(stored) == dict(counters)["n"]
        assert {(row[0], row[1]) for row in records} == {(name, kind) for name in stored for kind in (0, 2)}
