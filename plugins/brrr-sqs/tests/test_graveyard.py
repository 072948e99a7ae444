"""Dead letters: kept with their reasons, moved back, deleted, and what a death in between leaves."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError
from brrr_sqs.bodies import MAX_BODY

BODIES = [b"%03d" % number for number in range(30)]


@pytest.fixture
def lease() -> str:
    """It outlasts the burying."""
    return "60s"


async def bury(queue, topic, bodies, reason="enough"):
    await queue.put(topic, bodies)
    left = len(bodies)
    async with asyncio.timeout(30):
        while left:
            for each in await queue.receive(topic, limit=10, wait=8):
                await queue.bury(each, reason)
                left -= 1


async def test_no_queue_is_made_by_looking(proxy, harmed, topic):
    await harmed.stats(topic)
    assert await harmed.dead(topic, limit=10) == []
    assert await harmed.redrive(topic, limit=10) == 0
    assert await harmed.drop(topic, limit=10) == 0
    assert proxy.asked("CreateQueue") == 0
    assert proxy.asked("ReceiveMessage") == 0


async def test_letters_are_seen_again_at_once_by_another(queue, url, topic):
    await bury(queue, topic, BODIES[:12])
    first = await queue.dead(topic, limit=5)
    async with brrr.open_backend(url) as other:
        assert await other.queue.dead(topic, limit=5) == first
        assert len(await other.queue.dead(topic, limit=100)) == 12


async def test_the_largest_body_has_room_for_a_reason(queue, topic):
    body = bytes(range(256)) * (MAX_BODY // 256)
    await bury(queue, topic, [body], reason="why\n" * 1000)
    (letter,) = await queue.dead(topic, limit=1)
    assert letter.body == body
    assert letter.reason == "why\n" * 1000


@pytest.mark.parametrize("harm", ["lose", "cut"])
@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"])
async def test_a_redrive_whose_answer_is_lost_loses_no_letter(proxy, harmed, topic, drained, operation, harm):
    await bury(harmed, topic, BODIES[:15])
    getattr(proxy, harm)(operation)

    moved = await harmed.redrive(topic, limit=100)

    found = await drained(harmed, topic)
    hidden = 10 if operation == "ReceiveMessage" and harm == "lose" else 0
    assert moved == 15 - hidden
    assert set(found) | (set(BODIES[:15]) if hidden else set()) == set(BODIES[:15])
    assert (await harmed.stats(topic)).dead == hidden


async def test_a_redrive_that_dies_between_its_two_halves_leaves_both(proxy, harmed, topic, drained):
    await bury(harmed, topic, BODIES[:3])
    proxy.refuse("DeleteMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await harmed.redrive(topic, limit=10)

    assert await drained(harmed, topic) == BODIES[:3]
    assert (await harmed.stats(topic)).dead == 3


async def test_a_redrive_that_cannot_send_deletes_nothing(proxy, harmed, topic):
    await bury(harmed, topic, BODIES[:3])
    proxy.refuse("SendMessageBatch", "AccessDenied")

    with pytest.raises(BackendError, match="does not permit"):
        await harmed.redrive(topic, limit=10)

    assert proxy.asked("DeleteMessageBatch") == 3  # by the burials
    assert (await harmed.stats(topic)).dead == 3


async def test_a_letter_that_sqs_did_not_take_back_is_not_deleted(proxy, harmed, topic, drained):
    await bury(harmed, topic, BODIES[:10])
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", done=9, sender=True)

    with pytest.raises(BackendError, match="refuses one of SendMessageBatch"):
        await harmed.redrive(topic, limit=10)

    assert (await harmed.stats(topic)).dead + len(await drained(harmed, topic)) >= 10


@pytest.mark.parametrize("turns", [1, 10, 50, 200, 500, 1000, 3000])
async def test_a_redrive_that_is_cancelled_loses_no_letter(harmed, topic, turns):
    await bury(harmed, topic, BODIES[:5])
    task = asyncio.create_task(harmed.redrive(topic, limit=10))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    async with asyncio.timeout(10):
        while (stats := await harmed.stats(topic)).ready + stats.dead < 5:  # noqa: ASYNC110 - a queue tells nobody
            await asyncio.sleep(0.05)


async def test_many_letters_are_moved_in_tens(proxy, harmed, topic):
    await bury(harmed, topic, BODIES)
    proxy.requests.clear()

    assert await harmed.redrive(topic, limit=1000) == len(BODIES)

    assert proxy.asked("SendMessageBatch") == 3
    assert proxy.asked("DeleteMessageBatch") == 3
    assert proxy.asked("ReceiveMessage") <= 5
    assert (await harmed.stats(topic)).ready == len(BODIES)
