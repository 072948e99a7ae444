"""Dead letters: stored with their reasons, redriven, dropped, and kept if an operation fails midway."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError
from brrr_sqs.bodies import MAX_BODY

BODIES = [b"%03d" % number for number in range(30)]


async def bury(queue, topic, bodies, reason="enough"):
    await queue.put(topic, bodies)
    left = len(bodies)
    async with asyncio.timeout(30):
        while left:
            for each in await queue.receive(topic, limit=10, wait=8):
                await queue.bury(each, reason)
                left -= 1


async def test_reading_dead_letters_creates_no_queue(proxy, faulty, topic):
    await faulty.stats(topic)
    assert await faulty.dead(topic, limit=10) == []
    assert await faulty.redrive(topic, limit=10) == 0
    assert await faulty.drop(topic, limit=10) == 0
    assert proxy.asked("CreateQueue") == 0
    assert proxy.asked("ReceiveMessage") == 0


async def test_another_backend_sees_dead_letters_that_were_just_read(queue, url, topic):
    await bury(queue, topic, BODIES[:12])
    first = await queue.dead(topic, limit=5)
    async with brrr.open_backend(url) as other:
        assert await other.queue.dead(topic, limit=5) == first
        assert len(await other.queue.dead(topic, limit=100)) == 12


async def test_dead_letter_with_the_largest_body_keeps_its_reason(queue, topic):
    body = bytes(range(256)) * (MAX_BODY // 256)
    await bury(queue, topic, [body], reason="why\n" * 1000)
    (letter,) = await queue.dead(topic, limit=1)
    assert letter.body == body
    assert letter.reason == "why\n" * 1000


@pytest.mark.parametrize("fault", ["lose", "cut"])
@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"])
async def test_redrive_with_lost_response_keeps_every_letter(proxy, faulty, topic, drained, operation, fault):
    await bury(faulty, topic, BODIES[:15])
    getattr(proxy, fault)(operation)

    moved = await faulty.redrive(topic, limit=100)

    found = await drained(faulty, topic)
    hidden = 10 if operation == "ReceiveMessage" and fault == "lose" else 0
    assert moved == 15 - hidden
    assert set(found) | (set(BODIES[:15]) if hidden else set()) == set(BODIES[:15])
    assert (await faulty.stats(topic)).dead == hidden


async def test_redrive_that_cannot_delete_leaves_message_and_letter(proxy, faulty, topic, drained):
    await bury(faulty, topic, BODIES[:3])
    proxy.refuse("DeleteMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await faulty.redrive(topic, limit=10)

    assert await drained(faulty, topic) == BODIES[:3]
    assert (await faulty.stats(topic)).dead == 3


async def test_redrive_that_cannot_send_deletes_nothing(proxy, faulty, topic):
    await bury(faulty, topic, BODIES[:3])
    proxy.refuse("SendMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await faulty.redrive(topic, limit=10)

    assert proxy.asked("DeleteMessageBatch") == 3  # by the burials
    assert (await faulty.stats(topic)).dead == 3


async def test_letter_that_sqs_refuses_to_send_is_not_deleted(proxy, faulty, topic, drained):
    await bury(faulty, topic, BODIES[:10])
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", done=9, sender=True)

    with pytest.raises(BackendError, match="refuses one of SendMessageBatch"):
        await faulty.redrive(topic, limit=10)

    assert (await faulty.stats(topic)).dead + len(await drained(faulty, topic)) >= 10


@pytest.mark.parametrize("turns", [1, 10, 50, 200, 500, 1000, 3000])
async def test_cancelled_redrive_keeps_every_letter(faulty, topic, turns):
    await bury(faulty, topic, BODIES[:5])
    task = asyncio.create_task(faulty.redrive(topic, limit=10))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    async with asyncio.timeout(10):
        while (stats := await faulty.stats(topic)).ready + stats.dead < 5:  # noqa: ASYNC110 - SQS sends no event
            await asyncio.sleep(0.05)


async def test_redrive_moves_ten_letters_per_request(proxy, faulty, topic):
    await bury(faulty, topic, BODIES)
    proxy.requests.clear()

    assert await faulty.redrive(topic, limit=1000) == len(BODIES)

    assert proxy.asked("SendMessageBatch") == 3
    assert proxy.asked("DeleteMessageBatch") == 3
    assert proxy.asked("ReceiveMessage") <= 5
    assert (await faulty.stats(topic)).ready == len(BODIES)
