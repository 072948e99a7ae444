"""The link: many requests at a time on one connection, whatever becomes of it."""

import asyncio
import json
import time
import traceback
from contextlib import asynccontextmanager

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError, BodyTooLargeError
from brrr_core.plugins import parse_url
from brrr_nats.client import request_batch
from brrr_nats.client.connection import TASKS
from brrr_nats.client.protocol import Request
from brrr_nats.client.request_batch import largest_first
from brrr_nats.client.requests import Link
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from tests.support.nats_servers import nats_program
from tests.support.polling import until
from tests.support.proxy import Bytes, relayed

nats_program()

INFO = "$JS.API.INFO"
ECHO = 9999
"""The number of a subscription that nobody else has."""


@asynccontextmanager
async def linked(url, **options):
    read = NatsOptions(**options)
    link = Link(location_of(parse_url(url).url, read), read)
    try:
        await link.connect()
        yield link
    finally:
        await link.close()


@pytest.fixture
async def link(shared_server):
    async with linked(shared_server.url) as link:
        yield link


@asynccontextmanager
async def answering(link, answer):
    """Someone on the same server who answers requests to a subject, as the function says."""
    connection = link.line.current
    subject = f"{connection.inbox}-echo"

    class Echo:
        def take(self, index, reply):
            payload = answer(reply.payload)
            if payload is not None:
                link.post(Request(reply.reply_to, payload))

        def fail(self, index, error):
            pass

    connection._waiters.put_on(ECHO, Echo(), "")
    connection._transport.write(b"SUB %b %d\r\n" % (subject.encode(), ECHO))
    try:
        yield subject
    finally:
        connection.close_lane(ECHO)


def slots(link):
    return link.line.current._waiters


async def test_replies_come_in_the_order_of_the_requests(link):
    async with answering(link, lambda payload: payload[::-1]) as subject:
        replies = await link.request_many([Request(subject, b"%d!" % each) for each in range(1234)])
    assert [reply.payload for reply in replies] == [(b"%d!" % each)[::-1] for each in range(1234)]
    assert not slots(link)


async def test_a_header_cannot_hold_another(link):
    await link.request_many([Request(INFO, b"", {"A": "b: c", "D": ""})])
    with pytest.raises(ValueError, match="header"):
        await link.request_many([Request(INFO), Request(INFO, b"", {"A": "b\r\nC: d"})])
    assert not slots(link)


async def test_a_request_without_an_answer_is_told_in_time_and_forgotten(shared_server):
    async with linked(shared_server.url, timeout=0.2) as link, answering(link, lambda _: None) as subject:
        with pytest.raises(BackendUnavailableError, match="lost"):
            await link.request_many([Request(subject)] * 3)
        await link.request_many([Request(INFO)])  # on another connection: the server had said nothing at all
        assert not slots(link)


async def test_a_subject_without_anybody_is_told_when_retry_for_is_over(shared_server):
    async with linked(shared_server.url, retry_for=0.2) as link:
        with pytest.raises(BackendUnavailableError, match=r"nobody\.there"):
            await link.request_many([Request("nobody.there")])
        assert not slots(link)


async def test_a_cancelled_request_leaves_the_others_alone_and_nothing_behind(link):
    async with answering(link, lambda payload: payload or None) as subject:
        for turns in (0, 1, 2, 5):
            silent = asyncio.create_task(link.request_many([Request(subject)] * 100))
            beside = asyncio.create_task(link.request_many([Request(subject, b"x")] * 100))
            for _ in range(turns):
                await asyncio.sleep(0)
            silent.cancel()
            assert len(await beside) == 100
            with pytest.raises(asyncio.CancelledError):
                await silent
            assert not slots(link)


async def test_a_lost_connection_fails_what_may_not_be_repeated_and_repeats_the_rest(shared_server):
    async with relayed(Bytes(shared_server.port, scheme="nats")) as proxy, linked(proxy.url) as link:
        proxy.lose_answer_to(lambda sent: INFO.encode() in sent)
        with pytest.raises(BackendUnavailableError, match="may have been done"):
            await link.request_many([Request(INFO)])
        proxy.lose_answer_to(lambda sent: INFO.encode() in sent)
        (reply,) = await link.request_many([Request(INFO)], repeat=True)
        assert reply.payload


async def test_it_connects_again_by_itself(shared_server):
    async with relayed(Bytes(shared_server.port, scheme="nats")) as proxy, linked(proxy.url) as link:
        for _ in range(3):
            before = link.line.current
            proxy.cut()
            await until(lambda before=before: link.line.current not in {before, None})
            await link.request_many([Request(INFO)])


async def test_a_message_that_is_too_large_is_not_sent(link):
    with pytest.raises(BackendError, match="1048577"):
        await link.request_many([Request(INFO), Request("a", bytes(1024 * 1024 + 1))])
    with pytest.raises(BackendError, match="takes"):
        await link.request_many([Request("a", bytes(1024 * 1024), {"A": "b"})])
    assert not slots(link)


async def test_closing_ends_what_waits(shared_server):
    async with linked(shared_server.url) as link, answering(link, lambda _: None) as subject:
        waiting = asyncio.create_task(link.request_many([Request(subject)]))
        await asyncio.sleep(0)
        await link.close()
        with pytest.raises(BackendClosedError):
            await waiting
        with pytest.raises(BackendClosedError):
            await link.request_many([Request(INFO)])
    assert not {task for task in asyncio.all_tasks() if task.get_name().startswith("brrr")}


class Pretender:
    """A server that says this of itself, and answers pings.

    Attributes:
        logins: How often somebody has connected.
    """

    def __init__(self, after_login, info):
        self._after_login = after_login
        self._info = info
        self._writers = set()
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

    async def serve(self, reader, writer):
        told = {"server_id": "X", "version": "2.12.0", "headers": True, "max_payload": 1024, "jetstream": True}
        writer.write(b"INFO %b\r\n" % json.dumps({**told, **self._info}).encode())
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
    server = await asyncio.start_server(pretender.serve, "127.0.0.1", 0)
    pretender.port = server.sockets[0].getsockname()[1]
    try:
        yield pretender
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("version", ["2.11.9", "1.4.1", "", "2.2.0-beta"])
async def test_a_server_that_is_too_old_is_refused(version):
    async with pretending(version=version) as server:
        with pytest.raises(BackendError, match="version") as caught:
            await linked(server.url).__aenter__()
    assert "2.12" in caught.value.remedy


@pytest.mark.parametrize("version", ["2.12.0", "2.12.0-RC.1", "2.15.1", "3.0.0"])
async def test_a_server_that_is_new_enough_is_taken(version):
    async with pretending(version=version) as server, linked(server.url) as link:
        assert link.max_payload == 1024


async def test_other_servers_of_the_cluster_are_tried(shared_server):
    async with pretending(connect_urls=[shared_server.place]) as server, linked(server.url) as link:
        *others, gone = link.line._known
        link.line._known = {each: each.host for each in others}
        link.line.current.end(OSError("lost"))
        async with asyncio.timeout(10):
            (reply,) = await link.request_many([Request(INFO)])
        assert reply.payload
        assert gone in link.line._known


async def test_a_limit_of_messages_that_a_server_changes_is_taken_over():
    async with pretending() as server, linked(server.url) as link:
        assert link.max_payload == 1024
        server.say(b'INFO {"max_payload":512}\r\n')
        await until(lambda: link.max_payload == 512)
        with pytest.raises(BackendError, match="over the 512"):
            await link.request_many([Request("a", bytes(513))])


async def test_servers_that_join_later_are_known():
    async with pretending() as server, linked(server.url) as link:
        server.say(b'INFO {"connect_urls":["127.0.0.2:4223","[::1]:4224"]}\r\n')
        await until(lambda: len(link.line._known) == 3)
        assert {str(address) for address in link.line._known} == {server.place, "127.0.0.2:4223", "[::1]:4224"}


async def test_a_connection_that_ends_while_it_is_made_leaves_no_task():
    async with pretending(after_login=b"-ERR 'maximum account active connections exceeded'\r\n") as server:
        before = asyncio.all_tasks()
        with pytest.raises(BackendUnavailableError, match="maximum account"):
            await linked(server.url).__aenter__()
        await until(lambda: asyncio.all_tasks() <= before)


async def test_an_inbox_that_is_not_permitted_is_told_at_once():
    async with pretending(after_login=b"-ERR 'Permissions Violation for Subscription to \"_INBOX.x\"'\r\n") as server:
        with pytest.raises(BackendError, match=r"does not permit the subject _INBOX\."):
            await linked(server.url).__aenter__()


async def test_connections_that_do_not_last_are_made_less_and_less_often():
    async with pretending() as server, linked(server.url) as link:
        pauses = []
        for _ in range(6):
            await link.ready()
            server.cut()
            await until(lambda: link.line.current is None)
            pauses.append(link.line._pause)
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        assert server.logins == 6


async def test_an_error_is_never_its_own_cause():
    async with pretending(version="2.11.0") as server:
        with pytest.raises(BackendError) as caught:
            await linked(server.url).__aenter__()
    assert caught.value.__cause__ is not caught.value


async def test_what_waits_for_a_connection_does_not_pile_up_on_one_error(shared_server):
    async with relayed(Bytes(shared_server.port, scheme="nats")) as proxy, linked(proxy.url, retry_for=0.05) as link:
        proxy.refusing = True
        proxy.cut()
        lengths = set()
        for _ in range(20):
            with pytest.raises(BackendUnavailableError) as caught:
                await link.request_many([Request(INFO)])
            lengths.add(len(traceback.extract_tb(caught.value.__cause__.__traceback__)))
        assert max(lengths) < 6


async def test_whoever_is_cancelled_while_he_closes_leaves_no_connection(shared_server):
    for turns in range(1, 7):
        async with linked(shared_server.url) as link:
            closing = asyncio.create_task(link.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
def soon(monkeypatch):
    """Requests are sent again soon."""
    monkeypatch.setattr(request_batch, "FIRST_TRY", 0.2)


@pytest.mark.usefixtures("soon")
async def test_what_was_dropped_and_may_be_done_twice_is_sent_again_before_its_time_is_over(link):
    came = []

    def answer(payload):
        came.append(payload)
        return payload if came.count(payload) == 3 or payload == b"b" else None

    async with answering(link, answer) as subject, asyncio.timeout(5):
        replies = await link.request_many([Request(subject, each) for each in (b"a", b"b", b"c")], repeat=True)

    assert [reply.payload for reply in replies] == [b"a", b"b", b"c"]
    assert sorted(came) == [b"a"] * 3 + [b"b"] + [b"c"] * 3
    assert not slots(link)


@pytest.mark.usefixtures("soon")
async def test_what_was_dropped_and_may_not_be_done_twice_is_sent_once(shared_server):
    came = []
    async with linked(shared_server.url, timeout=1) as link, answering(link, came.append) as subject:
        with pytest.raises(BackendUnavailableError, match="lost"):
            await link.request_many([Request(subject, b"a")])
    assert came == [b"a"]


@pytest.mark.usefixtures("soon")
async def test_what_is_answered_slowly_is_not_sent_again(link):
    came, tasks = [], []

    async def answer_later(reply_to, number):
        await asyncio.sleep(0.06 * number)  # the slowness that the test is about
        link.post(Request(reply_to, b"x"))

    class Slow:
        def take(self, index, reply):
            came.append(reply.payload)
            tasks.append(asyncio.create_task(answer_later(reply.reply_to, len(came))))

    async with answering(link, None) as subject:
        link.line.current._waiters.put_on(ECHO, Slow(), "")
        await link.request_many([Request(subject, b"%d" % number) for number in range(8)], repeat=True)
        await asyncio.gather(*tasks)

    assert len(came) == 8


async def test_answers_that_came_while_this_process_stood_still_are_read(shared_server):
    async with linked(shared_server.url, timeout=0.3) as link:
        asking = asyncio.create_task(link.request_many([Request(INFO)]))
        asyncio.get_running_loop().call_soon(time.sleep, 0.5)  # as a handler that does not let others run
        (reply,) = await asking
        assert reply.payload


async def test_of_a_batch_that_has_become_too_large_nothing_is_stored(own_server):
    async with brrr.open_backend(own_server.url) as backend:
        own_server.reload("max_payload: 128KB")
        with pytest.raises(BackendError, match="over the 131072"):
            await backend.queue.put("jobs", [b"x", bytes(200_000), b"y"])
        assert (await backend.queue.stats("jobs")).ready == 0
        with pytest.raises(BodyTooLargeError):
            await backend.queue.put("jobs", [b"x", bytes(200_000), b"y"])
        value, key = bytes(300_000), Key("value", "h")
        assert await backend.store.swap([Swap(key, None, value)]) == [True]  # in smaller parts

        own_server.reload("max_payload: 64KB")
        assert await backend.store.swap([Swap(key, value, value[1:])]) == [True]  # again, in yet smaller ones
        assert await backend.store.read([key]) == [value[1:]]


async def test_a_batch_keeps_its_order_but_for_what_is_large():
    small = [Request("a", b"%d" % number) for number in range(5)]
    large = Request("a", bytes(100_000))

    assert largest_first(small) == small
    assert largest_first([]) == []
    assert largest_first([*small, large, large]) == [large, *small, large]


async def test_nothing_is_sent_on_a_connection_that_the_system_has_given_up(link):
    link.line.current._writer.transport.abort()

    (reply,) = await link.request_many([Request(INFO)])  # on another: it may not be sent twice

    assert reply.payload


@pytest.mark.parametrize("name", TASKS)
async def test_request_whose_connection_loses_a_task_to_others_ends_at_once(shared_server, name):
    async with linked(shared_server.url, timeout=300) as link:
        lost = link.line.current
        async with answering(link, lambda _: None) as subject:
            asking = asyncio.create_task(link.request_many([Request(subject, b"x")]))
            await until(lambda: len(lost._waiters))
            getattr(lost, name).cancel()
            async with asyncio.timeout(30):
                with pytest.raises(BackendUnavailableError, match="cancelled from outside"):
                    await asking
                assert await link.request_many([Request(INFO)], repeat=True)
                assert link.line.current is not lost
                await asyncio.wait(lost._tasks)


async def test_task_that_connects_is_cancelled_from_outside_and_the_next_request_connects(shared_server):
    async with linked(shared_server.url, retry_for=300) as link:
        link.line.current.end(ConnectionResetError("by the test"))
        link.line._dialling.cancel()

        async with asyncio.timeout(30):
            assert await link.request_many([Request(INFO)], repeat=True)
