"""Pulls by themselves: what a server's answer, in whatever order it comes, means to who waits for it."""

import asyncio

import pytest

from brrr_nats.client.protocol import Reply
from brrr_nats.queue import pulls
from brrr_nats.queue.leases import Pulse
from brrr_nats.queue.topic_pulls import Channel
from tests.support.polling import until

LEASE = 30.0


class FakeConnection:
    """Notes what is asked for, on which lane; the test answers."""

    def __init__(self):
        self.lanes = 0
        self.asked = []
        self.closed = []

    def open_lane(self):
        self.lanes += 1
        return self.lanes

    def pull(self, lane, owner, request):
        self.asked.append((lane, owner, request.payload))

    def close_lane(self, lane):
        self.closed.append(lane)


class Given:
    """A channel, its connection, and what it gave back."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.given_back = []
        self.pulse = Pulse(loop, LEASE)
        self.channel = Channel("jobs", "next", LEASE, self.pulse, self.given_back.append)
        self.connection = FakeConnection()

    def ask(self, limit=1, wait=60.0):
        return self.channel.ask(self.connection, limit, asyncio.get_running_loop().time() + wait)

    def waiting(self, pull):
        return asyncio.create_task(self.channel.wait(pull, pull.expires))


@pytest.fixture
async def given():
    given = Given()
    yield given
    given.pulse.end()


def message(body, *, more=0):
    return Reply(body, b"", f"$JS.ACK.brrr.jobs.1.7.7.1700000000000000000.{more}")


def end(status, text, pending=None):
    headers = "" if pending is None else f"Nats-Pending-Messages: {pending}\r\nNats-Pending-Bytes: 1\r\n"
    return Reply(b"", f"NATS/1.0 {status} {text}\r\n{headers}\r\n".encode())


def bodies(found):
    return [each.body for each in found]


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("status", "text", "pending"), [(409, "Batch Completed", 0), (408, "Request Timeout", 1)])
async def test_messages_that_an_end_overtakes_are_waited_for(given, status, text, pending):
    pull = given.ask(limit=2 + pending)
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(status, text, pending))
    await turns()
    assert not waiting.done()
    pull.take(0, message(b"x", more=1))
    pull.take(0, message(b"y", more=1))
    assert bodies(await waiting) == [b"x", b"y"]
    assert pull.failure is None
    assert given.channel.idle


async def test_no_other_pull_uses_a_lane_on_which_messages_are_to_come(given):
    pull = given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(409, "Batch Completed", 0))
    other = given.ask()
    pull.take(0, message(b"x"))
    third = given.ask()
    assert [(lane, owner) for lane, owner, _ in given.connection.asked] == [(1, pull), (2, other), (1, third)]
    assert bodies(await waiting) == [b"x"]


async def test_messages_that_died_with_their_leader_are_not_waited_for(given, monkeypatch):
    monkeypatch.setattr(pulls, "LATE", 0.02)
    pull = given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, end(409, "Batch Completed", 0))
    async with asyncio.timeout(5):
        assert await waiting == []
    assert isinstance(pull.failure, TimeoutError)


async def test_a_pull_that_nobody_waits_for_and_that_never_ends_is_given_up(given, monkeypatch):
    monkeypatch.setattr(pulls, "LATE", 0.01)
    monkeypatch.setattr(pulls, "FORGOTTEN", 0.01)
    left = given.ask(limit=2, wait=0.01)
    waiting = given.waiting(left)
    left.take(0, message(b"x"))
    assert bodies(await waiting) == [b"x"]  # its other message, and its end, were lost
    await asyncio.sleep(0.03)  # longer than FORGOTTEN: the next pull looks at the clock, and nothing tells before
    pull = given.ask()
    waiting = given.waiting(pull)
    await turns()
    pull.take(0, message(b"y"))
    assert bodies(await waiting) == [b"y"]
    await until(lambda: given.channel.idle, bound=5)
    assert given.connection.closed == [1]


async def test_a_pull_whose_receiver_was_cancelled_is_used_again_until_it_expires(given):
    pull = given.ask(wait=0.05)
    for _ in range(2):
        waiting = given.waiting(pull)
        await turns()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert given.ask(wait=60) is pull
    waiting = given.waiting(pull)
    await turns()
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.sleep(0.06)
    assert given.ask(wait=60) is not pull


async def test_a_look_ends_at_once_and_has_no_end_of_its_own(given):
    pull = given.channel.look(given.connection, 1)
    waiting = given.waiting(pull)
    await turns()
    assert b"expires" not in given.connection.asked[0][2]
    pull.take(0, end(404, "No Messages"))
    async with asyncio.timeout(1):
        assert await waiting == []
    assert pull.status == 404


async def test_what_a_cancelled_receiver_was_given_goes_to_another_that_waits(given):
    first, second = given.ask(), given.ask()
    taking, waiting = given.waiting(first), given.waiting(second)
    await turns()
    first.take(0, message(b"x"))
    taking.cancel()  # the message is there, and the receiver has not seen it
    assert bodies(await waiting) == [b"x"]
    assert given.given_back == []
