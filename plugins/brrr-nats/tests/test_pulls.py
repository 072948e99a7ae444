"""Pulls without a server: what the parts of its answer, in any order, mean for the receiver."""

import asyncio
from typing import Any

import pytest

from brrr_nats.client.messages import Reply
from brrr_nats.queue import pulls
from brrr_nats.queue.clocks import StallDetector
from brrr_nats.queue.pulls import TopicPulls

LEASE = 30.0


class FakeConnection:
    """A connection that records the requests, and the pulls whose inboxes are free; the test replies."""

    def __init__(self):
        self.asked = []
        self.freed = []

    async def pull(self, handler, request):
        self.asked.append(request.payload)
        return lambda: self.freed.append(handler)


class Given:
    """The pulls of a topic, their connection, and the released messages."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.released = []
        self.stall_detector = StallDetector(loop, LEASE)
        self.topic_pulls = TopicPulls("jobs", "next", LEASE, self.stall_detector, self.released.append)
        self.connection: Any = FakeConnection()

    async def ask(self, limit=1, wait=60.0):
        return await self.topic_pulls.request(self.connection, limit, asyncio.get_running_loop().time() + wait)

    def waiting(self, pull):
        return asyncio.create_task(self.topic_pulls.wait(pull, pull.expires))


@pytest.fixture
async def given():
    given = Given()
    yield given
    given.stall_detector.close()


def message(body, *, more=0):
    return Reply(body, {}, f"$JS.ACK.brrr.jobs.1.7.7.1700000000000000000.{more}")


def end(status, text, pending=None):
    headers = {} if pending is None else {"Nats-Pending-Messages": str(pending), "Nats-Pending-Bytes": "1"}
    return Reply(b"", {"Status": str(status), "Description": text, **headers})


def bodies(found):
    return [each.body for each in found]


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("status", "text", "pending"), [(409, "Batch Completed", 0), (408, "Request Timeout", 1)])
async def test_messages_after_the_end_of_a_pull_are_waited_for(given, status, text, pending):
    pull = await given.ask(limit=2 + pending)
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(status, text, pending))
    await turns()
    assert not waiting.done()
    pull.take(0, message(b"x", more=1))
    pull.take(0, message(b"y", more=1))
    assert bodies(await waiting) == [b"x", b"y"]
    assert pull.failure is None
    assert given.topic_pulls.idle


async def test_inbox_with_outstanding_messages_is_not_free(given):
    pull = await given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(409, "Batch Completed", 0))
    assert given.connection.freed == []
    pull.take(0, message(b"x"))
    assert given.connection.freed == [pull]
    assert bodies(await waiting) == [b"x"]


async def test_messages_lost_with_their_leader_time_out(given, monkeypatch):
    monkeypatch.setattr(pulls, "OVERDUE_SECONDS", 0.02)
    pull = await given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(409, "Batch Completed", 0))
    async with asyncio.timeout(5):
        assert await waiting == []
    assert isinstance(pull.failure, TimeoutError)


async def test_abandoned_pull_that_never_ends_times_out(given, monkeypatch):
    monkeypatch.setattr(pulls, "OVERDUE_SECONDS", 0.01)
    left = await given.ask(limit=2, wait=0.01)
    waiting = given.waiting(left)
    left.take(0, message(b"x"))
    assert bodies(await waiting) == [b"x"]  # its second message and its end are lost
    await asyncio.sleep(0.03)  # longer than OVERDUE_SECONDS: only the next pull checks the clock
    pull = await given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, message(b"y"))
    assert bodies(await waiting) == [b"y"]
    assert given.topic_pulls.idle
    assert given.connection.freed == [left, pull]


async def test_pull_of_a_cancelled_receiver_is_reused_until_it_expires(given):
    pull = await given.ask(wait=0.05)
    for _ in range(2):
        waiting = given.waiting(pull)
        await turns()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await given.ask(wait=60) is pull
    waiting = given.waiting(pull)
    await turns()
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.sleep(0.06)
    assert await given.ask(wait=60) is not pull


async def test_pull_without_wait_ends_at_once_and_has_no_expiry(given):
    pull = await given.topic_pulls.request_now(given.connection, 1)
    waiting = given.waiting(pull)
    await turns()
    assert b"expires" not in given.connection.asked[0]
    pull.take(0, end(404, "No Messages"))
    async with asyncio.timeout(1):
        assert await waiting == []
    assert pull.status == 404


async def test_message_of_a_cancelled_receiver_goes_to_another_receiver(given):
    first, second = await given.ask(), await given.ask()
    taking, waiting = given.waiting(first), given.waiting(second)
    await turns()
    first.take(0, message(b"x"))
    taking.cancel()  # the message has arrived, but the receiver has not run
    assert bodies(await waiting) == [b"x"]
    assert given.released == []
