"""A waiting receiver costs almost nothing, wakes for every new message, and loses nothing when it is cancelled."""

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from brrr_core.backend import QueueStats
from brrr_sqlite import receivers
from brrr_testkit.waiting import until

NEVER = 3600.0
NO_POLLING = {"poll": NEVER}  # no check of the log wakes a receiver


@pytest.fixture(autouse=True)
def no_recheck(monkeypatch):
    """Let only the event under test wake a receiver: no periodic recheck, and earlier looks stay fresh."""
    monkeypatch.setattr(receivers, "RECHECK_SECONDS", NEVER)
    monkeypatch.setattr(receivers, "FRESH_SECONDS", NEVER)


def waiting(backend):
    return sum(map(len, backend._commits.receivers._waiting.values()))


async def receive(backend, wait=10.0, topic="t"):
    return await backend.queue.receive(topic, limit=10, wait=wait)


async def test_receive_returns_nothing_after_its_wait(make):
    async with make(**NO_POLLING) as backend:
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await receive(backend, wait=0.05) == []
        assert loop.time() - start >= 0.05
        assert waiting(backend) == 0


async def test_receive_without_wait_looks_once(make):
    async with make(**NO_POLLING) as backend:
        before = backend._transactions.groups
        assert await receive(backend, wait=0) == []
        assert backend._transactions.groups == before + 1


async def test_waiting_receiver_runs_no_statement(make):
    async with make(poll=0.01) as backend:
        groups, transactions = backend._transactions.groups, backend.transactions
        assert await receive(backend, wait=0.3) == []
        # One group for the receive, and a few until the timestamp of the log is old enough to be reliable.
        assert backend._transactions.groups - groups <= 1 + 0.06 / 0.01 + 1
        assert backend.transactions == transactions
        assert backend._commits.receivers.log_checks <= 31
        assert backend._commits.receivers._timer is None  # without waiting receivers, the log is not checked


@pytest.mark.parametrize("how", ["put", "release", "redrive"])
async def test_receiver_gets_messages_of_its_backend_in_the_same_transaction(make, how):
    async with make(**NO_POLLING) as backend:
        queue = backend.queue
        await queue.put("t", [b"x"])
        held = await receive(backend)
        if how == "redrive":
            await queue.bury(held[0], "why")
        receiver = asyncio.create_task(receive(backend))
        await until(lambda: waiting(backend))
        before = backend.transactions
        if how == "put":
            await queue.put("t", [b"y"])
        elif how == "release":
            await queue.release(held)
        else:
            await queue.redrive("t", limit=1)
        assert len(await receiver) == 1
        assert backend.transactions == before + 1


async def test_messages_of_other_topics_do_not_wake_a_receiver(make):
    async with make(**NO_POLLING) as backend:
        receiver = asyncio.create_task(receive(backend, topic="a"))
        await until(lambda: waiting(backend))
        (claim,) = backend._commits.receivers._waiting["a"]
        timer = claim.timer
        await backend.queue.put("b", [b"x"])
        assert claim.timer is timer
        receiver.cancel()


async def test_each_waiting_receiver_gets_one_message(make):
    async with make(**NO_POLLING) as backend:
        tasks = [asyncio.create_task(backend.queue.receive("t", limit=1, wait=10)) for _ in range(5)]
        await until(lambda: waiting(backend) == 5)
        for n in range(5):
            await backend.queue.put("t", [b"%d" % n])
        got = await asyncio.gather(*tasks)
        assert sorted(delivery.body for (delivery,) in got) == [b"0", b"1", b"2", b"3", b"4"]


async def test_another_backend_of_the_process_wakes_a_receiver_immediately(make):
    async with make(**NO_POLLING) as one, make(**NO_POLLING) as other:
        receiver = asyncio.create_task(receive(one))
        await until(lambda: waiting(one))
        await other.queue.put("t", [b"x"])
        assert [d.body for d in await receiver] == [b"x"]


async def test_backend_on_another_loop_wakes_a_receiver_immediately(make):
    async with make(**NO_POLLING) as backend:
        receiver = asyncio.create_task(receive(backend))
        await until(lambda: waiting(backend))

        async def put():
            async with make(**NO_POLLING) as other:
                await other.queue.put("t", [b"x"])

        thread = threading.Thread(target=lambda: asyncio.run(put()))
        thread.start()
        assert [d.body for d in await receiver] == [b"x"]
        thread.join()


async def test_backend_opened_through_a_link_wakes_a_receiver(make, path):
    async with make(**NO_POLLING) as one:
        link = path.with_name("link.db")
        link.symlink_to(path)
        async with make(link, **NO_POLLING) as other:
            receiver = asyncio.create_task(receive(one))
            await until(lambda: waiting(one))
            await other.queue.put("t", [b"x"])
            assert len(await receiver) == 1


async def test_another_process_wakes_a_receiver_within_two_log_checks(make, processes):
    async with make(poll=0.01) as backend:
        other = processes.start("""
async def main():
    async with backend() as b:
        wait_for_go()
        await b.queue.put("t", [b"x"])
        say("put")
        sys.stdin.readline()
asyncio.run(main())
""")
        assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
        receiver = asyncio.create_task(receive(backend, wait=30))
        await until(lambda: waiting(backend))
        await asyncio.to_thread(lambda: (other.stdin.write("go\n"), other.stdin.flush(), other.stdout.readline()))
        checks = backend._commits.receivers.log_checks  # read after the put
        assert len(await receiver) == 1
        assert backend._commits.receivers.log_checks - checks <= 2


async def test_receiver_looks_again_without_any_event(make, processes, monkeypatch):
    monkeypatch.setattr(receivers, "RECHECK_SECONDS", 0.02)
    async with make(**NO_POLLING) as backend:
        processes.start("""
async def main():
    async with backend() as b:
        await b.queue.put("t", [b"x"])
asyncio.run(main())
""")
        assert len(await receive(backend, wait=30)) == 1


@pytest.mark.parametrize("how", ["put", "release"])
async def test_receiver_wakes_when_a_delay_expires(make, how):
    async with make(**NO_POLLING) as backend:
        queue = backend.queue
        if how == "put":
            await queue.put("t", [b"x"], delay=0.05)
        else:
            await queue.put("t", [b"x"])
            await queue.release(await receive(backend), delay=0.05)
        assert len(await receive(backend)) == 1


async def test_receiver_wakes_for_a_delayed_message_put_while_it_waits(make):
    async with make(**NO_POLLING) as backend:
        receiver = asyncio.create_task(receive(backend))
        await until(lambda: waiting(backend))
        await backend.queue.put("t", [b"x"], delay=0.05)
        assert len(await receiver) == 1


async def test_receiver_wakes_when_a_lease_expires(make):
    async with make(lease=0.05, **NO_POLLING) as backend:
        await backend.queue.put("t", [b"x"])
        assert [d.attempt for d in await receive(backend)] == [1]
        assert [d.attempt for d in await receive(backend)] == [2]


async def test_receiver_cancelled_while_waiting_takes_nothing(make):
    async with make(**NO_POLLING) as backend:
        receiver = asyncio.create_task(receive(backend))
        await until(lambda: waiting(backend))
        receiver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiver
        assert waiting(backend) == 0
        assert backend._commits.receivers._timer is None
        await backend.queue.put("t", [b"x"])
        assert await backend.queue.stats("t") == QueueStats(1, 0, 0, 0)


async def test_receiver_cancelled_while_its_claim_runs_undoes_its_leases(make, blocked_thread):
    async with make(**NO_POLLING) as backend:
        await backend.queue.put("t", [b"x", b"y"])
        async with blocked_thread(backend):
            receiver = asyncio.create_task(receive(backend))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # now the claim is in a group, which waits for the blocked thread
            receiver.cancel()
            await asyncio.wait([receiver])
        again = await receive(backend)  # waits for at most 10 s, and the lease is 30 s
        assert [(d.body, d.attempt) for d in again] == [(b"x", 1), (b"y", 1)]


async def test_receiver_cancelled_at_any_moment_loses_nothing(make):
    async with make(**NO_POLLING) as backend:
        for turns in range(60):
            await backend.queue.put("t", [b"x"])
            receiver = asyncio.create_task(receive(backend))
            for _ in range(turns):
                await asyncio.sleep(0)
            receiver.cancel()
            await asyncio.wait([receiver])
            got = await receive(backend) if receiver.cancelled() else receiver.result()
            assert [d.attempt for d in got] == [1], turns
            await backend.queue.ack(got)


async def test_receiver_gets_messages_put_in_its_own_group(make, blocked_thread):
    async with make(**NO_POLLING) as backend:
        async with blocked_thread(backend):
            receiver = asyncio.create_task(receive(backend))
            put = asyncio.create_task(backend.queue.put("t", [b"x"]))
            await asyncio.sleep(0)
        await put
        assert len(await receiver) == 1
        assert backend.transactions == 1


async def test_messages_of_a_cancelled_receiver_wake_another_one(make, blocked_thread):
    async with make(**NO_POLLING) as backend:
        first, second = [asyncio.create_task(receive(backend)) for _ in range(2)]
        await until(lambda: waiting(backend) == 2)
        async with blocked_thread(backend):
            put = asyncio.create_task(backend.queue.put("t", [b"x"]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert waiting(backend) == 0  # both are in the group of the put, and the first one would get the message
            first.cancel()
            await asyncio.wait([first])
        await put
        assert [d.attempt for d in await second] == [1]


async def test_receiver_cancelled_with_its_messages_undoes_their_leases(make, monkeypatch):
    async with make(**NO_POLLING) as backend:
        await backend.queue.put("t", [b"x"])
        settle = receivers.Claim.settle

        def settle_and_cancel(claim, outcome):
            settle(claim, outcome)
            assert claim.future.done()
            receiver.cancel()

        monkeypatch.setattr(receivers.Claim, "settle", settle_and_cancel)
        receiver = asyncio.create_task(receive(backend))
        await asyncio.wait([receiver])
        assert receiver.cancelled()
        monkeypatch.undo()
        assert [d.attempt for d in await receive(backend)] == [1]


def put_in_silence(path):
    """Put a message without any event that could wake a receiver."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO message (topic, due, body) VALUES ('t', 0, x'01')")


async def test_new_receiver_waits_without_a_look_after_one_found_no_more_messages(make):
    async with make(**NO_POLLING) as backend:
        await backend.queue.put("t", [b"x"])
        await receive(backend)
        groups = backend._transactions.groups
        receiver = asyncio.create_task(backend.queue.receive("t", limit=1, wait=10))
        await until(lambda: waiting(backend))
        assert backend._transactions.groups == groups
        receiver.cancel()


async def test_receiver_that_waited_without_a_look_looks_at_its_end(make, path):
    async with make(**NO_POLLING) as backend:
        assert await receive(backend, wait=0) == []
        put_in_silence(path)
        assert len(await receive(backend, wait=0.05)) == 1


async def test_receiver_without_wait_looks_even_if_an_earlier_one_found_nothing(make, path):
    async with make(**NO_POLLING) as backend:
        assert await receive(backend, wait=0) == []
        put_in_silence(path)
        assert len(await receive(backend, wait=0)) == 1


async def test_receiver_looks_if_an_earlier_one_left_messages(make):
    async with make(**NO_POLLING) as backend:
        await backend.queue.put("t", [b"x", b"y"])
        for _ in range(2):
            assert "t" not in backend._commits.receivers._looks
            assert len(await backend.queue.receive("t", limit=1, wait=NEVER)) == 1


async def test_receiver_looks_when_a_lease_of_an_earlier_one_expires(make):
    async with make(lease=0.05, **NO_POLLING) as backend:
        await backend.queue.put("t", [b"x"])
        await receive(backend)
        assert await receive(backend, topic="u", wait=0.06) == []
        assert len(await receive(backend, wait=NEVER)) == 1


async def test_new_receiver_looks_after_another_backend_of_the_process_put_a_message(make):
    async with make(**NO_POLLING) as one, make(**NO_POLLING) as other:
        assert await receive(one, wait=0) == []
        wakes = one._commits.receivers._wakes
        await other.queue.put("t", [b"x"])
        await until(lambda: one._commits.receivers._wakes > wakes)
        assert len(await receive(one, wait=NEVER)) == 1


async def test_new_receiver_looks_after_the_log_changed_while_others_waited(make, path):
    async with make(poll=0.01) as backend:
        assert await receive(backend, wait=0) == []
        other = asyncio.create_task(receive(backend, topic="u"))
        await until(lambda: waiting(backend))
        put_in_silence(path)
        await until(lambda: "t" not in backend._commits.receivers._looks)
        assert len(await receive(backend, wait=NEVER)) == 1
        other.cancel()


async def test_new_receiver_looks_if_the_earlier_look_is_old(make, path, monkeypatch):
    monkeypatch.setattr(receivers, "FRESH_SECONDS", 0)
    async with make(**NO_POLLING) as backend:
        assert await receive(backend, wait=0) == []
        put_in_silence(path)
        assert len(await receive(backend, wait=NEVER)) == 1


class Bench:
    """Receivers on a log of their own. It records the operations that they submit."""

    def __init__(self, path):
        self.log = path
        self.log.touch()
        self.loop = asyncio.get_running_loop()
        self.submitted = []
        self.receivers = receivers.Receivers(path, poll=0.001, loop=self.loop, submit=self.submitted.append)

    def claim(self):
        nothing: Any = None  # no statement runs
        return receivers.Claim(
            self.receivers,
            self.loop.create_future(),
            read=nothing,
            write=nothing,
            topic="t",
            deadline=self.loop.time() + 60,
        )

    def stamp(self, age):
        stamp = time.time_ns() - int(age * 1e9)
        os.utime(self.log, ns=(stamp, stamp))


async def test_claim_runs_again_after_a_wake_during_its_group(path):
    bench = Bench(path)
    claim = bench.claim()
    bench.receivers.before_group()
    bench.receivers.wake(["t"])
    claim.settle(receivers.Found([]))
    assert bench.submitted == [claim]


@pytest.mark.parametrize("age", [3600, -3600], ids=["old", "from before the clock was set back"])
async def test_unchanged_old_log_causes_one_look(path, age):
    bench = Bench(path)
    bench.stamp(age=age)
    bench.claim().settle(receivers.Found([]))
    await until(lambda: len(bench.submitted) == 1)
    bench.receivers.before_group()
    bench.claim().settle(receivers.Found([]))
    await until(lambda: bench.receivers.log_checks >= 10)
    assert len(bench.submitted) == 1
    bench.log.write_bytes(b"x")
    await until(lambda: len(bench.submitted) == 2)


async def test_recent_log_causes_a_look_at_every_check(path, monkeypatch):
    monkeypatch.setattr(receivers, "TIMESTAMP_TICK_NS", 60 * 10**9)  # recent even on a slow machine
    bench = Bench(path)
    bench.stamp(age=0)
    for looks in range(1, 4):
        claim = bench.claim()
        bench.receivers.before_group()
        claim.settle(receivers.Found([]))
        await until(lambda: len(bench.submitted) == looks)  # noqa: B023 - awaited at once


async def test_closing_the_backend_ends_waiting_receivers(make):
    from brrr_core.errors import BackendClosedError

    backend = make(**NO_POLLING)
    await backend.open()
    receiver = asyncio.create_task(receive(backend))
    await until(lambda: waiting(backend))
    await backend.close()
    with pytest.raises(BackendClosedError):
        await receiver
