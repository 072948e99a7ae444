"""The link: many requests at a time on one connection, whatever becomes of it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_core.plugins import parse_url
from brrr_nats.link import Link, Request
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from tests.support.nats_servers import nats_program
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

    connection._lanes[ECHO] = Echo()
    connection._transport.write(b"SUB %b %d\r\n" % (subject.encode(), ECHO))
    try:
        yield subject
    finally:
        connection.close_lane(ECHO)


def slots(link):
    return link.line.current._slots


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
            async with asyncio.timeout(10):
                while link.line.current in {before, None}:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.01)
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


@asynccontextmanager
async def pretending(**info):
    """A server that says this of itself, and answers pings."""

    async def serve(reader, writer):
        told = {"server_id": "X", "version": "2.12.0", "headers": True, "max_payload": 1024, "jetstream": True, **info}
        writer.write(b"INFO %b\r\n" % json.dumps(told).encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("version", ["2.11.9", "1.4.1", "", "2.2.0-beta"])
async def test_a_server_that_is_too_old_is_refused(version):
    async with pretending(version=version) as url:
        with pytest.raises(BackendError, match="version") as caught:
            await linked(url).__aenter__()
    assert "2.12" in caught.value.remedy


@pytest.mark.parametrize("version", ["2.12.0", "2.12.0-RC.1", "2.15.1", "3.0.0"])
async def test_a_server_that_is_new_enough_is_taken(version):
    async with pretending(version=version) as url, linked(url) as link:
        assert link.max_payload == 1024


async def test_other_servers_of_the_cluster_are_tried(shared_server):
    async with pretending(connect_urls=[shared_server.place]) as url, linked(url) as link:
        gone, *others = link.line._known
        link.line._known = dict.fromkeys(others)
        link.line.current.end(OSError("lost"))
        async with asyncio.timeout(10):
            (reply,) = await link.request_many([Request(INFO)])
        assert reply.payload
        assert gone in link.line._known
