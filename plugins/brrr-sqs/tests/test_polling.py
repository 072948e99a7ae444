"""Receivers of a topic: their polls, the distribution of messages, and messages without a receiver."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_aws.client import AwsClient
from brrr_core.errors import BackendClosedError
from brrr_testkit.waiting import until

BODIES = [b"%03d" % number for number in range(100)]


def polls(proxy):
    """Return the wait in seconds and the message limit of each poll."""
    requests = [each.parameters for each in proxy.requests if each.operation == "ReceiveMessage"]
    return [(each["WaitTimeSeconds"], each["MaxNumberOfMessages"]) for each in requests]


async def wait_for_request(proxy, operation="ReceiveMessage"):
    await until(lambda: proxy.asked(operation))


def bodies_of(*deliveries):
    return sorted(each.body for some in deliveries for each in some)


@pytest.fixture
async def patient(proxied_url):
    """A queue behind the proxy, with the default lease."""
    async with brrr.open_backend(proxied_url()) as backend:
        yield backend.queue


async def test_idle_receiver_polls_once_in_20_seconds(proxy, patient, topic):
    assert await patient.receive(topic, limit=100, wait=20.0) == []
    assert polls(proxy) == [(20, 10)]


async def test_receivers_of_a_topic_share_one_poll(proxy, patient, topic):
    receivers = [asyncio.create_task(patient.receive(topic, limit=1, wait=20)) for _ in range(5)]
    await wait_for_request(proxy)
    await patient.put(topic, BODIES[:5])

    found = await asyncio.gather(*receivers)

    assert bodies_of(*found) == BODIES[:5]
    assert len(polls(proxy)) <= 5
    assert polls(proxy)[0][0] == 20


async def test_100_messages_take_ten_requests_of_each_kind(proxy, patient, topic):
    await patient.put(topic, BODIES)
    found = await patient.receive(topic, limit=100, wait=20)
    await patient.extend(found)
    await patient.ack(found)

    assert bodies_of(found) == BODIES
    for operation in ("SendMessageBatch", "ReceiveMessage", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"):
        assert proxy.asked(operation) == 10, operation


async def test_receive_takes_at_most_its_limit(proxy, patient, topic):
    await patient.put(topic, BODIES[:50])

    found = await patient.receive(topic, limit=33, wait=20)

    assert len(found) == 33
    assert sum(wanted for _, wanted in polls(proxy)) == 33


@pytest.mark.parametrize(("lease", "longest"), [("60s", 20), ("30s", 10), ("10s", 3), ("2s", 0)])
async def test_poll_waits_for_at_most_a_third_of_a_lease(proxy, proxied_url, topic, lease, longest):
    async with brrr.open_backend(proxied_url(lease=lease)) as backend:
        waiting = asyncio.create_task(backend.queue.receive(topic, limit=1, wait=float("inf")))
        await wait_for_request(proxy)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert polls(proxy)[0] == (longest, 1)


async def test_receive_without_wait_polls_once_beside_a_running_poll(proxy, patient, topic):
    waiting = asyncio.create_task(patient.receive(topic, limit=1, wait=20))
    await wait_for_request(proxy)

    assert await patient.receive(topic, limit=5, wait=0) == []

    assert polls(proxy) == [(20, 1), (0, 5)]
    assert not waiting.done()
    waiting.cancel()


async def test_short_wait_beside_a_long_one_ends_in_time_without_a_poll(proxy, patient, topic):
    waiting = asyncio.create_task(patient.receive(topic, limit=1, wait=20))
    await wait_for_request(proxy)

    async with asyncio.timeout(5):
        assert await patient.receive(topic, limit=1, wait=0.3) == []

    assert len(polls(proxy)) == 1
    await patient.put(topic, [b"x"])
    assert bodies_of(await waiting) == [b"x"]


async def test_message_for_a_cancelled_receiver_is_released_at_once(proxy, patient, topic):
    waiting = asyncio.create_task(patient.receive(topic, limit=5, wait=20))
    await wait_for_request(proxy)
    waiting.cancel()
    await asyncio.wait({waiting})

    await patient.put(topic, [b"x"])  # the running poll receives it

    async with asyncio.timeout(15):  # not after the lease of a minute
        assert bodies_of(await patient.receive(topic, limit=1, wait=20)) == [b"x"]


async def test_receive_cancelled_at_any_moment_holds_no_message(proxy, patient, topic):
    await patient.put(topic, [b"x"])
    for turns in (0, 1, 2, 3, 5, 8, 13, 30, 100, 300, 1000):
        receiving = asyncio.create_task(patient.receive(topic, limit=1, wait=0))
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait({receiving})
        async with asyncio.timeout(15):
            if receiving.cancelled():
                (found,) = await patient.receive(topic, limit=1, wait=20)
            else:
                (found,) = receiving.result() or await patient.receive(topic, limit=1, wait=20)
        await patient.release([found])


async def test_receive_cancelled_before_closing_holds_no_message(proxied_url, queue, topic):
    await queue.put(topic, [b"x"])
    async with brrr.open_backend(proxied_url()) as backend:
        receiving = asyncio.create_task(backend.queue.receive(topic, limit=1, wait=0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait({receiving})

    async with asyncio.timeout(10):  # not after the lease of a minute
        (found,) = await queue.receive(topic, limit=1, wait=9)
    assert found.attempt == 2


async def test_message_of_a_cancelled_receive_goes_to_a_waiting_receiver(proxy, patient, topic):
    waiting = asyncio.create_task(patient.receive(topic, limit=1, wait=20))
    await wait_for_request(proxy)
    proxy.answer("ReceiveMessage", {"Messages": [{"ReceiptHandle": "h", "Body": "x"}]})
    receiving = asyncio.create_task(patient.receive(topic, limit=1, wait=0))
    await asyncio.sleep(0)
    receiving.cancel()

    async with asyncio.timeout(5):
        assert bodies_of(await waiting) == [b"x"]


async def a_lease():
    await asyncio.sleep(3)  # as long as the lease of these tests


@pytest.mark.parametrize("lease", ["3s"])
async def test_message_received_after_its_lease_is_left_to_the_next_receiver(proxy, faulty, topic):
    await faulty.put(topic, [b"x"])
    proxy.delay("ReceiveMessage", a_lease)

    async with asyncio.timeout(20):
        (found,) = await faulty.receive(topic, limit=1, wait=20)

    assert found.attempt == 2


@pytest.mark.parametrize("lease", ["3s"])
async def test_leases_of_a_repeated_poll_start_with_the_repetition(proxy, faulty, topic):
    await faulty.put(topic, [b"x"])
    proxy.lose("ReceiveMessage", meanwhile=a_lease)

    async with asyncio.timeout(20):
        (found,) = await faulty.receive(topic, limit=1, wait=20)

    assert found.attempt == 2  # the first attempt was in the lost response
    await faulty.ack([found])
    assert await faulty.stats(topic) == (0, 0, 0, 0)


async def test_closing_ends_waits_and_leaves_no_task(proxied_url, proxy, topic):
    before = asyncio.all_tasks()
    async with brrr.open_backend(proxied_url()) as backend:
        waiting = [asyncio.create_task(backend.queue.receive(topic, limit=1, wait=600)) for _ in range(3)]
        await wait_for_request(proxy)
    for task in waiting:
        with pytest.raises(BackendClosedError):
            await task
    assert {each for each in asyncio.all_tasks() - before if each.get_name().startswith("brrr")} == set()


async def test_receive_on_a_closing_backend_is_refused_at_once(proxied_url, proxy, topic):
    backend = brrr.open_backend(proxied_url())
    await backend.open()
    queue = backend.queue
    await queue.put(topic, [b"held"])
    held = await queue.receive(topic, limit=1, wait=10)
    proxy.stall("DeleteMessageBatch")
    settling = asyncio.create_task(queue.ack(held))
    await wait_for_request(proxy, "DeleteMessageBatch")
    polled = polls(proxy)
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    for wait in (0, 600):
        with pytest.raises(BackendClosedError):
            await queue.receive(topic, limit=1, wait=wait)
    assert not closing.done()
    await closing
    with pytest.raises(BackendClosedError):
        await settling
    assert polls(proxy) == polled


async def test_all_clients_are_closed_if_closing_one_fails(url, monkeypatch):
    closed, close = [], AwsClient.close

    async def failing(client):
        await close(client)
        closed.append(client)
        raise OSError("no")

    monkeypatch.setattr(AwsClient, "close", failing)
    backend = brrr.open_backend(url)
    await backend.open()
    with pytest.raises(OSError, match="no"):
        await backend.close()
    assert len(closed) == 2
    for client in closed:
        with pytest.raises(BackendClosedError):
            client.check_open()


async def test_topic_without_receivers_is_forgotten(queue, topic):
    assert await queue.receive(topic, limit=1, wait=0) == []
    assert await queue.receive(topic, limit=1, wait=0.1) == []
    while queue._pollers._pollers:
        await queue.receive(topic, limit=1, wait=0)
