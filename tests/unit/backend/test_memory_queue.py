"""The memory queue without waiting: leases, delays, attempts, receipts, dead letters, invalid arguments."""

import math
from typing import Any

import pytest

from brrr_core.backend import BackendUrl, Delivery, Duration, Queue, QueueStats
from brrr_core.backend.memory import MAX_BYTES, MemoryBackend, MemoryOptions
from brrr_core.errors import ArgumentError, BodyTooLargeError, OptionError


@pytest.fixture
def queue(backend: MemoryBackend) -> Queue:
    return backend.queue


async def take(queue: Queue, limit: int = 100, topic: str = "t") -> list[Delivery]:
    return await queue.receive(topic, limit=limit, wait=0)


async def bodies(queue: Queue, limit: int = 100, topic: str = "t") -> list[bytes]:
    return [delivery.body for delivery in await take(queue, limit, topic)]


async def test_receive_returns_oldest_messages_up_to_the_limit(queue: Queue) -> None:
    await queue.put("t", [b"1", b"2"])
    await queue.put("t", [b"3"])
    assert await bodies(queue, 2) == [b"1", b"2"]
    assert await bodies(queue, 2) == [b"3"]
    assert await bodies(queue) == []


async def test_first_delivery_has_its_topic_and_attempt_one(queue: Queue) -> None:
    await queue.put("t", [b"x"])
    [delivery] = await take(queue)
    assert (delivery.topic, delivery.body, delivery.attempt) == ("t", b"x", 1)


async def test_acknowledged_message_is_never_delivered_again(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"x", b"y"])
    await queue.ack(await take(queue))
    clock.advance(31)
    assert await bodies(queue) == []
    assert await queue.stats("t") == QueueStats(0, 0, 0, 0)


async def test_expired_lease_makes_message_ready_again(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"x"])
    await take(queue)
    clock.advance(29.999)
    assert await take(queue) == []
    clock.advance(0.001)
    [again] = await take(queue)
    assert (again.body, again.attempt) == (b"x", 2)


async def test_extend_restarts_lease(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"x"])
    held = await take(queue)
    for _ in range(3):
        clock.advance(29)
        await queue.extend(held)
    clock.advance(29)
    assert await take(queue) == []
    await queue.ack(held)
    clock.advance(31)
    assert await take(queue) == []


async def test_expired_extended_lease_makes_message_ready_once(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"x"])
    held = await take(queue)
    clock.advance(20)
    await queue.extend(held)
    clock.advance(100)
    assert len(await take(queue)) == 1
    assert await take(queue) == []


async def test_extend_by_backend_with_shorter_lease_shortens_the_lease(clock: Any, name: str) -> None:
    def opened(lease: float) -> MemoryBackend:
        return MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)), clock=clock)

    async with opened(30) as long, opened(5) as short:
        await long.queue.put("t", [b"x"])
        held = await take(long.queue)
        await short.queue.extend(held)
        clock.advance(5)
        [again] = await take(long.queue)
        clock.advance(29)  # the first lease would end here; its heap entry must not end the second lease
        assert await take(long.queue) == []
        await long.queue.ack([again])


async def test_delayed_message_becomes_ready_after_its_delay(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"late"], delay=10)
    await queue.put("t", [b"soon"], delay=5)
    assert await queue.stats("t") == QueueStats(0, 0, 2, 0)
    clock.advance(5)
    assert await bodies(queue) == [b"soon"]
    clock.advance(4.5)
    assert await bodies(queue) == []
    clock.advance(0.5)
    assert await bodies(queue) == [b"late"]


async def test_released_message_is_delivered_with_next_attempt(queue: Queue, clock: Any) -> None:
    await queue.put("t", [b"x"])
    for attempt in (1, 2, 3):
        [delivery] = await take(queue)
        assert delivery.attempt == attempt
        await queue.release([delivery])
    [delivery] = await take(queue)
    await queue.release([delivery], delay=7)
    assert await take(queue) == []
    clock.advance(7)
    [delivery] = await take(queue)
    assert delivery.attempt == 5


@pytest.mark.parametrize("settle", ["ack", "release", "bury", "expire"])
@pytest.mark.parametrize("then", ["ack", "release", "extend", "bury"])
async def test_settled_or_expired_receipt_does_nothing(queue: Queue, clock: Any, settle: str, then: str) -> None:
    async def use(how: str) -> None:
        match how:
            case "bury":
                await queue.bury(held, "first")
            case "expire":
                clock.advance(30)
            case _:
                await getattr(queue, how)([held])

    await queue.put("t", [b"x"])
    [held] = await take(queue)
    await use(settle)
    before = None if settle == "expire" else await queue.stats("t")
    await use(then)  # after `expire`, no operation has noticed the expiry yet
    after = await queue.stats("t")
    assert before in (None, after)
    assert (
        after
        == {
            "ack": QueueStats(0, 0, 0, 0),
            "release": QueueStats(1, 0, 0, 0),
            "bury": QueueStats(0, 0, 0, 1),
            "expire": QueueStats(1, 0, 0, 0),
        }[settle]
    )


@pytest.mark.parametrize("then", ["ack", "release", "extend"])
async def test_stale_receipt_does_not_affect_the_next_delivery(queue: Queue, clock: Any, then: str) -> None:
    await queue.put("t", [b"x"])
    stale = await take(queue)
    clock.advance(30)
    current = await take(queue)
    clock.advance(1)
    await getattr(queue, then)(stale)
    assert await queue.stats("t") == QueueStats(0, 1, 0, 0)
    clock.advance(29)
    assert (await take(queue))[0].attempt == 3
    assert current[0].attempt == 2


async def test_receipt_twice_in_a_batch_counts_once(queue: Queue) -> None:
    await queue.put("t", [b"x"])
    [held] = await take(queue)
    await queue.release([held, held])
    assert await queue.stats("t") == QueueStats(1, 0, 0, 0)


async def test_batch_can_settle_messages_of_several_topics(queue: Queue) -> None:
    await queue.put("a", [b"1"])
    await queue.put("b", [b"2"])
    await queue.ack([*await take(queue, topic="a"), *await take(queue, topic="b")])
    assert await queue.stats("a") == await queue.stats("b") == QueueStats(0, 0, 0, 0)


async def test_receipts_of_another_backend_do_nothing(queue: Queue, clock: Any) -> None:
    async with MemoryBackend(BackendUrl("memory"), clock=clock) as other:
        for each in (queue, other.queue):
            await each.put("t", [b"x"])
        theirs = await take(other.queue)
        await take(queue)
        await queue.ack([*theirs, Delivery("t", b"x", "a receipt of another kind", 1)])
        assert await queue.stats("t") == await other.queue.stats("t") == QueueStats(0, 1, 0, 0)


async def test_dead_letter_keeps_body_reason_and_attempt(queue: Queue) -> None:
    await queue.put("t", [b"1", b"2"])
    first, second = await take(queue)
    await queue.release([second])
    [second] = await take(queue)
    await queue.bury(first, "why")
    await queue.bury(second, "because")
    one, two = await queue.dead("t", limit=10)
    assert (one.topic, one.body, one.reason, one.attempt) == ("t", b"1", "why", 1)
    assert (two.body, two.reason, two.attempt) == (b"2", "because", 2)
    assert one.buried_at <= two.buried_at
    assert await queue.dead("t", limit=1) == [one]
    assert await queue.dead("u", limit=1) == []


async def test_redrive_puts_oldest_dead_letters_back_as_new_messages(queue: Queue) -> None:
    await queue.put("t", [b"1", b"2", b"3"])
    for delivery in await take(queue):
        await queue.bury(delivery, "why")
    assert await queue.redrive("t", limit=2) == 2
    assert [(d.body, d.attempt) for d in await take(queue)] == [(b"1", 1), (b"2", 1)]
    assert [letter.body for letter in await queue.dead("t", limit=10)] == [b"3"]
    assert await queue.redrive("t", limit=2) == 1
    assert await queue.redrive("t", limit=2) == 0
    assert await queue.redrive("u", limit=2) == 0


async def test_drop_deletes_oldest_dead_letters(queue: Queue) -> None:
    await queue.put("t", [b"1", b"2", b"3"])
    for delivery in await take(queue):
        await queue.bury(delivery, "why")
    assert await queue.drop("t", limit=2) == 2
    assert [letter.body for letter in await queue.dead("t", limit=10)] == [b"3"]
    assert await queue.drop("t", limit=9) == 1
    assert await queue.drop("t", limit=9) == 0
    assert await take(queue) == []


async def test_stats_count_messages_in_every_state(queue: Queue) -> None:
    await queue.put("t", [b"1", b"2", b"3", b"4", b"5", b"6"])
    await queue.put("t", [b"7"], delay=1)
    held = await take(queue, 3)
    await queue.bury(held[0], "why")
    assert await queue.stats("t") == QueueStats(ready=3, leased=2, delayed=1, dead=1)


@pytest.mark.parametrize(
    "topic", ["a/b", "a b", "*", "\x00", "é", "🎈", "'; drop table t; --", "..", "a" * 1024, "\n", "{t}", "t:dead"]
)
async def test_any_text_is_a_valid_topic(queue: Queue, topic: str) -> None:
    await queue.put("t", [b"other"])
    await queue.put(topic, [b"x"])
    [delivery] = await take(queue, topic=topic)
    assert (delivery.topic, delivery.body) == (topic, b"x")
    await queue.bury(delivery, topic)
    assert [letter.reason for letter in await queue.dead(topic, limit=9)] == [topic]
    assert await bodies(queue) == [b"other"]


async def test_empty_batch_does_nothing(queue: Queue, backend: MemoryBackend) -> None:
    await queue.put("t", [])
    await queue.put("t", [], delay=5)
    await queue.ack([])
    await queue.release([])
    await queue.extend([])
    assert await queue.stats("t") == QueueStats(0, 0, 0, 0)


async def test_put_with_too_large_body_puts_no_message_of_the_batch(queue: Queue) -> None:
    with pytest.raises(BodyTooLargeError, match=f"{MAX_BYTES + 1} bytes for the topic 't'"):
        await queue.put("t", [b"small", bytes(MAX_BYTES + 1)])
    assert await queue.stats("t") == QueueStats(0, 0, 0, 0)
    await queue.put("t", [bytes(MAX_BYTES), b""])
    assert [len(body) for body in await bodies(queue)] == [MAX_BYTES, 0]


@pytest.mark.parametrize("limit", [0, -1])
async def test_limit_under_one_is_refused(queue: Queue, limit: int) -> None:
    for refused in (
        lambda: queue.receive("t", limit=limit, wait=0),
        lambda: queue.dead("t", limit=limit),
        lambda: queue.redrive("t", limit=limit),
        lambda: queue.drop("t", limit=limit),
    ):
        with pytest.raises(ArgumentError, match="limit is"):
            await refused()


@pytest.mark.parametrize("wait", [-1, -0.001, math.nan, -math.inf])
async def test_negative_or_nan_wait_is_refused(queue: Queue, wait: float) -> None:
    with pytest.raises(ArgumentError, match="wait is"):
        await queue.receive("t", limit=1, wait=wait)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf])
async def test_negative_or_infinite_delay_is_refused(queue: Queue, delay: float) -> None:
    await queue.put("t", [b"x"])
    held = await take(queue)
    with pytest.raises(ArgumentError, match="delay is"):
        await queue.put("t", [b"y"], delay=delay)
    with pytest.raises(ArgumentError, match="delay is"):
        await queue.release(held, delay=delay)
    assert await queue.stats("t") == QueueStats(0, 1, 0, 0)


async def test_empty_topic_is_refused(queue: Queue) -> None:
    with pytest.raises(ArgumentError, match="topic"):
        await queue.put("", [b"x"])
    with pytest.raises(ArgumentError, match="topic"):
        await queue.receive("", limit=1, wait=0)


@pytest.mark.parametrize("lease", [0, -1, math.nan])
def test_lease_must_be_more_than_zero(lease: float) -> None:
    with pytest.raises(OptionError, match="lease"):
        MemoryOptions(Duration(lease))


async def test_settled_leases_do_not_accumulate(queue: Queue, backend: MemoryBackend) -> None:
    await queue.put("t", [b"kept"])
    await take(queue)
    topic = queue._space.topics["t"]  # type: ignore[attr-defined]
    for _ in range(50):
        await queue.put("t", [b"x"] * 100)
        await queue.ack(await take(queue))
        assert len(topic._leases) < 300


async def test_sweep_of_settled_leases_keeps_order_of_live_leases(
    clock: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brrr_core.backend.memory.topic.SWEEP_MARGIN", -10)  # sweep at every settlement
    backends = [
        MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)), clock=clock)
        for lease in (5, 30, 10)
    ]
    async with backends[0] as soon, backends[1] as late, backends[2] as between:
        await soon.queue.put("t", [b"1", b"2", b"3"])
        held = [await take(backend.queue, 1) for backend in (soon, late, between)]
        await soon.queue.ack(held[0])
        clock.advance(10)
        assert await bodies(soon.queue) == [b"3"]


async def test_repeatedly_shortened_leases_do_not_accumulate(clock: Any, name: str) -> None:
    def opened(lease: float) -> MemoryBackend:
        return MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)), clock=clock)

    async with opened(30) as long, opened(5) as short:
        await long.queue.put("t", [b"x"])
        held = await take(long.queue)
        for _ in range(100):
            for backend in (long, short):
                await backend.queue.extend(held)
                clock.advance(4)
                assert await take(backend.queue) == []
        assert len(long.queue._space.topics["t"]._leases) < 10  # type: ignore[attr-defined]


async def test_unused_topics_are_forgotten(queue: Queue) -> None:
    topics = queue._space.topics  # type: ignore[attr-defined]
    for topic in map(str, range(100)):
        await queue.receive(topic, limit=1, wait=0)
        await queue.stats(topic)
        await queue.put(topic, [])
        assert topics == {}
        await queue.put(topic, [b"x"])
        await queue.ack(await take(queue, topic=topic))
        assert topics == {}
        await queue.put(topic, [b"x", b"y"])
        held = await take(queue, topic=topic)
        await queue.ack(held[:1])
        await queue.bury(held[1], "why")
        assert topic in topics
        await queue.drop(topic, limit=1)
    assert topics == {}
