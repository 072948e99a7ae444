"""Delays: those that SQS has, and those that are longer."""

import asyncio
import time

import pytest

import brrr_core as brrr

HOUR = 3600.0


def sent(proxy):
    """Delays and attributes of the messages that were sent."""
    return [
        (entry["DelaySeconds"], set(entry.get("MessageAttributes", {})))
        for each in proxy.requests
        if each.operation == "SendMessageBatch"
        for entry in each.parameters["Entries"]
    ]


def without_delay(asked):
    """The request, with what SQS would have waited for already over."""
    return {**asked, "Entries": [{**entry, "DelaySeconds": 0} for entry in asked["Entries"]]}


async def test_a_delay_that_sqs_has_is_left_to_it(proxy, harmed, topic):
    await harmed.put(topic, [b"x"], delay=900)
    assert sent(proxy) == [(900, set())]
    assert await harmed.stats(topic) == (0, 0, 1, 0)


async def test_a_longer_one_is_sent_anew_until_it_is_due(proxy, harmed, topic):
    proxy.change("SendMessageBatch", without_delay)
    await harmed.put(topic, [b"x"], delay=HOUR)

    assert await harmed.receive(topic, limit=1, wait=2) == []  # a quarter of an hour later, as it were

    (first, second) = sent(proxy)
    assert first == second == (900, {"brrr.due"})
    assert await harmed.stats(topic) == (0, 0, 1, 0)


async def test_the_last_hop_is_as_long_as_is_left_and_counts_as_the_first_attempt(proxy, harmed, topic, monkeypatch):
    proxy.change("SendMessageBatch", without_delay)
    begun = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: begun - HOUR + 2)
        await harmed.put(topic, [b"x"], delay=HOUR)

    async with asyncio.timeout(15):
        (found,) = await harmed.receive(topic, limit=1, wait=12)

    assert sent(proxy)[1][0] <= 2
    assert sent(proxy)[1][1] == set()
    assert (found.body, found.attempt) == (b"x", 1)


async def test_one_that_is_received_late_is_delivered_at_once(proxy, harmed, topic, monkeypatch):
    proxy.change("SendMessageBatch", without_delay)
    with monkeypatch.context() as patch:
        now = time.time()
        patch.setattr(time, "time", lambda: now - 2 * HOUR)
        await harmed.put(topic, [b"x"], delay=HOUR)

    (found,) = await harmed.receive(topic, limit=1, wait=8)

    assert len(sent(proxy)) == 1
    assert found.attempt == 1


@pytest.mark.parametrize("harm", ["lose", "cut"])
@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch"])
async def test_a_hop_whose_answers_are_lost_loses_nothing(proxy, harmed, topic, harm, operation):
    proxy.change("SendMessageBatch", without_delay)
    await harmed.put(topic, [b"x"], delay=HOUR)
    getattr(proxy, harm)(operation)

    assert await harmed.receive(topic, limit=1, wait=2) == []

    async with asyncio.timeout(10):
        while (stats := await harmed.stats(topic)).leased or not stats.delayed:  # noqa: ASYNC110 - a queue tells nobody
            await asyncio.sleep(0.05)
    assert stats.ready == 0


async def test_a_hop_that_dies_between_its_two_halves_leaves_both(proxied_url, proxy, queue, topic):
    proxy.change("SendMessageBatch", without_delay)
    proxy.refuse("DeleteMessageBatch", "AccessDenied", times=100)
    async with brrr.open_backend(proxied_url(lease="1s")) as backend:
        await backend.queue.put(topic, [b"x"], delay=HOUR)
        assert await backend.queue.receive(topic, limit=1, wait=0.5) == []
        async with asyncio.timeout(10):
            while not (await queue.stats(topic)).delayed:  # noqa: ASYNC110 - a queue tells nobody
                await asyncio.sleep(0.05)


async def test_a_release_that_sqs_cannot_hide_for_so_long_is_sent_anew_as_the_next_attempt(proxy, harmed, topic):
    await harmed.put(topic, [b"x"])
    (held,) = await harmed.receive(topic, limit=1, wait=8)
    proxy.change("SendMessageBatch", without_delay)
    assert held.attempt == 1

    await harmed.release([held], delay=13 * HOUR)

    assert sent(proxy)[1] == (900, {"brrr.due", "brrr.attempts"})
    assert proxy.asked("DeleteMessageBatch") == 1
    assert await harmed.receive(topic, limit=1, wait=2) == []
    assert sent(proxy)[2] == (900, {"brrr.due", "brrr.attempts"})


async def test_its_attempts_are_counted_on(proxy, harmed, topic, monkeypatch):
    await harmed.put(topic, [b"x"])
    (held,) = await harmed.receive(topic, limit=1, wait=8)
    proxy.change("SendMessageBatch", without_delay)
    with monkeypatch.context() as patch:
        now = time.time()
        patch.setattr(time, "time", lambda: now - 14 * HOUR)
        await harmed.release([held], delay=13 * HOUR)

    (found,) = await harmed.receive(topic, limit=1, wait=8)

    assert found.attempt == 2


async def test_a_release_within_twelve_hours_is_left_to_sqs(proxy, harmed, topic):
    await harmed.put(topic, [b"x"])
    held = await harmed.receive(topic, limit=1, wait=8)
    await harmed.release(held, delay=11 * HOUR)
    (asked,) = [each for each in proxy.requests if each.operation == "ChangeMessageVisibilityBatch"]
    assert asked.parameters["Entries"][0]["VisibilityTimeout"] == 11 * 3600
