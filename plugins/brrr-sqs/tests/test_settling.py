"""Settling: completed despite cancellation, done once, only by the holder, and within SQS' limit on leases."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError

TURNS = (0, 1, 2, 3, 4, 6, 9, 15, 40, 100)


async def one(queue, topic, body=b"x"):
    """Put and receive a message."""
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
async def test_cancelled_and_repeated_release_sends_one_request(proxy, faulty, topic, turns):
    held = await one(faulty, topic)

    await cancelled(faulty.release([held]), turns)
    await faulty.release([held])

    assert proxy.asked("ChangeMessageVisibilityBatch") == 1
    async with asyncio.timeout(20):  # at once, not after the lease
        assert [each.attempt for each in await faulty.receive(topic, limit=1, wait=8)] == [2]


@pytest.mark.parametrize("turns", TURNS)
async def test_cancelled_and_repeated_ack_sends_one_request(proxy, faulty, topic, turns):
    held = await one(faulty, topic)

    await cancelled(faulty.ack([held]), turns)
    await faulty.ack([held])

    assert proxy.asked("DeleteMessageBatch") == 1
    assert await faulty.stats(topic) == (0, 0, 0, 0)


@pytest.mark.parametrize("turns", TURNS)
async def test_cancelled_and_repeated_bury_leaves_one_letter(faulty, topic, turns):
    held = await one(faulty, topic)

    await cancelled(faulty.bury(held, "enough"), turns)
    await faulty.bury(held, "enough")

    assert [each.reason for each in await faulty.dead(topic, limit=9)] == ["enough"]
    assert await faulty.stats(topic) == (0, 0, 0, 1)


async def test_repeated_bury_after_a_failed_delete_sends_no_second_letter(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        held = await one(backend.queue, topic)
        proxy.refuse("DeleteMessageBatch", "AccessDenied")
        with pytest.raises(BackendError, match="does not permit"):
            await backend.queue.bury(held, "enough")

        await backend.queue.bury(held, "enough")

        assert await backend.queue.stats(topic) == (0, 0, 0, 1)


async def test_bury_with_a_refused_letter_keeps_the_message(proxy, faulty, topic):
    held = await one(faulty, topic)
    proxy.refuse("SendMessageBatch", "AccessDenied")
    with pytest.raises(BackendError, match="does not permit"):
        await faulty.bury(held, "enough")

    assert proxy.asked("DeleteMessageBatch") == 0
    await faulty.release([held])
    assert (await faulty.stats(topic)).dead == 0


async def test_release_waits_for_a_running_extension(proxy, faulty, topic):
    held = await one(faulty, topic)
    extending = asyncio.create_task(faulty.extend([held]))
    await asyncio.sleep(0)
    await faulty.release([held])
    await extending

    seconds = [
        entry["VisibilityTimeout"]
        for each in proxy.requests
        if each.operation == "ChangeMessageVisibilityBatch"
        for entry in each.parameters["Entries"]
    ]
    assert seconds == [60, 0]


async def test_delivery_that_is_being_settled_is_not_extended(proxy, faulty, topic):
    held = await one(faulty, topic)
    acking = asyncio.create_task(faulty.ack([held]))
    await asyncio.sleep(0)
    await faulty.extend([held])
    await acking
    assert proxy.asked("ChangeMessageVisibilityBatch") == 0


async def test_expired_lease_settles_nothing(proxied_url, proxy, topic):
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
async def test_receipt_that_sqs_no_longer_knows_is_ignored(proxy, faulty, topic, code):
    one_held, other = await one(faulty, topic), await one(faulty, topic)
    proxy.fail_entries("ChangeMessageVisibilityBatch", code, sender=True)
    proxy.fail_entries("DeleteMessageBatch", code, sender=True)

    await faulty.extend([one_held, other])
    await faulty.ack([one_held, other])

    assert proxy.asked("DeleteMessageBatch") == 1


async def test_repeated_delivery_in_a_batch_is_settled_once(faulty, topic):
    held = await one(faulty, topic)
    await faulty.ack([held, held, held])
    assert await faulty.stats(topic) == (0, 0, 0, 0)


async def test_failure_of_one_topic_does_not_stop_the_others(proxy, faulty, topic):
    mine, theirs = await one(faulty, topic), await one(faulty, f"{topic}-other")
    proxy.refuse("DeleteMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await faulty.ack([mine, theirs])

    assert await faulty.stats(f"{topic}-other") == (0, 0, 0, 0)
    await faulty.ack([mine])
    assert await faulty.stats(topic) == (0, 0, 0, 0)


async def test_receipts_of_another_backend_are_stale(queue, topic):
    async with brrr.open_backend("memory:") as other:
        held = await one(other.queue, topic)
        await queue.ack([held])
        await queue.bury(held, "x")
    assert await queue.stats(topic) == (0, 0, 0, 0)


async def test_extending_beyond_12_hours_raises_an_error(proxy, faulty, topic):
    held, other = await one(faulty, topic), await one(faulty, topic)
    held.receipt.begun -= 12 * 3600 - 30  # as if it was received so long ago

    with pytest.raises(BackendError, match="held for almost twelve hours"):
        await faulty.extend([held, other])

    (asked,) = [each for each in proxy.requests if each.operation == "ChangeMessageVisibilityBatch"]
    shortened, whole = sorted(entry["VisibilityTimeout"] for entry in asked.parameters["Entries"])
    assert 0 < shortened < 30
    assert whole == 60


async def test_closing_completes_a_cancelled_settlement(proxied_url, proxy, topic, queue, url):
    async with brrr.open_backend(url) as backend:
        held = await one(backend.queue, topic)
        task = asyncio.create_task(backend.queue.release([held]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(10):  # the lease is a minute
        assert [each.attempt for each in await queue.receive(topic, limit=1, wait=9)] == [2]
