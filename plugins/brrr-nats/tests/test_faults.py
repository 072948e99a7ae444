"""One server that dies, fills up, refuses, or is changed by an operator: the client waits, or raises in time."""

import asyncio
import signal
import sys
import time

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_nats.queue import orphans
from brrr_testkit.servers.nats import Server, nats_program, until
from brrr_testkit.workloads.load import under_load

nats_program()

TOPIC = "jobs"
VALUE = Key("value", "h")
QUEUE = "brrr"
KIB = 1024


async def take(queue, number, *, topic=TOPIC, within=30.0):
    """Receive and acknowledge messages. Return their bodies, sorted."""
    bodies = []
    async with asyncio.timeout(within):
        while len(bodies) < number:
            found = await queue.receive(topic, limit=number - len(bodies), wait=1)
            await queue.ack(found)
            bodies += [each.body for each in found]
    return sorted(bodies)


def consumers(server):
    """Return the names of the queue stream's consumers, and how many pulls wait at each."""
    return {each["name"]: each["num_waiting"] for each in server.streams()[QUEUE].get("consumer_detail") or ()}


async def waits(server, number=1):
    """Wait until that many pulls wait at the server."""
    await asyncio.to_thread(until, lambda: sum(consumers(server).values()) >= number, "a pull waits")


async def test_load_survives_a_killed_server(own_server):
    def kill():
        for _ in range(3):
            own_server.kill()
            own_server.start()

    await under_load(f"{own_server.url}?lease=2s", lambda: asyncio.to_thread(kill))


async def test_load_survives_a_server_in_lame_duck_mode(own_server):
    def retire():
        own_server.signal(signal.SIGUSR2)
        own_server.process.wait(30)
        own_server.start()

    await under_load(f"{own_server.url}?lease=2s", lambda: asyncio.to_thread(retire))


async def test_waiting_receive_survives_a_restart(own_server):
    async with brrr.open_backend(own_server.url) as backend, brrr.open_backend(own_server.url) as other:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await waits(own_server)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        await other.queue.put(TOPIC, [b"after"])
        async with asyncio.timeout(20):
            assert [each.body for each in await waiting] == [b"after"]


async def test_ack_returns_for_a_delivery_that_a_killed_server_forgot(own_server):
    """A killed server does not reply for such a delivery, but nothing waits for the end of its lease."""
    async with brrr.open_backend(own_server.url, lease=300) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"%d" % number for number in range(20)])
        held = await queue.receive(TOPIC, limit=20, wait=5)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(20):
            await queue.ack(held)
            while (await queue.stats(TOPIC))[:3] != (0, 0, 0):
                await queue.ack(await queue.receive(TOPIC, limit=20, wait=0.1))


async def test_absent_server_raises_in_bounded_time(own_server):
    async with brrr.open_backend(own_server.url, retry_for=0.3, connect_timeout=1) as backend:
        queue, store = backend.queue, backend.store
        await queue.put(TOPIC, [b"x"])
        (held,) = await queue.receive(TOPIC, limit=1, wait=5)
        await asyncio.to_thread(own_server.kill)
        operations = {
            "put": lambda: queue.put(TOPIC, [b"x"]),
            "receive": lambda: queue.receive(TOPIC, limit=1, wait=0),
            "ack": lambda: queue.ack([held]),
            "extend": lambda: queue.extend([held]),
            "release": lambda: queue.release([held]),
            "bury": lambda: queue.bury(held, "x"),
            "stats": lambda: queue.stats(TOPIC),
            "read": lambda: store.read([VALUE]),
            "swap": lambda: store.swap([Swap(VALUE, None, b"x")]),
            "write": lambda: store.write([(VALUE, b"x")]),
            "count": lambda: backend.cache.increment({"count": 1}),
        }
        for name, operation in operations.items():
            async with asyncio.timeout(10):
                with pytest.raises(BackendUnavailableError, match=own_server.place) as caught:
                    await operation()
            assert caught.value.remedy, name
        begun = time.monotonic()
    assert time.monotonic() - begun < 5


async def test_paused_server_raises_in_bounded_time(own_server):
    async with brrr.open_backend(own_server.url, timeout=0.5, retry_for=0.5, connect_timeout=0.5) as backend:
        await backend.queue.put(TOPIC, [b"x"])
        own_server.pause()
        try:
            for operation in (
                lambda: backend.queue.put(TOPIC, [b"y"]),
                lambda: backend.store.read([VALUE]),
                lambda: backend.queue.receive(TOPIC, limit=1, wait=0),
            ):
                async with asyncio.timeout(10):
                    with pytest.raises(BackendUnavailableError):
                        await operation()
        finally:
            own_server.resume()
        async with asyncio.timeout(20):
            assert b"x" in await take(backend.queue, 1)


async def test_worker_without_a_server_stops_on_sigterm(own_server):
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "brrr_testkit.workloads.soak", own_server.url, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            assert await worker.stdout.readline() == b"ready\n"  # pyright: ignore[reportOptionalMemberAccess]
            await waits(own_server)
            await asyncio.to_thread(own_server.kill)
            worker.terminate()
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def test_slow_consumer_is_disconnected_and_loses_nothing(tmp_path):
    """A slow consumer: the server closes the connection of a client that leaves too much unread."""
    server = Server(tmp_path, config='write_deadline: "100ms"\nmax_pending: 10MB').start()
    topics = [f"topic{number}" for number in range(6)]
    bodies = [b"%04d" % number + bytes(500 * KIB) for number in range(16)]
    try:
        async with brrr.open_backend(server.url, lease=2) as backend, brrr.open_backend(server.url) as other:
            for topic in topics:
                await other.queue.put(topic, bodies)
                assert await backend.queue.receive(topic, limit=1, wait=5)
            taking = [asyncio.create_task(take(backend.queue, len(bodies), topic=topic)) for topic in topics]
            while "Slow Consumer" not in server.log:
                await asyncio.sleep(0)  # the requests are sent now
                time.sleep(0.5)  # noqa: ASYNC251 - the blocked loop is the subject of the test
            async with asyncio.timeout(30):
                assert {tuple(each) for each in await asyncio.gather(*taking)} == {tuple(bodies)}
    finally:
        server.kill()


@pytest.mark.parametrize("how", ["server", "account"])
async def test_server_without_jetstream_raises(tmp_path, how):
    accounts = "accounts { A { users: [{ user: w, password: p }] } }\nno_auth_user: w"
    server = Server(tmp_path, jetstream=how == "account", config=accounts if how == "account" else "").start()
    try:
        async with asyncio.timeout(30):
            with pytest.raises(BackendError, match="JetStream") as caught:
                await brrr.open_backend(server.url, retry_for=1).open()
        assert "nable" in caught.value.remedy
    finally:
        server.kill()


async def test_error_for_user_who_may_not_create_streams_recommends_setup(tmp_path):
    config = """
    authorization {
      users: [
        { user: operator, password: o }
        { user: worker, password: w, permissions: { publish: { deny: [
          "$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>", "$JS.API.STREAM.DELETE.>"] } } }
      ]
    }
    """
    server = Server(tmp_path, config=config).start()
    worker = f"nats://worker:w@{server.place}"
    try:
        async with asyncio.timeout(20):
            with pytest.raises(BackendError, match="does not permit") as caught:
                await brrr.open_backend(worker).open()
        assert "setup" in caught.value.remedy
        lines = await brrr.open_backend(f"nats://operator:o@{server.place}").setup()
        assert any(QUEUE in line for line in lines)
        async with brrr.open_backend(worker) as backend:
            await backend.queue.put(TOPIC, [b"x"])
            await backend.queue.put(TOPIC, [b"y"], delay=0.1)
            assert await take(backend.queue, 2) == [b"x", b"y"]
            assert await backend.store.swap([Swap(VALUE, None, b"x")]) == [True]
            assert await backend.cache.increment({"count": 2}) == {"count": 2}
    finally:
        server.kill()


async def test_denied_subject_raises_at_once(tmp_path):
    config = """
    authorization { users: [{ user: worker, password: s3cret }] }
    """
    server = Server(tmp_path, config=config).start()
    try:
        async with brrr.open_backend(f"nats://worker:s3cret@{server.place}") as backend:
            denied = config.replace("s3cret }", 's3cret, permissions: { publish: { deny: ["$KV.>", "brrr.>"] } } }')
            server.reload(denied)
            async with asyncio.timeout(10):
                with pytest.raises(BackendError, match=r"does not permit|lost") as caught:
                    await backend.store.write([(VALUE, b"x")])
            assert "s3cret" not in str(caught.value)
            async with asyncio.timeout(20):  # the reload has ended the connection
                with pytest.raises(BackendError, match="does not permit"):
                    await backend.store.write([(VALUE, b"x")])
            assert await backend.store.read([VALUE]) == [None]
    finally:
        server.kill()


async def test_denied_acknowledgement_raises_at_once(tmp_path):
    config = """
    authorization { users: [{ user: worker, password: s3cret, permissions: { publish: { deny: ["$JS.ACK.>"] } } }] }
    """
    server = Server(tmp_path, config=config).start()
    try:
        async with brrr.open_backend(f"nats://worker:s3cret@{server.place}?lease=300s") as backend:
            await backend.queue.put(TOPIC, [b"x"])
            held = await backend.queue.receive(TOPIC, limit=1, wait=5)
            async with asyncio.timeout(5):
                with pytest.raises(BackendError, match="does not permit"):
                    await backend.queue.ack(held)
    finally:
        server.kill()


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_lowered_max_payload_raises_for_larger_messages(own_server, how):
    async with brrr.open_backend(own_server.url) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [bytes(900 * KIB)])
        await queue.receive(TOPIC, limit=1, wait=5)
        if how == "reload":
            await asyncio.to_thread(own_server.reload, f"max_payload: {64 * KIB}")
        else:
            await asyncio.to_thread(own_server.stop)
            own_server.config = f"max_payload: {64 * KIB}"
            await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(30):
            for _ in range(2):  # the first one may find the connection as it was
                with pytest.raises(BackendError, match="102400 bytes") as caught:
                    await queue.put("other", [b"small", bytes(100 * KIB)])
        assert caught.value.remedy  # pyright: ignore[reportPossiblyUnboundVariable]
        await queue.put("last", [b"small"])
        assert await take(queue, 1, topic="last") == [b"small"]


async def test_full_server_refuses_new_messages_and_loses_none(tmp_path):
    server = Server(tmp_path, max_storage=f"{400 * KIB}").start()
    try:
        async with brrr.open_backend(server.url, retry_for=0.3) as backend:
            queue = backend.queue
            taken = 0

            async def fill():
                nonlocal taken
                while taken < 1000:
                    await queue.put(TOPIC, [b"%d" % taken + bytes(KIB)])
                    taken += 1

            with pytest.raises(BackendUnavailableError, match="no room") as caught:
                await fill()
            assert caught.value.remedy
            assert 50 < taken < 400
            for operation in (
                lambda: queue.put("other", [bytes(KIB)], delay=60),
                lambda: backend.store.write([(VALUE, bytes(KIB))]),
                lambda: backend.store.swap([Swap(VALUE, None, bytes(KIB))]),
            ):
                async with asyncio.timeout(10):
                    with pytest.raises(BackendUnavailableError, match="no room"):
                        await operation()
            assert await backend.store.read([VALUE]) == [None]
            held = await queue.receive(TOPIC, limit=5, wait=5)
            await queue.extend(held)
            await queue.release(held)  # stored messages can still be processed
            bodies = await take(queue, taken)
            assert sorted(int(body.rstrip(b"\0")) for body in bodies) == list(range(taken))
            await queue.put(TOPIC, [b"after"])
            assert await take(queue, 1) == [b"after"]
    finally:
        server.kill()


async def test_stream_that_would_discard_messages_is_refused(own_server):
    async with brrr.open_backend(own_server.url):
        pass
    config = own_server.streams()[QUEUE]["config"]
    answer = own_server.do(f"STREAM.UPDATE.{QUEUE}", {**config, "max_msgs": 100})
    assert "error" not in answer, answer
    with pytest.raises(BackendError, match="max_msgs 100"):
        await brrr.open_backend(own_server.url).open()


async def test_deleted_consumer_is_recreated_for_a_waiting_receive(own_server):
    async with brrr.open_backend(own_server.url) as backend, brrr.open_backend(own_server.url) as other:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await waits(own_server)
        for name in consumers(own_server):
            own_server.do(f"CONSUMER.DELETE.{QUEUE}.{name}")
        await other.queue.put(TOPIC, [b"after"])
        async with asyncio.timeout(20):
            (found,) = await waiting
        assert found.body == b"after"
        await backend.queue.ack([found])
        assert (await backend.queue.stats(TOPIC))[:3] == (0, 0, 0)


async def test_messages_leased_by_a_deleted_consumer_are_delivered_again(own_server):
    async with brrr.open_backend(own_server.url, lease=1) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"1", b"2", b"3"])
        (done, held) = await queue.receive(TOPIC, limit=2, wait=5)
        await queue.ack([done])
        for name in consumers(own_server):
            own_server.do(f"CONSUMER.DELETE.{QUEUE}.{name}")
        await queue.ack([held])  # its lease is gone with the consumer: the ack may do nothing, but not raise
        left = {b"1", b"2", b"3"} - {done.body}
        seen = set()
        async with asyncio.timeout(20):
            while not left - {held.body} <= seen:
                seen.update(await take(queue, 1))
        assert seen <= left


async def test_limits_on_a_consumer_are_removed_by_the_next_worker(own_server):
    async with brrr.open_backend(own_server.url, lease=300) as backend:
        await backend.queue.receive(TOPIC, limit=1, wait=0)
    (consumer,) = own_server.streams()[QUEUE]["consumer_detail"]
    limited = {**consumer["config"], "max_deliver": 2, "max_ack_pending": 1, "max_batch": 1}
    answer = own_server.do(
        f"CONSUMER.CREATE.{QUEUE}.{TOPIC}.{limited['filter_subject']}",
        {"stream_name": QUEUE, "config": limited, "action": "update"},
    )
    assert "error" not in answer, answer
    async with brrr.open_backend(own_server.url, lease=300) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"1", b"2"])
        async with asyncio.timeout(20):
            for _ in range(3):
                held = []
                while len(held) < 2:
                    held += await queue.receive(TOPIC, limit=2, wait=1)
                await queue.release(held)
            assert await take(queue, 2) == [b"1", b"2"]


async def test_topic_beyond_the_accounts_consumers_raises(tmp_path):
    config = """
    accounts { A { users: [{ user: w, password: p }], jetstream: { max_consumers: 2 } } }
    no_auth_user: w
    """
    server = Server(tmp_path, config=config).start()
    try:
        async with brrr.open_backend(server.url, retry_for=0.5) as backend:
            for topic in ("one", "two"):
                await backend.queue.receive(topic, limit=1, wait=0)
            with pytest.raises(BackendError, match="accepts no consumer for the topic 'three'") as caught:
                await backend.queue.receive("three", limit=1, wait=0)
            assert "max_consumers" in caught.value.remedy
    finally:
        server.kill()


async def test_half_acknowledged_message_is_delivered_again(own_server, monkeypatch):
    """A server that shuts down may record an acknowledgement with the consumer, and keep the message."""
    monkeypatch.setattr(orphans, "SETTLE_SECONDS", 0.1)
    async with brrr.open_backend(own_server.url) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"done"])
        await take(queue, 1)
        await queue.put(TOPIC, [b"1", b"2"])
        answer = own_server.do(f"CONSUMER.RESET.{QUEUE}.{TOPIC}", {"seq": 4})  # the consumer counts all as acknowledged
        assert "error" not in answer, answer
    async with brrr.open_backend(own_server.url) as backend:
        queue = backend.queue
        assert (await queue.stats(TOPIC)).ready == 2
        assert await take(queue, 2) == [b"1", b"2"]
        assert await queue.receive(TOPIC, limit=1, wait=0.5) == []
        assert (await queue.stats(TOPIC))[:3] == (0, 0, 0)


async def test_purged_queue_is_empty_and_works(own_server):
    async with brrr.open_backend(own_server.url, lease=1) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"1", b"2", b"3"])
        held = await queue.receive(TOPIC, limit=2, wait=5)
        own_server.do(f"STREAM.PURGE.{QUEUE}")
        await queue.extend(held)
        await queue.ack(held[:1])
        await queue.release(held[1:])
        assert await queue.receive(TOPIC, limit=10, wait=1.5) == []
        assert (await queue.stats(TOPIC))[:3] == (0, 0, 0)
        await queue.put(TOPIC, [b"after"])
        assert await take(queue, 1) == [b"after"]


@pytest.mark.parametrize("stream", [QUEUE, "KV_brrr"])
async def test_deleted_stream_raises_until_setup_recreates_it(own_server, stream):
    async with brrr.open_backend(own_server.url, retry_for=0.5) as backend:
        queue, store = backend.queue, backend.store
        await queue.put(TOPIC, [b"x"])
        await queue.receive(TOPIC, limit=1, wait=5)
        await store.write([(VALUE, b"x")])
        own_server.do(f"STREAM.DELETE.{stream}")
        operations = {
            "put": lambda: queue.put(TOPIC, [b"y"]),
            "receive": lambda: queue.receive(TOPIC, limit=1, wait=0),
            "stats": lambda: queue.stats(TOPIC),
        }
        if stream != QUEUE:
            operations = {
                "write": lambda: store.write([(VALUE, b"y")]),
                "read": lambda: store.read([VALUE]),
                "swap": lambda: store.swap([Swap(VALUE, b"x", b"y")]),
            }
        outcomes = {}
        for name, operation in operations.items():
            async with asyncio.timeout(10):
                try:
                    outcomes[name] = f"gave {await operation()}"
                except BackendError as error:
                    outcomes[name] = error.remedy
        assert [name for name, remedy in outcomes.items() if "setup" not in remedy] == [], outcomes
        await brrr.open_backend(own_server.url).setup()
        await queue.put(TOPIC, [b"after"])
        assert (await take(queue, 1))[-1:] == [b"after"] or stream != QUEUE
        assert await store.swap([Swap(Key("value", "new"), None, b"x")]) == [True]
