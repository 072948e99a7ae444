"""Swaps that are dropped, or whose replies are lost: they take effect at most once, and are never falsely refused.

Every test counts the messages that the bucket has stored, so a change that took effect twice is seen.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest
from nats_roles import opened

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError
from brrr_nats.client import request_batch
from brrr_nats.client.errors import api_error
from brrr_nats.store.writes import MARKER_TTL_SECONDS
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.waiting import until

VALUE, PENDING = Key("value", "h"), Key("pending_returns", "h")
LARGE = b"x" * 2_000_000


class Fault:
    """A store behind a proxy, another store without it, and the count of stored messages."""

    def __init__(self, proxy, roles, other, bucket):
        self.proxy, self.roles, self.store, self.other = proxy, roles, roles.store, other.store
        self._client, self._bucket, self.before = other.client, bucket, 0

    async def last(self):
        return (await self._client.call_api(f"STREAM.INFO.KV_{self._bucket}"))["state"]["last_seq"]

    async def prepare(self, value):
        """Set the pending returns, so that both stores know them."""
        if value is not None:
            await self.store.write([(PENDING, value)])
        assert await self.other.read([PENDING]) == [value]
        self.before = await self.last()
        self.proxy.subjects.clear()

    async def stored(self):
        return await self.last() - self.before

    def lose(self, end=b".h", *, away=False):
        """Lose the reply to the next request for a subject with this end; with `away`, also refuse new connections."""

        def match(subject):
            self.proxy.refusing = away
            return True

        self.proxy.lose_answer_to(lambda subject: subject.endswith(end) and match(subject))

    async def until_stored(self):
        await until(self.stored, "the first copy is there")

    @property
    def sent(self):
        return sum(each.startswith("$KV.") for each in self.proxy.subjects)


@asynccontextmanager
async def fault(server, bucket, **options):
    async with (
        relayed(NatsProxy(server.port)) as proxy,
        opened(proxy.url, bucket=bucket, **{"marker_ttl": 20, "timeout": 5.0, **options}) as roles,
        opened(server.url, bucket=bucket, **options) as other,
    ):
        yield Fault(proxy, roles, other, bucket)


@pytest.fixture
async def store(server, bucket, monkeypatch):
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.1)
    async with fault(server, bucket) as each:
        yield each


@pytest.mark.parametrize(
    ("old", "new", "direct"), [(None, b"2", True), (b"1", b"2", False), (b"1", b"1", True), (b"1", None, False)]
)
async def test_swap_whose_reply_was_lost_is_unknown_and_not_repeated(store, old, new, direct):
    await store.prepare(old)
    if not direct:
        store.store._records.configure({})  # read from the leader, as with replicas
    store.lose()

    with pytest.raises(BackendUnavailableError, match="lost") as caught:
        await store.store.swap([Swap(PENDING, old, new)])

    assert "may have taken effect" in caught.value.remedy
    assert (store.sent, await store.stored()) == (1, 1)
    assert await store.store.swap([Swap(PENDING, new, b"3")]) == [True]


@pytest.mark.parametrize(("old", "new"), [(None, b"2"), (b"1", b"2"), (b"1", None)])
async def test_dropped_swap_is_sent_again(store, old, new):
    await store.prepare(old)
    connection = store.roles.client.connector.current
    store.proxy.drop(lambda _: True)

    assert await store.store.swap([Swap(PENDING, old, new)]) == [True]

    assert (store.sent, await store.stored()) == (2, 1)
    assert store.roles.client.connector.current is connection


@pytest.mark.parametrize(("old", "new"), [(None, b"2"), (b"1", None)])
async def test_late_copy_of_a_swap_is_refused(store, old, new):
    await store.prepare(old)
    connection, sent = store.roles.client.connector.current, []
    send = connection.send

    def noted(handler, requests):
        sent.extend(requests)
        return send(handler, requests)

    connection.send = noted
    store.proxy.drop(lambda _: True)
    assert await store.store.swap([Swap(PENDING, old, new)]) == [True]

    (late,) = await store.roles.client.request_many(sent[:1])

    error = api_error(late.payload)
    assert error is not None
    assert error.code == 10071
    assert await store.stored() == 1


@pytest.mark.parametrize("old", [None, b"1"])
async def test_dropped_swap_is_unknown_if_its_copy_is_refused(store, monkeypatch, old):
    """The first copy, or another change with the same result, may have been stored."""
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.5)
    await store.prepare(old)
    store.proxy.drop(lambda _: True)
    swapping = asyncio.create_task(store.store.swap([Swap(PENDING, old, b"2")]))
    await until(lambda: _true(store.sent), "the first copy was dropped")
    assert await store.other.swap([Swap(PENDING, old, b"2")]) == [True]

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swapping
    assert (store.sent, await store.stored()) == (2, 1)


async def _true(value):
    return value


@pytest.mark.parametrize(("old", "then"), [(None, b"3"), (b"1", b"1"), (b"1", None)])
async def test_swap_that_was_done_and_overwritten_is_unknown(store, old, then):
    await store.prepare(old)
    store.lose(away=True)
    swapping = asyncio.create_task(store.store.swap([Swap(PENDING, old, b"2")]))
    await store.until_stored()
    assert await store.other.swap([Swap(PENDING, b"2", then)]) == [True]
    store.proxy.refusing = False

    with pytest.raises(BackendUnavailableError, match="lost") as caught:
        await swapping

    assert "may have taken effect" in caught.value.remedy
    assert caught.value.__cause__ is not None
    assert await store.stored() == 2
    assert await store.store.swap([Swap(PENDING, then, b"4")]) == [True]


async def test_swap_followed_by_a_plain_write_is_unknown(store, monkeypatch):
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.5)
    await store.prepare(b"1")
    store.proxy.drop(lambda _: True)
    swapping = asyncio.create_task(store.store.swap([Swap(PENDING, b"1", b"2")]))
    await until(lambda: _true(store.sent), "the first copy was dropped")
    await store.other.write([(PENDING, b"3")])

    with pytest.raises(BackendUnavailableError, match="lost"):
        await swapping


async def test_create_that_was_deleted_since_is_not_repeated(server, bucket):
    """The revision is 0 again when a marker expires, so a copy would take effect."""
    async with fault(server, bucket, marker_ttl=1) as store:
        await store.prepare(None)
        store.lose(away=True)
        swapping = asyncio.create_task(store.store.swap([Swap(PENDING, None, b"2")]))
        await store.until_stored()
        assert await store.other.swap([Swap(PENDING, b"2", None)]) == [True]

        with pytest.raises(BackendUnavailableError, match="lost"):  # and not "cannot be reached"
            await swapping
        assert (store.sent, await store.stored()) == (1, 2)


async def test_swap_without_any_reply_raises_within_the_timeout(server, bucket, monkeypatch):
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 60)
    async with fault(server, bucket, timeout=0.3) as store:
        await store.prepare(b"1")
        store.proxy.drop(lambda _: True)

        with pytest.raises(BackendUnavailableError, match="lost"):
            async with asyncio.timeout(5):
                await store.store.swap([Swap(PENDING, b"1", b"2")])
        assert (store.sent, await store.stored()) == (1, 0)


async def test_batch_with_a_dropped_request_has_the_results_of_its_copies(store):
    keys = [Key("pending_returns", f"{number}h") for number in range(3)]
    await store.prepare(b"1")
    store.proxy.drop(lambda _: True)

    assert await store.store.swap([Swap(key, None, b"x") for key in keys]) == [True] * 3
    assert await store.stored() == 3


async def test_large_value_whose_commit_reply_was_lost_is_unknown_and_stored_once(store):
    await store.prepare(None)
    store.lose(b".value.h")

    with pytest.raises(BackendUnavailableError, match="lost"):
        await store.store.swap([Swap(VALUE, None, LARGE)])

    assert await store.stored() == 5
    assert await store.other.read([VALUE]) == [LARGE]


async def test_interrupted_large_value_is_put_again_and_leaves_no_parts(store):
    await store.prepare(None)
    store.lose(b".2")  # the third of four parts

    assert await store.store.swap([Swap(VALUE, None, LARGE)]) == [True]

    assert await store.stored() == 5
    assert await store.other.read([VALUE]) == [LARGE]


async def test_interrupted_large_value_fails_if_another_change_came_first(store):
    await store.prepare(None)
    store.lose(b".2", away=True)
    swapping = asyncio.create_task(store.store.swap([Swap(VALUE, None, LARGE)]))
    await until(lambda: _true(store.proxy.refusing), "it is cut off")
    assert await store.other.swap([Swap(VALUE, None, b"small")]) == [True]
    store.proxy.refusing = False

    assert await swapping == [False]
    assert await store.stored() == 1


async def test_no_copy_is_sent_when_a_marker_may_have_expired(server, bucket, monkeypatch):
    """The first copy of a create may have taken effect, its record deleted, and the marker may have expired."""
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.1)
    monkeypatch.setattr(request_batch, "MAX_RESEND_SECONDS", 0.05)
    async with fault(server, bucket, timeout=0.5) as store:
        await store.prepare(None)
        store.proxy.drop(lambda _: True)

        with pytest.raises(BackendUnavailableError, match="lost"):
            await store.store.swap([Swap(PENDING, None, b"2")])
        assert (store.sent, await store.stored()) == (1, 0)


def test_copies_are_sent_within_half_the_life_of_a_marker():
    assert request_batch.MAX_RESEND_SECONDS <= MARKER_TTL_SECONDS / 2


async def test_cancelled_swap_is_not_sent_again(store):
    await store.prepare(b"1")
    store.proxy.drop(lambda _: True)
    swapping = asyncio.create_task(store.store.swap([Swap(PENDING, b"1", b"2")]))
    await until(lambda: _true(store.sent), "the first copy was dropped")
    swapping.cancel()
    await asyncio.wait({swapping})

    assert swapping.cancelled()
    assert await store.store.swap([Swap(PENDING, b"1", b"3")]) == [True]
    assert (store.sent, await store.stored()) == (2, 1)
