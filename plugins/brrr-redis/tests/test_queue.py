"""The queue beyond the contract kit: clients that die or wait, lost replies, and the cost of waiting."""

import asyncio
import signal
import time

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError, BackendUnavailableError
from brrr_redis.layout import Layout
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import Server, valkey_program
from brrr_testkit.waiting import until

TOPIC = "jobs"
KEYS = Layout("").topic(TOPIC)


def blocked(server):
    return int(server.do("INFO", "clients")["blocked_clients"])


async def test_message_in_the_inbox_is_received(backend, valkey):
    valkey.do("RPUSH", KEYS.inbox, b"moved")

    found = await backend.queue.receive(TOPIC, limit=5, wait=0)

    assert [each.body for each in found] == [b"moved"]


async def test_waiting_receiver_finds_a_message_that_a_dead_one_moved(url, valkey):
    async with brrr.open_backend(url, sweep=0.05) as backend:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=5, wait=60))
        await until(lambda: blocked(valkey) == 1)

        valkey.do("RPUSH", KEYS.inbox, b"moved")

        async with asyncio.timeout(5):
            assert [each.body for each in await waiting] == [b"moved"]


async def test_waiting_receiver_finds_a_message_that_another_process_delayed(url, valkey):
    async with brrr.open_backend(url, sweep=0.05) as one, brrr.open_backend(url) as other:
        waiting = asyncio.create_task(one.queue.receive(TOPIC, limit=5, wait=60))
        await until(lambda: blocked(valkey) == 1)

        await other.queue.put(TOPIC, [b"later"], delay=0.2)

        async with asyncio.timeout(5):
            assert [each.body for each in await waiting] == [b"later"]


async def test_delay_of_the_same_process_wakes_a_receiver_before_the_next_sweep(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as backend:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=5, wait=60))
        await until(lambda: blocked(valkey) == 1)

        await backend.queue.put(TOPIC, [b"later"], delay=0.1)

        async with asyncio.timeout(5):
            await waiting


async def test_expired_lease_of_the_same_process_wakes_a_receiver_before_the_next_sweep(url, valkey):
    async with brrr.open_backend(url, sweep=3600, lease=0.2) as backend:
        waiting = [asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60)) for _ in range(2)]
        await until(lambda: blocked(valkey) == 1)

        await backend.queue.put(TOPIC, [b"x"])

        async with asyncio.timeout(5):
            found = [each for task in waiting for each in await task]
        assert sorted((each.body, each.attempt) for each in found) == [(b"x", 1), (b"x", 2)]


async def receive_one(queue, valkey):
    """Receive a message by waiting for it, so that a receiver knows that nothing is left."""
    receiving = asyncio.create_task(queue.receive(TOPIC, limit=1, wait=60))
    await until(lambda: blocked(valkey) == 1)
    await queue.put(TOPIC, [b"first"])
    return await receiving


async def test_receiver_waits_without_a_claim_if_the_last_one_left_nothing(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(f"{proxy.url}?sweep=1h") as backend:
        queue = backend.queue
        await receive_one(queue, valkey)
        proxy.clear()

        await receive_one(queue, valkey)
        assert [words[0] for words in proxy.commands] == [b"BLMOVE", b"RPUSH", b"EVALSHA"]

        valkey.do("RPUSH", KEYS.inbox, b"a", b"b")
        assert len(await queue.receive(TOPIC, limit=1, wait=0)) == 1, "a receiver that does not wait looks"
        async with asyncio.timeout(10):
            assert len(await queue.receive(TOPIC, limit=1, wait=60)) == 1, "and so does one if the last left a message"


async def test_message_delayed_while_no_receiver_waits_wakes_one_before_the_next_sweep(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as backend, asyncio.timeout(10):
        await receive_one(backend.queue, valkey)
        await backend.queue.put(TOPIC, [b"later"], delay=0.1)

        assert [each.body for each in await backend.queue.receive(TOPIC, limit=1, wait=60)] == [b"later"]


async def test_lease_that_expires_wakes_a_receiver_that_made_no_claim(url, valkey):
    async with brrr.open_backend(url, sweep=3600, lease=0.1) as backend, asyncio.timeout(10):
        await receive_one(backend.queue, valkey)

        assert [each.attempt for each in await backend.queue.receive(TOPIC, limit=1, wait=60)] == [2]


async def test_receiver_claims_immediately_if_the_blocking_connection_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(f"{proxy.url}?sweep=1h") as backend:
        await receive_one(backend.queue, valkey)
        wait_queue = backend.queue._wait_queues.get(KEYS)
        assert wait_queue.empty
        proxy.cut()
        await until(lambda: not wait_queue.empty)
        valkey.do("RPUSH", KEYS.inbox, b"moved")

        async with asyncio.timeout(10):
            assert [each.body for each in await backend.queue.receive(TOPIC, limit=1, wait=60)] == [b"moved"]


async def test_message_wakes_one_of_ten_receivers(url, valkey):
    async with asyncio.TaskGroup() as tasks, brrr.open_backend(url) as producer:
        backends = [brrr.open_backend(url, sweep=3600) for _ in range(10)]
        for each in backends:
            await each.open()
        waiting = [tasks.create_task(each.queue.receive(TOPIC, limit=5, wait=60)) for each in backends]
        await until(lambda: blocked(valkey) == 10)
        valkey.do("CONFIG", "RESETSTAT")

        await producer.queue.put(TOPIC, [b"one"])
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: blocked(valkey) == 9)

        assert sum(task.done() for task in waiting) == 1
        assert valkey.do("INFO", "commandstats")["cmdstat_evalsha"]["calls"] == 1
        for task in waiting:
            task.cancel()
        for each in backends:
            await each.close()


async def test_ten_idle_receivers_use_less_than_a_hundredth_of_a_core(url, valkey):
    seconds = 4
    backends = [brrr.open_backend(url) for _ in range(10)]
    for each in backends:
        await each.open()
    waiting = [asyncio.create_task(each.queue.receive(TOPIC, limit=5, wait=60)) for each in backends]
    await until(lambda: blocked(valkey) == 10)
    valkey.do("CONFIG", "RESETSTAT")
    await asyncio.sleep(seconds)  # the test counts the commands of this time
    stats = valkey.do("INFO", "commandstats")
    used = sum(each["usec"] for name, each in stats.items() if name in ("cmdstat_evalsha", "cmdstat_blmove"))
    claims = stats.get("cmdstat_evalsha", {"calls": 0})["calls"]
    for task in waiting:
        task.cancel()
    for each in backends:
        await each.close()

    assert claims <= 10 * seconds / 2 + 10, "each claims every two seconds"
    assert used / 1e6 < 0.01 * seconds, "the server uses less than a hundredth of a core"


async def test_message_without_a_waiting_receiver_wakes_another_process(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as gone, brrr.open_backend(url, sweep=3600) as there:
        assert await gone.queue.receive(TOPIC, limit=1, wait=0.05) == []
        waiting = asyncio.create_task(there.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: blocked(valkey) == 2)  # the first one still blocks, and is ahead of the second

        await there.queue.put(TOPIC, [b"passed on"])

        async with asyncio.timeout(5):
            assert [each.body for each in await waiting] == [b"passed on"]
        assert valkey.do("LLEN", KEYS.inbox) == 0


async def test_receivers_of_one_process_share_one_blocking_connection(backend, valkey):
    waiting = [asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60)) for _ in range(5)]
    await until(lambda: blocked(valkey) == 1)
    await asyncio.sleep(0.05)  # time for a second connection to appear
    assert blocked(valkey) == 1

    await backend.queue.put(TOPIC, [b"%d" % number for number in range(5)])

    async with asyncio.timeout(5):
        found = [each.body for task in waiting for each in await task]
    assert sorted(found) == [b"%d" % number for number in range(5)]


async def test_receiver_that_leaves_messages_wakes_the_next_one(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as backend:
        waiting = [asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60)) for _ in range(3)]
        await until(lambda: blocked(valkey) == 1)
        valkey.do("RPUSH", KEYS.inbox, b"1", b"2")  # as a dead receiver did: this wakes no receiver

        valkey.do("RPUSH", TOPIC, b"3")

        async with asyncio.timeout(5):
            assert sorted([each.body for task in waiting for each in await task]) == [b"1", b"2", b"3"]


async def test_cancelled_receiver_gives_its_turn_to_the_next_one(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as backend:
        first, second = (asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60)) for _ in range(2))
        await until(lambda: blocked(valkey) == 1)
        wait_queue = backend.queue._wait_queues.get(KEYS)  # pyright: ignore[reportAttributeAccessIssue] - looks inside
        assert len(wait_queue._waiting) == 2
        valkey.do("RPUSH", KEYS.inbox, b"x")  # this wakes no receiver

        wait_queue.wake()
        first.cancel()

        async with asyncio.timeout(5):
            assert [each.body for each in await second] == [b"x"]


async def test_turn_of_a_cancelled_receiver_goes_to_another_process(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as one, brrr.open_backend(url, sweep=3600) as other:
        cancelled = asyncio.create_task(one.queue.receive(TOPIC, limit=1, wait=60))
        waiting = asyncio.create_task(other.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: blocked(valkey) == 2)
        valkey.do("RPUSH", KEYS.inbox, b"x")  # as the wait of the first one would move it

        one.queue._wait_queues.get(KEYS).wake()  # pyright: ignore[reportAttributeAccessIssue] - looks inside
        cancelled.cancel()

        async with asyncio.timeout(5):
            assert [each.body for each in await waiting] == [b"x"]


async def test_closing_empties_the_inbox(url, valkey):
    async with brrr.open_backend(url, sweep=3600) as backend:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: blocked(valkey) == 1)
        valkey.do("RPUSH", TOPIC, b"1", b"2")
        waiting.cancel()

    assert valkey.do("LRANGE", TOPIC, 0, -1) == [b"1", b"2"]
    assert valkey.do("LLEN", KEYS.inbox) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
async def test_closing_does_not_wait_for_an_unavailable_server(tmp_path, how):
    server = Server(valkey_program(), tmp_path / "own").start()
    try:
        backend = brrr.open_backend(server.url)
        await backend.open()
        idle = asyncio.create_task(backend.queue.receive("idle", limit=1, wait=60))
        await until(lambda: blocked(server) == 1)
        server.signal(how)
        receiving = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=0))
        await asyncio.sleep(0.05)  # it is sent, or retried
        receiving.cancel()
        idle.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({receiving, idle})
            await backend.close()
    finally:
        server.signal(signal.SIGCONT)
        server.kill()


async def test_dead_letters_are_moved_in_rounds_of_1000(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        queue = backend.queue
        valkey.do("RPUSH", KEYS.dead, *(b"1:1:0:%d" % number for number in range(2500)))
        assert await queue.redrive("other", limit=1) + await queue.drop("other", limit=1) == 0
        proxy.clear()

        assert await queue.redrive(TOPIC, limit=2200) == 2200
        assert len(proxy.commands) == 3
        assert await queue.drop(TOPIC, limit=2**31) == 300
        assert len(proxy.commands) == 4

    assert valkey.do("LRANGE", TOPIC, 0, -1) == [b"%d" % number for number in range(2200)]


async def test_topic_with_only_stale_attempts_is_not_listed(backend, valkey):
    queue = backend.queue
    await queue.put(TOPIC, [b"again"])
    await queue.release(await queue.receive(TOPIC, limit=1, wait=0))
    assert await queue.inspector.topics() == [TOPIC]
    valkey.do("LPOP", KEYS.ready)  # by a consumer in another language, which leaves the attempts
    assert valkey.do("EXISTS", KEYS.attempts) == 1
    assert await queue.inspector.topics() == []


async def test_dead_letter_is_never_older_than_the_one_before_it(backend, valkey):
    """The server's clock was set back: the binary search for ids relies on the order of the times."""
    queue = backend.queue
    valkey.do("RPUSH", KEYS.dead, b"1:99999999999999:0:first")
    await queue.put(TOPIC, [b"second"])
    for delivery in await queue.receive(TOPIC, limit=1, wait=0):
        await queue.bury(delivery, "x")
    first, second = await queue.letters.page(TOPIC, limit=9)
    assert first.letter.buried_at == second.letter.buried_at
    assert await queue.letters.page(TOPIC, limit=9, after=first.id) == [second]
    assert await queue.letters.find(TOPIC, [second.id]) == [second]


async def test_no_connection_blocks_without_a_waiting_receiver(backend, valkey):
    for number in range(3):
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: blocked(valkey) == 1)
        await backend.queue.put(TOPIC, [b"%d" % number])
        await waiting
        await backend.queue.stats(TOPIC)
        assert blocked(valkey) == 0


async def test_message_is_received_if_the_reply_of_the_wait_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(f"{proxy.url}?sweep=50ms") as backend:
        proxy.lose_answer_to(lambda words: words[0] == b"BLMOVE")
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await until(lambda: blocked(valkey) == 1)

        valkey.do("RPUSH", TOPIC, b"x")

        async with asyncio.timeout(5):
            assert [(each.body, each.attempt) for each in await waiting] == [(b"x", 1)]


async def test_repeated_claim_returns_the_messages_that_the_lost_one_leased(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"%d" % number for number in range(30)])
        await queue.receive(TOPIC, limit=1, wait=0)
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")

        found = await queue.receive(TOPIC, limit=20, wait=0)

        assert [each.body for each in found] == [b"%d" % number for number in range(1, 21)]
        assert await queue.stats(TOPIC) == (9, 21, 0, 0)
        await queue.ack(found)
        assert await queue.stats(TOPIC) == (9, 1, 0, 0)


async def test_put_is_repeated_if_its_reply_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        proxy.lose_answer_to(lambda words: words[0] == b"RPUSH")

        await backend.queue.put(TOPIC, [b"once or twice"])

        assert (await backend.queue.stats(TOPIC)).ready == 2


async def test_redrive_raises_and_is_not_repeated_if_its_reply_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"1", b"2"])
        for each in await queue.receive(TOPIC, limit=2, wait=0):
            await queue.bury(each, "x")
        assert await queue.redrive("other", limit=1) == 0
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")

        with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{proxy.port} was lost before the reply came"):
            await queue.redrive(TOPIC, limit=1)

        assert await queue.stats(TOPIC) == (1, 0, 0, 1)


async def test_cancelled_receive_releases_its_messages_and_counts_no_attempt(backend, valkey):
    queue = backend.queue
    await queue.put(TOPIC, [b"%d" % number for number in range(12)])
    for turns in range(8):
        receiving = asyncio.create_task(queue.receive(TOPIC, limit=12, wait=0))
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait({receiving})
        if not receiving.cancelled():
            await queue.release(receiving.result())
            break
        async with asyncio.timeout(5):
            while (await queue.stats(TOPIC)).ready < 12:  # noqa: ASYNC110 - the release has no event
                await asyncio.sleep(0.002)
        assert valkey.do("LRANGE", TOPIC, 0, -1) == [b"%d" % number for number in range(12)]
        assert valkey.do("EXISTS", KEYS.attempts) == 0


async def test_equal_bodies_have_separate_attempts(backend):
    queue = backend.queue
    await queue.put(TOPIC, [b"same"] * 3)
    held = await queue.receive(TOPIC, limit=3, wait=0)
    await queue.ack(held[:1])
    await queue.release(held[1:])
    await queue.put(TOPIC, [b"same"])

    attempts = sorted(each.attempt for each in await queue.receive(TOPIC, limit=9, wait=0))

    assert attempts == [1, 2, 2]


async def test_expired_lease_has_ended_before_any_claim(url, valkey):
    async with brrr.open_backend(url, lease=0.05) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"late"])
        held = await queue.receive(TOPIC, limit=1, wait=0)
        begun = time.monotonic()
        await until(lambda: time.monotonic() > begun + 0.06)

        await queue.ack(held)

        assert await queue.stats(TOPIC) == (1, 0, 0, 0)


async def test_2500_leases_that_expire_together_all_become_ready(url):
    async with brrr.open_backend(url, lease=0.2) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"%d" % number for number in range(2500)])
        for _ in range(3):
            await queue.receive(TOPIC, limit=1000, wait=0)
        seen: set[bytes] = set()
        async with asyncio.timeout(10):
            while len(seen) < 2500:
                found = await queue.receive(TOPIC, limit=1000, wait=1)
                seen.update(each.body for each in found)
                await queue.ack(found)


@pytest.mark.parametrize("turns", [0, 1], ids=["before it starts", "at rest"])
async def test_receive_raises_if_other_code_cancels_its_wait_queue_and_the_next_one_waits(backend, turns):
    queue = backend.queue
    waiting = asyncio.create_task(queue.receive("jobs", limit=1, wait=600))
    await until(lambda: queue._wait_queues._queues)
    for _ in range(turns):
        await asyncio.sleep(0)
    (wait_queue,) = queue._wait_queues._queues.values()
    wait_queue._task.cancel()

    async with asyncio.timeout(30):
        with pytest.raises(BackendClosedError, match="cancelled from outside"):
            await waiting
        await queue.put("jobs", [b"x"])
        assert len(await queue.receive("jobs", limit=1, wait=600)) == 1
