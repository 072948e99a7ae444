"""Settling: whole where it is cancelled, not twice, by the holder alone, and as long as SQS lets a message be held."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError

TURNS = (0, 1, 2, 3, 4, 6, 9, 15, 40, 100)


async def one(queue, topic, body=b"x"):
    """A message that was put and received."""
    await queue.put(topic, [body])
    async with asyncio.timeout(10):
        (found,) = await queue.receive(topic, limit=1, wait=8)
    return found


async def cancelled(settling, turns):
    task = asyncio.create_task(settling)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("turns", TURNS)
async def test_a_release_that_is_cancelled_and_done_again_is_asked_for_once(proxy, harmed, topic, turns):
    held = await one(harmed, topic)

    await cancelled(harmed.release([held]), turns)
    await harmed.release([held])

    assert proxy.asked("ChangeMessageVisibilityBatch") == 1
    async with asyncio.timeout(2.5):  # at once, and not when the lease is over
        assert [each.attempt for each in await harmed.receive(topic, limit=1, wait=8)] == [2]


@pytest.mark.parametrize("turns", TURNS)
async def test_an_ack_that_is_cancelled_and_done_again_is_asked_for_once(proxy, harmed, topic, turns):
    held = await one(harmed, topic)

    await cancelled(harmed.ack([held]), turns)
    await harmed.ack([held])

    assert proxy.asked("DeleteMessageBatch") == 1
    assert await harmed.stats(topic) == (0, 0, 0, 0)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_bury_that_is_cancelled_and_done_again_leaves_one_letter(harmed, topic, turns):
    held = await one(harmed, topic)

    await cancelled(harmed.bury(held, "enough"), turns)
    await harmed.bury(held, "enough")

    assert [each.reason for each in await harmed.dead(topic, limit=9)] == ["enough"]
    assert await harmed.stats(topic) == (0, 0, 0, 1)


async def test_a_bury_whose_delete_failed_is_done_again_without_a_second_letter(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        held = await one(backend.queue, topic)
        proxy.refuse("DeleteMessageBatch", "AccessDenied")
        with pytest.raises(BackendError, match="does not permit"):
            await backend.queue.bury(held, "enough")

        await backend.queue.bury(held, "enough")

        assert await backend.queue.stats(topic) == (0, 0, 0, 1)


async def test_a_bury_whose_letter_is_refused_keeps_the_message(proxy, harmed, topic):
    held = await one(harmed, topic)
    proxy.refuse("SendMessageBatch", "AccessDenied")
    with pytest.raises(BackendError, match="does not permit"):
        await harmed.bury(held, "enough")

    assert proxy.asked("DeleteMessageBatch") == 0
    await harmed.release([held])
    assert (await harmed.stats(topic)).dead == 0


async def test_a_release_waits_for_an_extension_that_would_hide_the_message_again(proxy, harmed, topic):
    held = await one(harmed, topic)
    extending = asyncio.create_task(harmed.extend([held]))
    await asyncio.sleep(0)
    await harmed.release([held])
    await extending

    seconds = [
        entry["VisibilityTimeout"]
        for each in proxy.requests
        if each.operation == "ChangeMessageVisibilityBatch"
        for entry in each.parameters["Entries"]
    ]
    assert seconds == [3, 0]


async def test_what_is_being_settled_is_not_extended(proxy, harmed, topic):
    held = await one(harmed, topic)
    acking = asyncio.create_task(harmed.ack([held]))
    await asyncio.sleep(0)
    await harmed.extend([held])
    await acking
    assert proxy.asked("ChangeMessageVisibilityBatch") == 0


async def test_a_lease_that_has_run_out_settles_nothing(proxied_url, proxy, topic):
    async with brrr.open_backend(proxied_url(lease="1s")) as backend:
        queue = backend.queue
        stale = await one(queue, topic)
        async with asyncio.timeout(10):
            (held,) = await queue.receive(topic, limit=1, wait=8)
        await queue.extend([held])
        before = len(proxy.requests)
        await queue.ack([stale])
        await queue.release([stale])
        await queue.bury(stale, "stale")
        await queue.extend([stale])
        assert len(proxy.requests) == before


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "AWS.SimpleQueueService.MessageNotInflight"])
async def test_a_receipt_that_sqs_does_not_know_any_more_is_no_error(proxy, harmed, topic, code):
    one_held, other = await one(harmed, topic), await one(harmed, topic)
    proxy.fail_entries("ChangeMessageVisibilityBatch", code, sender=True)
    proxy.fail_entries("DeleteMessageBatch", code, sender=True)

    await harmed.extend([one_held, other])
    await harmed.ack([one_held, other])

    assert proxy.asked("DeleteMessageBatch") == 1


async def test_deliveries_that_stand_twice_in_a_batch_are_settled_once(harmed, topic):
    held = await one(harmed, topic)
    await harmed.ack([held, held, held])
    assert await harmed.stats(topic) == (0, 0, 0, 0)


async def test_topics_of_one_batch_are_settled_each_and_one_that_fails_does_not_keep_the_others(proxy, harmed, topic):
    mine, theirs = await one(harmed, topic), await one(harmed, f"{topic}-other")
    proxy.refuse("DeleteMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await harmed.ack([mine, theirs])

    assert await harmed.stats(f"{topic}-other") == (0, 0, 0, 0)
    await harmed.ack([mine])
    assert await harmed.stats(topic) == (0, 0, 0, 0)


async def test_receipts_of_another_backend_are_stale(queue, topic):
    async with brrr.open_backend("memory:") as other:
        held = await one(other.queue, topic)
        await queue.ack([held])
        await queue.bury(held, "x")
    assert await queue.stats(topic) == (0, 0, 0, 0)


async def test_a_message_is_held_for_twelve_hours_at_most_and_that_is_told(proxy, harmed, topic):
    held, other = await one(harmed, topic), await one(harmed, topic)
    held.receipt.begun -= 12 * 3600 - 2  # so long ago it was received

    with pytest.raises(BackendError, match="held for almost twelve hours"):
        await harmed.extend([held, other])

    (asked,) = [each for each in proxy.requests if each.operation == "ChangeMessageVisibilityBatch"]
    assert sorted(entry["VisibilityTimeout"] for entry in asked.parameters["Entries"]) == [1, 3]


async def test_what_is_being_settled_when_the_backend_is_closed_is_settled(proxied_url, proxy, topic, queue, url):
    async with brrr.open_backend(url) as backend:
        held = await one(backend.queue, topic)
        task = asyncio.create_task(backend.queue.release([held]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(10):  # a lease is a minute
        assert [each.attempt for each in await queue.receive(topic, limit=1, wait=9)] == [2]
