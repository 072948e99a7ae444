"""The request client: many requests at a time on one connection, and its faults."""

# pyright: reportOptionalMemberAccess=false
# The tests look at parts that only an open client has.

import asyncio
import inspect
import json
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap, parse_url
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError, BodyTooLargeError
from brrr_nats.client import request_batch
from brrr_nats.client.messages import Request, largest_first
from brrr_nats.client.requests import RequestClient
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_testkit.faults.relay import Bytes, relayed
from brrr_testkit.servers.nats import nats_program
from brrr_testkit.waiting import until

nats_program()

INFO = "$JS.API.INFO"


@asynccontextmanager
async def connected_client(url, **options) -> AsyncIterator[Any]:
    read = NatsOptions(**options)
    client = RequestClient(location_of(parse_url(url).url, read), read)
    try:
        await client.connect()
        yield client
    finally:
        await client.close()


@pytest.fixture
async def client(shared_server):
    async with connected_client(shared_server.url) as client:
        yield client


@asynccontextmanager
async def answering(client, answer):
    """A responder on the same server that answers requests to a subject by the function."""
    nats = client.connector.current.client
    subject = nats.new_inbox()

    async def echo(message):
        payload = answer(message.data)
        if inspect.isawaitable(payload):
            payload = await payload
        if payload is not None:
            await nats.publish(message.reply, payload)

    await nats.subscribe(subject, cb=echo)
    yield subject


def slots(client):
    return client.connector.current._replies


async def test_replies_have_the_order_of_the_requests(client):
    async with answering(client, lambda payload: payload[::-1]) as subject:
        replies = await client.request_many([Request(subject, b"%d!" % each) for each in range(1234)])
    assert [reply.payload for reply in replies] == [(b"%d!" % each)[::-1] for each in range(1234)]
    assert not slots(client)


async def test_unanswered_request_raises_after_the_timeout(shared_server):
    async with connected_client(shared_server.url, timeout=0.2) as client, answering(client, lambda _: None) as subject:
        with pytest.raises(BackendUnavailableError, match="lost"):
            await client.request_many([Request(subject)] * 3)
        await client.request_many([Request(INFO)])
        assert not slots(client)


async def test_batch_is_not_late_while_replies_come(shared_server):
    answered = asyncio.Lock()

    async def slowly(payload: bytes) -> bytes:
        async with answered:
            await asyncio.sleep(0.25)  # a slow server
            return payload

    async with connected_client(shared_server.url, timeout=1) as client, answering(client, slowly) as subject:
        replies = await client.request_many([Request(subject, b"%d" % each) for each in range(6)])

    assert [int(reply.payload) for reply in replies] == [*range(6)]


async def test_subject_without_responders_raises_after_retry_for(shared_server):
    async with connected_client(shared_server.url, retry_for=0.2) as client:
        with pytest.raises(BackendUnavailableError, match=r"missing\.subject"):
            await client.request_many([Request("missing.subject")])
        assert not slots(client)


async def test_cancelled_request_does_not_affect_others(client):
    async with answering(client, lambda payload: payload or None) as subject:
        for turns in (0, 1, 2, 5):
            silent = asyncio.create_task(client.request_many([Request(subject)] * 100))
            beside = asyncio.create_task(client.request_many([Request(subject, b"x")] * 100))
            for _ in range(turns):
                await asyncio.sleep(0)
            silent.cancel()
            assert len(await beside) == 100
            with pytest.raises(asyncio.CancelledError):
                await silent
            assert not slots(client)


async def test_lost_connection_repeats_only_idempotent_requests(shared_server):
    async with relayed(Bytes(shared_server.port, scheme="nats")) as proxy, connected_client(proxy.url) as client:
        proxy.lose_answer_to(lambda sent: INFO.encode() in sent)
        with pytest.raises(BackendUnavailableError, match="may have taken effect"):
            await client.request_many([Request(INFO)])
        proxy.lose_answer_to(lambda sent: INFO.encode() in sent)
        (reply,) = await client.request_many([Request(INFO)], idempotent=True)
        assert reply.payload


async def test_client_reconnects_after_a_cut(shared_server):
    async with relayed(Bytes(shared_server.port, scheme="nats")) as proxy, connected_client(proxy.url) as client:
        for _ in range(3):
            before = client.connector.current
            proxy.cut()
            await until(lambda before=before: client.connector.current not in {before, None})
            await client.request_many([Request(INFO)])


async def test_too_large_message_is_not_sent(client):
    with pytest.raises(BackendError, match="1048577"):
        await client.request_many([Request(INFO), Request("a", bytes(1024 * 1024 + 1))])
    with pytest.raises(BackendError, match="takes"):
        await client.request_many([Request("a", bytes(1024 * 1024), {"A": "b"})])
    assert not slots(client)


async def test_close_ends_waiting_requests(shared_server):
    async with connected_client(shared_server.url) as client, answering(client, lambda _: None) as subject:
        waiting = asyncio.create_task(client.request_many([Request(subject)]))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(BackendClosedError):
            await waiting
        with pytest.raises(BackendClosedError):
            await client.request_many([Request(INFO)])
    assert not {task for task in asyncio.all_tasks() if task.get_name().startswith("brrr")}


class Pretender:
    """A fake server that sends the given INFO and answers pings.

    Attributes:
        logins: How often a client has connected.
    """

    def __init__(self, after_login, info):
        self._after_login = after_login
        self._info = info
        self._writers = set()
        self._server: Any = None
        self.logins = 0
        self.port = 0

    @property
    def place(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"nats://{self.place}"

    def say(self, line):
        for writer in self._writers:
            writer.write(line)

    def cut(self):
        for writer in self._writers:
            writer.close()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        info = {"server_id": "X", "version": "2.12.0", "headers": True, "max_payload": 1024, "jetstream": True}
        writer.write(b"INFO %b\r\n" % json.dumps({**info, **self._info}).encode())
        self._writers.add(writer)
        self.logins += 1
        logged_in = False
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n" + (b"" if logged_in else self._after_login))
                logged_in = True
        self._writers.discard(writer)
        writer.close()


@asynccontextmanager
async def pretending(*, after_login=b"", **info):
    pretender = Pretender(after_login, info)
    await pretender.start()
    try:
        yield pretender
    finally:
        await pretender.stop()


@pytest.mark.parametrize("version", ["2.11.9", "1.4.1", "", "2.2.0-beta"])
async def test_server_that_is_too_old_is_refused(version):
    async with pretending(version=version) as server:
        with pytest.raises(BackendError, match="version") as caught:
            await connected_client(server.url).__aenter__()
    assert "2.12" in caught.value.remedy


@pytest.mark.parametrize("version", ["2.12.0", "2.12.0-RC.1", "2.15.1", "3.0.0"])
async def test_server_that_is_new_enough_is_accepted(version):
    async with pretending(version=version) as server, connected_client(server.url) as client:
        assert client.max_payload == 1024


async def test_other_servers_of_the_cluster_are_tried(shared_server):
    async with pretending(connect_urls=[shared_server.place]) as server, connected_client(server.url) as client:
        await server.stop()
        await until(lambda: client.connector.current is None)
        async with asyncio.timeout(10):
            (reply,) = await client.request_many([Request(INFO)])
        assert reply.payload


async def test_servers_that_join_later_are_known():
    async with pretending() as server, connected_client(server.url) as client:
        server.say(b'INFO {"connect_urls":["127.0.0.2:4223","[::1]:4224"]}\r\n')
        await until(lambda: len(client.connector.current.client.discovered_servers) == 2)
        server.cut()
        await until(lambda: len(client.connector._known_servers) == 3)
        assert {str(address) for address in client.connector._known_servers} == {
            server.place,
            "127.0.0.2:4223",
            "[::1]:4224",
        }


async def test_connection_that_fails_during_login_leaves_no_task():
    async with pretending(after_login=b"-ERR 'maximum account active connections exceeded'\r\n") as server:
        before = asyncio.all_tasks()
        with pytest.raises(BackendUnavailableError, match="maximum account"):
            await connected_client(server.url).__aenter__()
        await until(lambda: asyncio.all_tasks() <= before)


async def test_denied_inbox_raises_at_once():
    async with pretending(after_login=b"-ERR 'Permissions Violation for Subscription to \"_INBOX.x\"'\r\n") as server:
        with pytest.raises(BackendError, match=r"does not permit the subject _INBOX\."):
            await connected_client(server.url).__aenter__()


async def test_unstable_connections_are_retried_with_growing_pauses():
    async with pretending() as server, connected_client(server.url) as client:
        pauses = []
        for _ in range(6):
            await client.wait_connected()
            server.cut()
            await until(lambda: client.connector.current is None)
            pauses.append(client.connector._next_pause)
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        assert server.logins == 6


async def test_an_error_is_never_its_own_cause():
    async with pretending(version="2.11.0") as server:
        with pytest.raises(BackendError) as caught:
            await connected_client(server.url).__aenter__()
    assert caught.value.__cause__ is not caught.value


async def test_shared_connection_error_does_not_collect_tracebacks(shared_server):
    async with (
        relayed(Bytes(shared_server.port, scheme="nats")) as proxy,
        connected_client(proxy.url, retry_for=0.05) as client,
    ):
        proxy.refusing = True
        proxy.cut()
        lengths = set()
        for _ in range(20):
            with pytest.raises(BackendUnavailableError) as caught:
                await client.request_many([Request(INFO)])
            cause: Any = caught.value.__cause__
            lengths.add(len(traceback.extract_tb(cause.__traceback__)))
        assert max(lengths) < 6


async def test_cancelled_close_leaves_no_connection(shared_server):
    for turns in range(1, 7):
        async with connected_client(shared_server.url) as client:
            closing = asyncio.create_task(client.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
def soon(monkeypatch):
    """Unanswered requests are sent again soon."""
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.2)


@pytest.mark.usefixtures("soon")
async def test_dropped_idempotent_request_is_sent_again_before_the_timeout(client):
    came = []

    def answer(payload):
        came.append(payload)
        return payload if came.count(payload) == 3 or payload == b"b" else None

    async with answering(client, answer) as subject, asyncio.timeout(5):
        replies = await client.request_many([Request(subject, each) for each in (b"a", b"b", b"c")], idempotent=True)

    assert [reply.payload for reply in replies] == [b"a", b"b", b"c"]
    assert sorted(came) == [b"a"] * 3 + [b"b"] + [b"c"] * 3
    assert not slots(client)


@pytest.mark.usefixtures("soon")
async def test_dropped_request_that_is_not_idempotent_is_sent_once(shared_server):
    came = []
    async with connected_client(shared_server.url, timeout=1) as client, answering(client, came.append) as subject:
        with pytest.raises(BackendUnavailableError, match="lost"):
            await client.request_many([Request(subject, b"a")])
    assert came == [b"a"]


@pytest.mark.usefixtures("soon")
async def test_slowly_answered_requests_are_not_sent_again(client):
    came = []

    async def answer(payload):
        came.append(payload)
        await asyncio.sleep(0.06)  # the slowness is the subject of the test
        return payload

    async with answering(client, answer) as subject:
        await client.request_many([Request(subject, b"%d" % number) for number in range(8)], idempotent=True)

    assert len(came) == 8


async def test_replies_that_arrived_during_a_stall_are_read(shared_server):
    async with connected_client(shared_server.url, timeout=0.3) as client:
        asking = asyncio.create_task(client.request_many([Request(INFO)]))
        asyncio.get_running_loop().call_soon(time.sleep, 0.5)  # like a handler that blocks the loop
        (reply,) = await asking
        assert reply.payload


async def test_batch_with_a_too_large_message_stores_nothing(own_server):
    async with brrr.open_backend(own_server.url) as backend:
        own_server.reload("max_payload: 128KB")
        with pytest.raises(BackendError, match="over the 131072"):
            await backend.queue.put("jobs", [b"x", bytes(200_000), b"y"])
        assert (await backend.queue.stats("jobs")).ready == 0
        with pytest.raises(BodyTooLargeError):
            await backend.queue.put("jobs", [b"x", bytes(200_000), b"y"])
        value, key = bytes(300_000), Key("value", "h")
        assert await backend.store.swap([Swap(key, None, value)]) == [True]  # as smaller parts

        own_server.reload("max_payload: 64KB")
        assert await backend.store.swap([Swap(key, value, value[1:])]) == [True]  # as even smaller ones
        assert await backend.store.read([key]) == [value[1:]]


async def test_only_a_large_message_is_moved_to_the_front():
    small = [Request("a", b"%d" % number) for number in range(5)]
    large = Request("a", bytes(100_000))

    assert largest_first(small) == small
    assert largest_first([]) == []
    assert largest_first([*small, large, large]) == [large, *small, large]


async def test_request_is_not_sent_on_a_closed_connection(client):
    await client.connector.current.client.close()

    (reply,) = await client.request_many([Request(INFO)])  # on another connection: it may not be sent twice

    assert reply.payload


async def test_request_ends_at_once_if_others_cancel_all_tasks(shared_server):
    async with connected_client(shared_server.url, timeout=300) as client:
        lost = client.connector.current
        async with answering(client, lambda _: None) as subject:
            asking = asyncio.create_task(client.request_many([Request(subject, b"x")]))
            await until(lambda: len(lost._replies))
            for task in asyncio.all_tasks() - {asking, asyncio.current_task()}:
                task.cancel()
            async with asyncio.timeout(30):
                with pytest.raises(BackendUnavailableError, match="cancelled from outside"):
                    await asking
                assert await client.request_many([Request(INFO)], idempotent=True)
                assert client.connector.current is not lost


async def test_next_request_connects_after_the_connecting_task_was_cancelled(shared_server):
    async with connected_client(shared_server.url, retry_for=300) as client:
        client.connector.current.end(ConnectionResetError("by the test"))
        client.connector._connecting.cancel()

        async with asyncio.timeout(30):
            assert await client.request_many([Request(INFO)], idempotent=True)
