"""NATS specifics of the queue: consumers, pulls, late acknowledgements, duplicates, schedules."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from nats.aio.client import Client

import brrr_core as brrr
from brrr_core.errors import BackendClosedError, BackendUnavailableError
from brrr_nats.client.connection import Connection
from brrr_nats.client.messages import MAX_REQUESTS_IN_FLIGHT
from brrr_nats.queue.consumers import Consumers
from brrr_nats.queue.pulls import TopicPulls
from brrr_nats.queue.settling import ACK
from brrr_testkit.faults.relay import Bytes, relayed
from brrr_testkit.servers.nats import nats_program, until

nats_program()

TOPIC = "jobs"
LONG = "lease=300s"


@pytest.fixture
def stream(names):
    return f"{names}-q"


@pytest.fixture
async def losing(url, shared_server):
    """A proxy that loses replies, and a queue behind it with long leases."""
    async with (
        relayed(Bytes(shared_server.port, scheme="nats")) as proxy,
        brrr.open_backend(f"{url.replace(shared_server.place, proxy.place)}&{LONG}") as backend,
    ):
        yield proxy, backend.queue


def waiting_pulls(server, stream):
    return sum(each["num_waiting"] for each in server.streams()[stream].get("consumer_detail") or ())


async def pulls(server, stream, number):
    await asyncio.to_thread(until, lambda: waiting_pulls(server, stream) == number, f"{number} pulls wait")


async def take(queue, number, *, topic=TOPIC, within=10.0):
    found = []
    async with asyncio.timeout(within):
        while len(found) < number:
            found += await queue.receive(topic, limit=number - len(found), wait=1)
    return found


async def come_to(queue, *stats, within=10.0):
    """Wait for counts: replicated streams remove acknowledged messages a little later."""
    async with asyncio.timeout(within):
        while await queue.stats(TOPIC) != stats:  # noqa: ASYNC110 - it is the server's state
            await asyncio.sleep(0.01)


async def bury(queue, number):
    await queue.put(TOPIC, [b"%03d" % each for each in range(number)])
    for each in await take(queue, number):
        await queue.bury(each, "tried enough")


def counting(counts, function):
    """Return the function, with its calls counted under its name."""

    def counted(*args):
        counts[function.__name__] += 1
        return function(*args)

    return counted


# -- pulls -----------------------------------------------------------------------------------------------------------


async def test_cancelled_receives_leave_one_pull_for_the_next_receive(url, stream, shared_server):
    async with brrr.open_backend(url) as backend:
        for _ in range(5):
            waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=3, wait=60))
            await pulls(shared_server, stream, 1)
            waiting.cancel()
            await asyncio.wait({waiting})
        assert waiting_pulls(shared_server, stream) == 1
    await pulls(shared_server, stream, 0)


async def test_pull_with_a_larger_limit_is_not_reused(url, stream, shared_server):
    async with brrr.open_backend(url) as backend, brrr.open_backend(url) as other:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=10, wait=60))
        await pulls(shared_server, stream, 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        taking = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await pulls(shared_server, stream, 2)
        await other.queue.put(TOPIC, [b"%d" % each for each in range(3)])
        assert len(await taking) == 1
        assert len(await take(backend.queue, 2)) == 2


async def test_message_for_a_cancelled_receive_goes_to_another_receiver(url, stream, shared_server):
    async with brrr.open_backend(f"{url}&{LONG}") as backend:
        first = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await pulls(shared_server, stream, 1)
        second = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await pulls(shared_server, stream, 2)
        first.cancel()
        await asyncio.wait({first})
        await backend.queue.put(TOPIC, [b"x"])
        async with asyncio.timeout(5):
            (found,) = await second
        assert found.attempt == 1


async def test_message_without_receiver_is_released_before_its_lease_ends(url, stream, shared_server):
    async with brrr.open_backend(f"{url}&{LONG}") as backend, brrr.open_backend(f"{url}&{LONG}") as other:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=5, wait=60))
        await pulls(shared_server, stream, 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        await other.queue.put(TOPIC, [b"%d" % each for each in range(5)])
        assert len(await take(other.queue, 5)) == 5


async def test_close_releases_messages_on_their_way(url):
    """A backend that is closed at any moment after a put leaves no message leased."""
    async with brrr.open_backend(f"{url}&{LONG}") as other:
        for turns in (0, 1, 2, 3, 5, 8, 13, 30):
            backend = brrr.open_backend(f"{url}&{LONG}")
            await backend.open()
            receiving = asyncio.create_task(backend.queue.receive(TOPIC, limit=10, wait=60))
            await asyncio.sleep(0.02)  # now the pull waits; nothing signals that the server has it
            await other.queue.put(TOPIC, [b"%d" % each for each in range(5)])
            for _ in range(turns):
                await asyncio.sleep(0)
            await backend.close()
            try:
                held = len(await receiving)
            except BackendClosedError:
                held = 0
            await other.queue.ack(await take(other.queue, 5 - held))


async def test_receive_without_wait_ignores_the_pull_of_another(url, stream, shared_server):
    async with brrr.open_backend(url) as backend:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await pulls(shared_server, stream, 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        async with asyncio.timeout(5):
            assert await backend.queue.receive(TOPIC, limit=1, wait=0) == []


async def test_receive_without_wait_first_pulls_without_expiry(url, monkeypatch):
    """A pull that expires within milliseconds may find nothing on a busy server."""
    async with brrr.open_backend(url) as backend:
        await backend.queue.put(TOPIC, [b"x"])
        monkeypatch.setattr(TopicPulls, "request", None)
        (found,) = await backend.queue.receive(TOPIC, limit=1, wait=0)
        assert found.body == b"x"


async def test_paused_consumer_is_pulled_with_pauses(url, stream, shared_server, monkeypatch):
    asked = Counter()
    monkeypatch.setattr(TopicPulls, "request", counting(asked, TopicPulls.request))
    async with brrr.open_backend(url) as backend:
        await backend.queue.receive(TOPIC, limit=1, wait=0)
        shared_server.do(f"CONSUMER.PAUSE.{stream}.{TOPIC}", {"pause_until": "2999-01-01T00:00:00Z"})
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=10, wait=60))
        await pulls(shared_server, stream, 1)
        await backend.queue.put(TOPIC, [b"x"])
        asked.clear()
        assert await backend.queue.receive(TOPIC, limit=10, wait=1) == []
        assert asked["request"] < 40
        waiting.cancel()
        await asyncio.wait({waiting})


@pytest.mark.cluster
async def test_full_pull_of_a_replicated_stream_does_not_recheck_the_consumer(shared_cluster, names, monkeypatch):
    """The end of a full pull comes before its messages, which is not a failure."""
    looks = Counter()
    monkeypatch.setattr(Consumers, "_check", counting(looks, Consumers._check))
    url = f"{shared_cluster.url}?replicas=3&timeout=30s&stream={names}-q&bucket={names}-s"
    try:
        async with brrr.open_backend(url) as backend:
            await backend.queue.receive(TOPIC, limit=1, wait=1)  # now it has a leader
            looks.clear()
            await backend.queue.put(TOPIC, [b"%d" % each for each in range(50)])
            for _ in range(50):
                assert len(await backend.queue.receive(TOPIC, limit=1, wait=10)) == 1
            assert not looks
    finally:
        shared_cluster.servers[0].forget(f"{names}-")


async def test_stream_allows_a_million_topics(url, stream, shared_server):
    """By default, servers from 2.15 on allow a stream 1,000 consumers."""
    async with brrr.open_backend(url):
        assert shared_server.streams()[stream]["config"]["max_consumers"] >= 1_000_000


async def test_many_receivers_of_one_topic_share_subscriptions(url):
    opened: Any = brrr.open_backend(url)
    async with opened as backend:
        for _ in range(20):
            await asyncio.gather(*(backend.queue.receive(TOPIC, limit=1, wait=0) for _ in range(10)))
        assert len(backend._client.connector.current._pull_inboxes) <= 10


# -- receipts --------------------------------------------------------------------------------------------------------


async def test_stalled_process_does_not_settle_an_expired_lease(url):
    """A lease begins when the message is sent, not when a blocked loop reads it."""
    async with brrr.open_backend(f"{url}&lease=1s") as backend, brrr.open_backend(f"{url}&lease=1s") as other:
        receiving = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await asyncio.sleep(0.2)  # now the pull waits; nothing signals that the server has it
        putting = asyncio.create_task(other.queue.put(TOPIC, [b"x"]))
        await asyncio.sleep(0)
        time.sleep(1.3)  # noqa: ASYNC251 - the blocked loop is the subject of the test
        (late,) = await receiving
        await putting
        await backend.queue.ack([late])
        (again,) = await take(other.queue, 1)
        assert again.body == b"x"
        assert again.attempt > late.attempt


async def test_settling_waits_for_a_running_settling_of_the_same_receipt(backend):
    await backend.queue.put(TOPIC, [b"x"])
    (held,) = await take(backend.queue, 1)
    acking = asyncio.create_task(backend.queue.ack([held]))
    await asyncio.sleep(0)
    acking.cancel()
    await backend.queue.release([held])  # the ack was sent, so the release does nothing
    assert held.receipt.settled
    assert await backend.queue.receive(TOPIC, limit=1, wait=0.1) == []
    await come_to(backend.queue, 0, 0, 0, 0)


async def test_longest_requested_lease_counts(url, stream, shared_server):
    def lease():
        (consumer,) = shared_server.streams()[stream]["consumer_detail"]
        return consumer["config"]["ack_wait"] / 1e9

    for asked, counts in ((5, 5), (30, 30), (1, 30)):
        async with brrr.open_backend(f"{url}&lease={asked}s") as backend:
            await backend.queue.receive(TOPIC, limit=1, wait=0)
            assert backend.queue.lease == asked
        assert lease() == counts


async def test_ack_whose_reply_was_lost_is_repeated(losing):
    proxy, queue = losing
    await queue.put(TOPIC, [b"x", b"y"])
    held = await take(queue, 2)
    proxy.lose_answer_to(lambda sent: b"+ACK" in sent)
    await queue.ack(held)
    await come_to(queue, 0, 0, 0, 0)


async def test_unanswered_ack_raises_in_bounded_time(url, monkeypatch):
    publish = Client.publish
    tries = Counter()

    async def swallowed(client, subject, payload=b"", *args):
        tries["acks"] += payload == ACK
        if payload != ACK:
            await publish(client, subject, payload, *args)

    async with brrr.open_backend(f"{url}&{LONG}&timeout=0.4s&retry_for=0.8s") as backend:
        await backend.queue.put(TOPIC, [b"x"])
        held = await take(backend.queue, 1)
        monkeypatch.setattr(Client, "publish", swallowed)
        async with asyncio.timeout(20):
            with pytest.raises(BackendUnavailableError):
                await backend.queue.ack(held)
        assert tries["acks"] > 1
        monkeypatch.undo()
        await backend.queue.ack(held)
        await come_to(backend.queue, 0, 0, 0, 0)


async def test_many_deliveries_are_settled_in_several_batches(url, monkeypatch):
    most, send = 0, Connection.send

    async def noted(connection, handler, requests):
        nonlocal most
        most = max(most, len(requests))
        return await send(connection, handler, requests)

    async with brrr.open_backend(f"{url}&{LONG}") as backend:
        number = MAX_REQUESTS_IN_FLIGHT + 100
        await backend.queue.put(TOPIC, [b"%d" % each for each in range(number)])
        held = await take(backend.queue, number, within=30)
        monkeypatch.setattr(Connection, "send", noted)
        await backend.queue.extend(held)
        await backend.queue.ack(held)
        await come_to(backend.queue, 0, 0, 0, 0)
        assert most == MAX_REQUESTS_IN_FLIGHT


async def test_release_with_a_stale_receipt_does_nothing(url, stream, shared_server):
    async with brrr.open_backend(f"{url}&lease=3s") as backend, brrr.open_backend(f"{url}&lease=3s") as other:
        await backend.queue.put(TOPIC, [b"x"])
        (late,) = await take(backend.queue, 1)
        (held,) = await take(other.queue, 1)
        await other.queue.extend([held])
        queue: Any = backend.queue
        queue._settler.release_unseen(late)
        await backend.queue.stats(TOPIC)  # the server has processed the release by now
        assert await backend.queue.receive(TOPIC, limit=1, wait=0.1) == []
        await other.queue.ack([held])
        await come_to(backend.queue, 0, 0, 0, 0)


async def test_release_whose_reply_was_lost_raises_and_uses_up_the_receipt(losing):
    proxy, queue = losing
    await queue.put(TOPIC, [b"x"])
    (held,) = await take(queue, 1)
    proxy.lose_answer_to(lambda sent: b"-NAK" in sent)
    with pytest.raises(BackendUnavailableError):
        await queue.release([held])
    (again,) = await take(queue, 1)
    await queue.release([held])
    await queue.ack([held])
    assert await queue.receive(TOPIC, limit=1, wait=0.2) == []
    await queue.ack([again])
    await come_to(queue, 0, 0, 0, 0)


# -- putting ---------------------------------------------------------------------------------------------------------


async def test_put_whose_reply_was_lost_is_repeated(losing):
    proxy, queue = losing
    proxy.lose_answer_to(lambda sent: b"once" in sent)
    await queue.put(TOPIC, [b"once"])
    assert {each.body for each in await take(queue, 2)} == {b"once"}


async def test_delayed_put_whose_reply_was_lost_puts_one_message(losing):
    proxy, queue = losing
    await queue.put(TOPIC, [b"first"], delay=60)  # now the servers' time is known
    proxy.lose_answer_to(lambda sent: b"second" in sent)
    await queue.put(TOPIC, [b"second"], delay=60)
    assert (await queue.stats(TOPIC)).delayed == 2


async def test_delayed_messages_survive_a_server_restart(own_server):
    async with brrr.open_backend(own_server.url) as backend:
        await backend.queue.put(TOPIC, [b"later"], delay=2)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        (found,) = await take(backend.queue, 1, within=20)
        assert found.body == b"later"
        await backend.queue.ack([found])
        await come_to(backend.queue, 0, 0, 0, 0)


@pytest.mark.cluster
async def test_delayed_messages_survive_their_leader(own_cluster):
    async with brrr.open_backend(f"{own_cluster.url}?replicas=3&retry_for=30s") as backend:
        await backend.queue.put(TOPIC, [b"%03d" % each for each in range(100)], delay=3)
        leader = await asyncio.to_thread(own_cluster.leader, "brrr")
        await asyncio.to_thread(leader.kill)
        found = await take(backend.queue, 100, within=60)
        assert {each.body for each in found} == {b"%03d" % each for each in range(100)}
        await backend.queue.ack(found)
        await come_to(backend.queue, 0, 0, 0, 0)


async def test_many_delayed_messages_are_counted_and_delivered(url):
    bodies = [b"%d" % each for each in range(2000)]
    async with brrr.open_backend(f"{url}&{LONG}") as backend:
        await backend.queue.put("later", bodies, delay=600)
        await backend.queue.put(TOPIC, bodies, delay=1)
        assert (await backend.queue.stats("later")).delayed == 2000
        assert len({each.body for each in await take(backend.queue, 2000, within=60)}) == 2000


# -- dead letters ----------------------------------------------------------------------------------------------------


async def test_bury_whose_reply_was_lost_stores_one_dead_letter(losing):
    proxy, queue = losing
    await queue.put(TOPIC, [b"x"])
    (held,) = await take(queue, 1)
    proxy.lose_answer_to(lambda sent: b"tried" in sent)
    await queue.bury(held, "tried enough")
    await come_to(queue, 0, 0, 0, 1)


async def test_bury_cancelled_at_any_moment_loses_nothing(url):
    async with brrr.open_backend(f"{url}&lease=1s") as backend:
        for turns in (0, 1, 2, 3, 4, 6, 8, 12, 20):
            topic = f"{TOPIC}-{turns}"
            await backend.queue.put(topic, [b"x"])
            (held,) = await take(backend.queue, 1, topic=topic)
            burying = asyncio.create_task(backend.queue.bury(held, "tried enough"))
            for _ in range(turns):
                await asyncio.sleep(0)
            burying.cancel()
            await asyncio.wait({burying})
            async with asyncio.timeout(10):
                while (stats := await backend.queue.stats(topic))[:3] != (0, 0, 0):
                    for each in await backend.queue.receive(topic, limit=1, wait=0.5):
                        await backend.queue.bury(each, "tried enough")
            assert stats.dead == 1


async def test_concurrent_redrives_put_each_dead_letter_once(url):
    async with brrr.open_backend(url) as backend, brrr.open_backend(url) as other:
        await bury(backend.queue, 50)
        counts = await asyncio.gather(*(each.queue.redrive(TOPIC, limit=1000) for each in (backend, other) * 3))
        assert sum(counts) == 50
        await come_to(backend.queue, 50, 0, 0, 0)


async def test_redrive_whose_reply_was_lost_puts_each_dead_letter_once(losing):
    proxy, queue = losing
    await bury(queue, 5)
    proxy.lose_answer_to(lambda sent: b"redriven." in sent)
    await queue.redrive(TOPIC, limit=100)
    await come_to(queue, 5, 0, 0, 0)


async def test_redrive_and_drop_handle_more_than_one_batch(backend):
    await bury(backend.queue, 230)
    assert await backend.queue.redrive(TOPIC, limit=205) == 205
    assert [each.body for each in await backend.queue.dead(TOPIC, limit=100)] == [b"%03d" % n for n in range(205, 230)]
    assert await backend.queue.drop(TOPIC, limit=20) == 20
    assert await backend.queue.drop(TOPIC, limit=20) == 5


async def test_largest_body_is_buried_with_a_shortened_reason(backend):
    body = bytes(range(256)) * 4 * 960
    await backend.queue.put(TOPIC, [body])
    (held,) = await take(backend.queue, 1)
    await backend.queue.bury(held, "begins ☃ " + "\N{DUCK}" * 100_000 + " ends")
    (letter,) = await backend.queue.dead(TOPIC, limit=10)
    assert letter.body == body
    assert letter.reason.startswith("begins ☃ \N{DUCK}")
    assert letter.reason.endswith("\N{DUCK} ends")
    assert " … " in letter.reason
    assert await backend.queue.redrive(TOPIC, limit=1) == 1
    (again,) = await take(backend.queue, 1)
    assert again.body == body


@pytest.mark.parametrize("reason", ["", " ", "a\r\nb: c\r\n\r\n", "%41 \\ 100%", "half \ud83e", "\0\x1f\x7f"])
async def test_any_reason_is_kept(backend, reason):
    await backend.queue.put(TOPIC, [b"x"])
    (held,) = await take(backend.queue, 1)
    await backend.queue.bury(held, reason)
    (letter,) = await backend.queue.dead(TOPIC, limit=10)
    assert letter.reason == reason.encode(errors="backslashreplace").decode()
