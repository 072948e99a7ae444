"""Delays that SQS supports, and longer ones."""

import asyncio
import time

import pytest

import brrr_core as brrr

HOUR = 3600.0


def sent(proxy):
    """Return the delays and attribute names of the sent messages."""
    return [
        (entry["DelaySeconds"], set(entry.get("MessageAttributes", {})))
        for each in proxy.requests
        if each.operation == "SendMessageBatch"
        for entry in each.parameters["Entries"]
    ]


def without_delay(request):
    """Return the request without its delays, as if SQS had already waited for them."""
    return {**request, "Entries": [{**entry, "DelaySeconds": 0} for entry in request["Entries"]]}


async def test_delay_up_to_15_minutes_is_left_to_sqs(proxy, faulty, topic):
    await faulty.put(topic, [b"x"], delay=900)
    assert sent(proxy) == [(900, set())]
    assert await faulty.stats(topic) == (0, 0, 1, 0)


async def test_message_with_longer_delay_is_resent_until_it_is_due(proxy, faulty, topic):
    proxy.change("SendMessageBatch", without_delay)
    await faulty.put(topic, [b"x"], delay=HOUR)

    assert await faulty.receive(topic, limit=1, wait=2) == []  # as if 15 minutes had passed

    (first, second) = sent(proxy)
    assert first == second == (900, {"brrr.due"})
    assert await faulty.stats(topic) == (0, 0, 1, 0)


async def test_last_resend_has_the_remaining_delay_and_counts_as_the_first_attempt(proxy, faulty, topic, monkeypatch):
    proxy.change("SendMessageBatch", without_delay)
    begun = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: begun - HOUR + 2)
        await faulty.put(topic, [b"x"], delay=HOUR)

    async with asyncio.timeout(15):
        (found,) = await faulty.receive(topic, limit=1, wait=12)

    assert sent(proxy)[1][0] <= 2
    assert sent(proxy)[1][1] == set()
    assert (found.body, found.attempt) == (b"x", 1)


async def test_overdue_message_is_delivered_at_once(proxy, faulty, topic, monkeypatch):
    proxy.change("SendMessageBatch", without_delay)
    with monkeypatch.context() as patch:
        now = time.time()
        patch.setattr(time, "time", lambda: now - 2 * HOUR)
        await faulty.put(topic, [b"x"], delay=HOUR)

    (found,) = await faulty.receive(topic, limit=1, wait=8)

    assert len(sent(proxy)) == 1
    assert found.attempt == 1


@pytest.mark.parametrize("harm", ["lose", "cut"])
@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch"])
async def test_resend_with_lost_responses_keeps_the_message(proxy, faulty, topic, harm, operation):
    proxy.change("SendMessageBatch", without_delay)
    await faulty.put(topic, [b"x"], delay=HOUR)
    getattr(proxy, harm)(operation)

    assert await faulty.receive(topic, limit=1, wait=2) == []

    async with asyncio.timeout(10):
        while (stats := await faulty.stats(topic)).leased or not stats.delayed:  # noqa: ASYNC110 - SQS sends no event
            await asyncio.sleep(0.05)
    assert stats.ready == 0


async def test_resend_that_cannot_delete_keeps_both_messages(proxied_url, proxy, queue, topic):
    proxy.change("SendMessageBatch", without_delay)
    proxy.refuse("DeleteMessageBatch", "AccessDenied", times=100)
    async with brrr.open_backend(proxied_url(lease="1s")) as backend:
        await backend.queue.put(topic, [b"x"], delay=HOUR)
        assert await backend.queue.receive(topic, limit=1, wait=0.5) == []
        async with asyncio.timeout(10):
            while not (await queue.stats(topic)).delayed:  # noqa: ASYNC110 - SQS sends no event
                await asyncio.sleep(0.05)


async def test_release_for_more_than_12_hours_is_resent_as_the_next_attempt(proxy, faulty, topic):
    await faulty.put(topic, [b"x"])
    (held,) = await faulty.receive(topic, limit=1, wait=8)
    proxy.change("SendMessageBatch", without_delay)
    assert held.attempt == 1

    await faulty.release([held], delay=13 * HOUR)

    assert sent(proxy)[1] == (900, {"brrr.due", "brrr.attempts"})
    assert proxy.asked("DeleteMessageBatch") == 1
    assert await faulty.receive(topic, limit=1, wait=2) == []
    assert sent(proxy)[2] == (900, {"brrr.due", "brrr.attempts"})


async def test_attempts_are_counted_across_a_resend(proxy, faulty, topic, monkeypatch):
    await faulty.put(topic, [b"x"])
    (held,) = await faulty.receive(topic, limit=1, wait=8)
    proxy.change("SendMessageBatch", without_delay)
    with monkeypatch.context() as patch:
        now = time.time()
        patch.setattr(time, "time", lambda: now - 14 * HOUR)
        await faulty.release([held], delay=13 * HOUR)

    (found,) = await faulty.receive(topic, limit=1, wait=8)

    assert found.attempt == 2


async def test_release_within_12_hours_is_left_to_sqs(proxy, faulty, topic):
    await faulty.put(topic, [b"x"])
    held = await faulty.receive(topic, limit=1, wait=8)
    await faulty.release(held, delay=11 * HOUR)
    (asked,) = [each for each in proxy.requests if each.operation == "ChangeMessageVisibilityBatch"]
    assert asked.parameters["Entries"][0]["VisibilityTimeout"] == 11 * 3600
