"""The queue delivers each message until it is settled."""

import pytest

from brrr_core.backend import Delivery, QueueStats
from brrr_core.errors import ArgumentError, BodyTooLargeError
from brrr_sqlite import queue as queue_module
from brrr_sqlite.messages import Receipt

HOSTILE = [
    "t",
    " ",
    "T",
    "a/b",
    "a:b",
    "a%b",
    "'; DROP TABLE message; --",
    "nul\0in",
    "nul\0",
    "ünï",
    "🦜",
    "\u00e9",
    "e\u0301",
    "x" * 1023,
]
BODIES = [b"", b"\0", b"\xff\xfe", bytes(range(256)), "🦜".encode(), b"x" * 100_000]


async def take(queue, topic="t", limit=1000):
    return await queue.receive(topic, limit=limit, wait=0)


async def bodies(queue, topic="t"):
    return [delivery.body for delivery in await take(queue, topic)]


async def test_body_is_delivered_unchanged(queue):
    await queue.put("t", BODIES)
    assert await bodies(queue) == BODIES


async def test_similar_topics_stay_separate(queue):
    for topic in HOSTILE:
        await queue.put(topic, [topic.encode()])
    for topic in HOSTILE:
        (delivery,) = await take(queue, topic)
        assert (delivery.topic, delivery.body) == (topic, topic.encode())


@pytest.mark.parametrize("topic", ["", "\ud800"])
async def test_invalid_topic_is_refused(queue, topic):
    with pytest.raises(ArgumentError):
        await queue.put(topic, [b"x"])
    with pytest.raises(ArgumentError):
        await take(queue, topic)


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_batch_may_have_any_size(queue, size):
    sent = [str(n).encode() for n in range(size)]
    await queue.put("t", sent)
    taken = await take(queue)
    assert [delivery.body for delivery in taken] == sent
    await queue.extend(taken)
    await queue.release(taken)
    taken = await take(queue)
    assert {delivery.attempt for delivery in taken} == ({2} if size else set())
    await queue.ack(taken)
    assert await queue.stats("t") == QueueStats(0, 0, 0, 0)


async def test_empty_batch_writes_nothing(backend, queue):
    before = backend.transactions
    await queue.put("t", [])
    await queue.ack([])
    await queue.release([])
    await queue.extend([])
    assert backend.transactions == before


async def test_receive_returns_the_oldest_messages_up_to_the_limit(queue, clocks):
    for n in range(10):
        await queue.put("t", [b"%d" % n])
        clocks.now += 0.001
    assert [d.body for d in await take(queue, limit=3)] == [b"0", b"1", b"2"]
    assert [d.body for d in await take(queue, limit=2**31)] == [b"%d" % n for n in range(3, 10)]


async def test_released_message_comes_after_the_ready_ones_of_its_batch(queue, clocks):
    await queue.put("t", [b"x"])
    held = await take(queue)
    await queue.put("t", [b"y"])
    clocks.now += 1
    await queue.release(held)
    assert await bodies(queue) == [b"y", b"x"]


async def test_order_survives_a_wall_clock_that_is_set_back(queue, clocks):
    for n in range(5):
        await queue.put("t", [b"%d" % n])
        clocks.ahead -= 3600
    assert await bodies(queue) == [b"0", b"1", b"2", b"3", b"4"]


async def test_expired_lease_makes_message_ready_again(queue, clocks):
    await queue.put("t", [b"x"])
    (first,) = await take(queue)
    assert first.attempt == 1
    clocks.now += 29.999
    assert await take(queue) == []
    clocks.now += 0.001
    (second,) = await take(queue)
    assert second.attempt == 2


async def test_extend_restarts_the_lease(queue, clocks):
    await queue.put("t", [b"x"])
    held = await take(queue)
    clocks.now += 20
    await queue.extend(held)
    clocks.now += 20
    assert await take(queue) == []
    clocks.now += 10
    assert len(await take(queue)) == 1


async def test_delayed_message_is_ready_after_its_delay(queue, clocks):
    await queue.put("t", [b"later"], delay=5)
    await queue.put("t", [b"now"])
    assert await bodies(queue) == [b"now"]
    clocks.now += 5
    assert await bodies(queue) == [b"later"]


async def test_delay_of_a_million_years_does_not_overflow(queue):
    await queue.put("t", [b"x"], delay=3e13)
    assert await queue.stats("t") == QueueStats(ready=0, leased=0, delayed=1, dead=0)


async def test_released_message_is_ready_after_its_delay_with_the_next_attempt(queue, clocks):
    await queue.put("t", [b"x"])
    await queue.release(await take(queue), delay=2)
    assert await take(queue) == []
    clocks.now += 2
    assert [d.attempt for d in await take(queue)] == [2]


@pytest.mark.parametrize("how", ["ack", "release", "extend", "bury"])
@pytest.mark.parametrize("stale", ["expired", "expired and taken", "settled", "settled and its row used again"])
async def test_stale_receipt_does_nothing(queue, clocks, how, stale):
    await queue.put("t", [b"x"])
    held = await take(queue)
    if stale == "settled" or "row" in stale:
        await queue.ack(held)
    else:
        clocks.now += 30
    if "row" in stale:
        await queue.put("t", [b"y"])
    if "taken" in stale or "row" in stale:
        (taken,) = await take(queue)
        assert isinstance(taken.receipt, Receipt)
        assert taken.receipt.message == held[0].receipt.message  # the same row: only the token differs
    before = await queue.stats("t")
    await (queue.bury(held[0], "why") if how == "bury" else getattr(queue, how)(held))
    assert await queue.stats("t") == before
    clocks.now += 29.9
    assert (await queue.stats("t")).leased == before.leased  # the lease of the other receiver did not change


async def test_receipt_of_another_backend_does_nothing(queue):
    await queue.put("t", [b"x"])
    await take(queue)
    await queue.ack([Delivery("t", b"x", object(), 1)])
    assert (await queue.stats("t")).leased == 1


async def test_stale_receipt_does_not_affect_the_rest_of_the_batch(queue):
    await queue.put("t", [b"a", b"b", b"c"])
    a, b, c = await take(queue)
    await queue.ack([b])
    await queue.ack([a, b, b, c])
    assert await queue.stats("t") == QueueStats(0, 0, 0, 0)


async def test_dead_letters_can_be_listed_redriven_and_dropped(queue, clocks):
    await queue.put("t", [b"a", b"b", b"c"])
    await queue.release(await take(queue))
    for delivery in await take(queue):
        await queue.bury(delivery, f"reason {delivery.body.decode()} \ud800")
        clocks.now += 1
    dead = await queue.dead("t", limit=2)
    assert [(d.topic, d.body, d.reason, d.attempt) for d in dead] == [
        ("t", b"a", "reason a \\ud800", 2),
        ("t", b"b", "reason b \\ud800", 2),
    ]
    assert dead[1].buried_at == clocks.now - 2
    assert await queue.stats("t") == QueueStats(0, 0, 0, 3)
    assert await queue.redrive("other", limit=9) == 0
    assert await queue.redrive("t", limit=1) == 1
    assert [(d.body, d.attempt) for d in await take(queue)] == [(b"a", 1)]
    assert await queue.drop("t", limit=1) == 1
    assert [d.body for d in await queue.dead("t", limit=9)] == [b"c"]
    assert await queue.drop("t", limit=9) == 1


async def test_stats_count_the_four_states_separately(queue, clocks):
    await queue.put("t", [b"x"] * 6)
    leased = await take(queue, limit=3)
    await queue.bury(leased[0], "why")
    await queue.put("t", [b"x"] * 4, delay=60)
    assert await queue.stats("t") == QueueStats(ready=3, leased=2, delayed=4, dead=1)
    clocks.now += 30
    assert await queue.stats("t") == QueueStats(ready=5, leased=0, delayed=4, dead=1)
    clocks.now += 30
    assert await queue.stats("t") == QueueStats(ready=9, leased=0, delayed=0, dead=1)
    assert await queue.stats("other") == QueueStats(0, 0, 0, 0)


async def test_too_large_body_puts_nothing(queue, monkeypatch):
    monkeypatch.setattr(queue_module, "MAX_BYTES", 10)
    with pytest.raises(BodyTooLargeError):
        await queue.put("t", [b"x", b"y" * 11])
    await queue.put("t", [b"z" * 10])
    assert await bodies(queue) == [b"z" * 10]


async def test_body_of_the_declared_size_is_delivered(make):
    from brrr_sqlite.manifest import MANIFEST

    async with make(synchronous="off") as backend:
        await backend.queue.put("t", [bytes(MANIFEST.queue.max_body)])
        (delivery,) = await backend.queue.receive("t", limit=1, wait=0)
        assert len(delivery.body) == MANIFEST.queue.max_body


async def test_messages_survive_closing(make, backend):
    await backend.queue.put("t", [b"x"])
    await backend.close()
    async with make() as again:
        assert await bodies(again.queue) == [b"x"]
