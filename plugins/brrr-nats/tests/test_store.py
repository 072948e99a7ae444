"""The store, beyond the contract kit: requests, lost replies, races, markers, sizes."""

import asyncio

import pytest
from nats_roles import forbid_direct, messages, opened

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError, CorruptBackendError, ValueTooLargeError
from brrr_nats.client import request_batch
from brrr_nats.client.messages import Request
from brrr_nats.store.records import RevisionCache, StoredRecord
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.servers.nats import Server
from brrr_testkit.waiting import until

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")
GET = "$JS.API.DIRECT.GET."


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def watched(server, bucket):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.subjects.clear()
        yield roles.store, proxy.subjects


async def test_read_sends_one_request_per_key(watched):
    store, subjects = watched

    assert await store.read([VALUE, CALL, VALUE]) == [None, None, None]

    assert len(subjects) == 2
    assert all(each.startswith(GET) for each in subjects)


async def test_empty_batch_sends_nothing(watched):
    store, subjects = watched

    assert await store.read([]) == []
    await store.write([])
    assert await store.swap([]) == []

    assert subjects == []


async def test_create_sends_one_message(watched):
    store, subjects = watched

    assert await store.swap([Swap(VALUE, None, b"x")]) == [True]

    assert len(subjects) == 1


async def test_failed_create_reads_once(watched):
    store, subjects = watched
    await store.write([(VALUE, b"there")])
    subjects.clear()

    assert await store.swap([Swap(VALUE, None, b"x")]) == [False]

    assert len(subjects) == 2


async def test_swap_of_a_known_record_sends_one_message(watched):
    store, subjects = watched
    await store.write([(PENDING, b"1")])
    assert await store.swap([Swap(PENDING, b"1", b"2")]) == [True]
    assert await store.swap([Swap(PENDING, b"2", b"3")]) == [True]
    assert await store.read([PENDING]) == [b"3"]
    assert await store.swap([Swap(PENDING, b"3", None)]) == [True]
    assert await store.swap([Swap(PENDING, None, b"4")]) == [True]

    assert [each.startswith(GET) for each in subjects] == [False, False, False, True, False, False]


async def test_batch_of_2000_keys_sends_one_request_per_key(watched):
    store, subjects = watched
    keys = [Key("pending_returns", f"{number}") for number in range(2000)]

    await store.write([(key, b"%d" % n) for n, key in enumerate(keys)])
    assert await store.read(keys) == [b"%d" % n for n in range(2000)]
    assert all(await store.swap([Swap(key, b"%d" % n, b"new") for n, key in enumerate(keys)]))
    assert all(await store.swap([Swap(key, b"new", None) for key in keys]))
    assert await store.read(keys) == [None] * 2000

    assert len(subjects) == 5 * 2000


async def test_key_given_twice_in_a_write_is_sent_once(watched):
    store, subjects = watched

    await store.write([(CALL, b"1"), (VALUE, b"2"), (CALL, b"3")])

    assert len(subjects) == 2
    assert await store.read([CALL]) == [b"3"]


# -- lost replies --------------------------------------------------------------------------------------------------


async def test_call_whose_write_reply_was_lost_is_written_again(server, bucket):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.subjects.clear()
        proxy.lose_answer_to(lambda subject: subject.endswith(b".call.h"))

        await roles.store.write([(CALL, b"x")])

        assert len(proxy.subjects) == 2
        assert await roles.store.read([CALL]) == [b"x"]


async def test_other_write_whose_reply_was_lost_raises(server, bucket):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.lose_answer_to(lambda subject: subject.endswith(b".value.h"))

        with pytest.raises(BackendUnavailableError, match="lost"):
            await roles.store.write([(VALUE, b"x")])

        assert await roles.store.read([VALUE]) == [b"x"]


async def test_read_whose_reply_was_lost_is_repeated(server, bucket):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x")])
        proxy.lose_answer_to(lambda subject: subject.startswith(GET.encode()))

        assert await roles.store.read([VALUE]) == [b"x"]


@pytest.fixture
async def dropping(server, bucket, monkeypatch):
    """A proxy that drops the next request, as servers do while leaders change. Requests are sent again soon."""
    monkeypatch.setattr(request_batch, "FIRST_RESEND_SECONDS", 0.1)
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket, timeout=1.0) as roles:
        proxy.subjects.clear()
        proxy.drop(lambda _: True)
        yield roles, proxy.subjects


async def test_dropped_write_of_a_call_is_repeated_on_the_same_connection(dropping):
    roles, subjects = dropping
    connection = roles.client.connector.current

    await roles.store.write([(CALL, b"x")])
    assert len(subjects) == 2
    assert await roles.store.read([CALL]) == [b"x"]
    assert roles.client.connector.current is connection


async def test_dropped_read_is_sent_again(dropping):
    roles, subjects = dropping

    assert await roles.store.read([CALL]) == [None]
    assert len(subjects) == 2


async def test_dropped_increment_is_sent_once(dropping):
    roles, subjects = dropping

    with pytest.raises(BackendUnavailableError, match="lost"):
        await roles.cache.increment({"a": 1})
    assert len(subjects) == 1
    assert await roles.cache.increment({"a": 1}) == {"a": 1}


# -- races ---------------------------------------------------------------------------------------------------------


async def test_stale_cached_record_does_not_decide_a_swap(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"1")])
        assert await two.store.swap([Swap(PENDING, b"1", b"2")]) == [True]

        assert await one.store.swap([Swap(PENDING, b"2", b"3")]) == [True]
        assert await two.store.swap([Swap(PENDING, b"2", b"4")]) == [False]


async def test_equal_bytes_under_another_revision_match(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"a")])
        assert await two.store.swap([Swap(PENDING, b"a", b"b"), Swap(PENDING, b"b", b"a")]) == [True, True]

        assert await one.store.swap([Swap(PENDING, b"a", b"c")]) == [True]


async def test_deleted_and_recreated_record_is_found(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"a")])
        assert await two.store.swap([Swap(PENDING, b"a", None)]) == [True]
        assert await one.store.swap([Swap(PENDING, b"a", b"b"), Swap(PENDING, None, b"c")]) == [False, True]
        assert await two.store.swap([Swap(PENDING, None, b"d"), Swap(PENDING, b"c", b"e")]) == [False, True]


@pytest.mark.parametrize("size", [1, 1_500_000])
async def test_exactly_one_of_many_concurrent_swaps_wins(server, bucket, size):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        values = [bytes([65 + number]) * size for number in range(6)]
        results = await asyncio.gather(
            *((one, two)[n % 2].store.swap([Swap(VALUE, None, value)]) for n, value in enumerate(values))
        )
        (winner,) = [value for value, [won] in zip(values, results, strict=True) if won]
        assert await one.store.read([VALUE]) == [winner]

        results = await asyncio.gather(*((one, two)[n % 2].store.swap([Swap(VALUE, winner, None)]) for n in range(6)))
        assert sum(won for [won] in results) == 1
        assert await two.store.read([VALUE]) == [None]


async def test_reader_of_a_changing_large_value_sees_old_or_new(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        values = [bytes([65 + number]) * 1_300_000 for number in range(4)]
        await one.store.write([(VALUE, values[0])])
        reading = asyncio.create_task(_read_on(two.store, until_sees=b"done"))

        for old, new in zip(values, [*values[1:], b"done"], strict=True):
            assert await one.store.swap([Swap(VALUE, old, new)]) == [True]

        assert await reading <= {*values, b"done"}


async def _read_on(store, *, until_sees):
    seen = set()
    while until_sees not in seen:
        seen |= {*await store.read([VALUE])}
    return seen


# -- markers -------------------------------------------------------------------------------------------------------


async def test_markers_of_deleted_records_expire(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        keys = [Key("pending_returns", f"{number}") for number in range(50)]
        await roles.store.write([*((key, b"x") for key in keys), (VALUE, b"stays")])
        assert all(await roles.store.swap([Swap(key, b"x", None) for key in keys]))
        assert len(await messages(roles.client, f"KV_{bucket}")) == 51

        async def gone() -> bool:
            return len(await messages(roles.client, f"KV_{bucket}")) == 1

        await until(gone, "the markers are gone")
        # The cached revisions are those of markers, which have expired.
        assert all(await roles.store.swap([Swap(key, None, b"again") for key in keys]))


async def test_parts_are_removed_with_their_value(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        one, two = b"1" * 3_000_000, b"2" * 2_000_000
        await roles.store.write([(VALUE, one)])
        await roles.store.write([(VALUE, two)])
        assert await roles.store.swap([Swap(VALUE, one, b""), Swap(VALUE, two, two), Swap(VALUE, two, b"x")]) == [
            False,
            True,
            True,
        ]

        async def gone() -> bool:
            return await messages(roles.client, f"KV_{bucket}") == {f"$KV.{bucket}.value.h": 1}

        await until(gone, "the parts are gone")


async def test_rewriting_a_large_value_renews_its_parts(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(CALL, b"x" * 2_000_000)])
        before = (await roles.client.call_api(f"STREAM.INFO.KV_{bucket}"))["state"]["last_seq"]
        await roles.store.write([(CALL, b"x" * 2_000_000)])

        assert (await roles.client.call_api(f"STREAM.INFO.KV_{bucket}"))["state"]["first_seq"] > before


@pytest.mark.parametrize("sizes", [("64KB", "1MB"), ("1MB", "64KB")])
async def test_large_value_is_rewritten_with_parts_of_another_size(own_server, bucket, sizes):
    value = bytes(range(256)) * 6000
    for size in sizes:
        own_server.reload(f"max_payload: {size}")
        async with opened(own_server.url, bucket=bucket) as roles:
            await roles.store.write([(VALUE, value)])
            assert await roles.store.read([VALUE]) == [value]
    async with opened(own_server.url, bucket=bucket) as roles:
        assert await roles.store.swap([Swap(VALUE, value, None)]) == [True]

        async def gone() -> bool:
            return await messages(roles.client, f"KV_{bucket}") == {}

        await until(gone, "every part is gone")


async def test_damaged_large_value_raises(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x" * 1_500_000)])
        part = next(name for name in await messages(roles.client, f"KV_{bucket}") if name.endswith(".0"))
        await roles.client.request_many([Request(part, b"y" * 512 * 1024)])

        with pytest.raises(CorruptBackendError, match=r"value\.h"):
            await roles.store.read([VALUE])


async def test_read_waits_for_the_record_whose_parts_expired_first(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x" * 1_500_000)])
        part = next(name for name in await messages(roles.client, f"KV_{bucket}") if name.endswith(".0"))
        await roles.client.call_api(f"STREAM.PURGE.KV_{bucket}", {"filter": part})
        reading = asyncio.create_task(roles.store.read([VALUE]))
        await asyncio.sleep(0.6)  # a server checks at most four times a second
        await roles.client.call_api(f"STREAM.PURGE.KV_{bucket}", {"filter": f"$KV.{bucket}.value.h"})

        assert await reading == [None]


async def test_setup_removes_only_unused_parts(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        large = b"1" * 2_000_000
        await roles.store.write([(VALUE, large), (CALL, large)])
        await roles.store.write([(VALUE, b"small")])

        assert await roles.store.prepare(change=True) == [f"removed 4 parts of KV_{bucket} that no value uses"]

        assert await roles.store.read([VALUE, CALL]) == [b"small", large]

        async def gone() -> bool:
            return len(await messages(roles.client, f"KV_{bucket}")) == 6

        await until(gone, "the parts are gone")
        assert await roles.store.prepare(change=True) == []


# -- sizes ---------------------------------------------------------------------------------------------------------


async def test_values_around_the_message_size_are_kept(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        sizes = [2**20 + by for by in (-4097, -4096, -4095, -1, 0, 1)] + [512 * 1024 * 3, 512 * 1024 * 3 + 1]
        keys = [Key("value", f"{size}") for size in sizes]
        values = [bytes([65 + at]) * size for at, size in enumerate(sizes)]

        assert all(await roles.store.swap([Swap(*each) for each in zip(keys, [None] * 8, values, strict=True)]))

        assert await roles.store.read(keys) == values


async def test_server_with_a_small_max_payload_keeps_large_values(tmp_path, bucket):
    server = Server(tmp_path / "small", config="max_payload: 16384", sync=False).start()
    try:
        async with opened(server.url, bucket=bucket) as roles:
            value = b"x" * 1_000_000
            await roles.store.write([(VALUE, value)])
            assert await roles.store.read([VALUE]) == [value]

            with pytest.raises(ValueTooLargeError, match="max_payload of 16384"):
                await roles.store.write([(CALL, b"small"), (VALUE, b"x" * 6_000_000)])
            with pytest.raises(ValueTooLargeError):
                await roles.store.swap([Swap(CALL, None, b"small"), Swap(PENDING, None, b"x" * 6_000_000)])
            assert await roles.store.read([CALL, PENDING]) == [None, None]
    finally:
        server.kill()


async def test_largest_allowed_value_is_kept(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        value = bytes(range(256)) * (64 * 1024 * 1024 // 256)

        await roles.store.write([(VALUE, value)])

        assert await roles.store.read([VALUE]) == [value]


async def test_reading_many_large_values_keeps_the_connection(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        keys = [Key("value", f"{number}") for number in range(120)]
        await roles.store.write([(key, b"x" * 1_000_000) for key in keys])
        await roles.store.read(
            [Key("value", f"none {number}") for number in range(40)]
        )  # now it sends many requests at once

        assert await roles.store.read(keys) == [b"x" * 1_000_000] * 120


async def test_concurrent_reads_of_large_values_keep_the_connection(tmp_path, bucket):
    server = Server(tmp_path / "own", sync=False, config="max_pending: 48MB").start()
    try:
        async with opened(server.url, bucket=bucket) as roles:
            await forbid_direct(roles.client, bucket)  # a leader's replies are a third larger
        async with opened(server.url, bucket=bucket) as roles:
            keys = [Key("value", f"{number}") for number in range(80)]
            for key in keys:
                await roles.store.write([(key, b"x" * 1_000_000)])
            connection = roles.client.connector.current

            async with asyncio.timeout(60):
                found = await asyncio.gather(*(roles.store.read([key]) for key in keys))

            assert found == [[b"x" * 1_000_000]] * 80
            assert roles.client.connector.current is connection
    finally:
        server.kill()


async def test_large_value_waits_until_the_stream_accepts_its_batch(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        # Batches that were begun and never continued: the stream abandons them after 10 s.
        begun = [{"Nats-Batch-Id": f"{number}", "Nats-Batch-Sequence": "1"} for number in range(50)]
        await roles.client.request_many([Request(f"$KV.{bucket}.other", b"x", headers) for headers in begun])

        assert await roles.store.swap([Swap(VALUE, None, b"x" * 1_300_000)]) == [True]

        assert await roles.store.read([VALUE]) == [b"x" * 1_300_000]


def test_revision_cache_is_bounded_by_bytes():
    known = RevisionCache(100_000)
    for number in range(1000):
        known.note(f"s{number}", StoredRecord(b"x" * 700, number))
    known.note("large", StoredRecord(b"x" * 50_000, 1))

    assert 90 < len(known) < 100
    assert known.take("s999") == StoredRecord(b"x" * 700, 999)
    assert known.take("s999") is known.take("s1") is known.take("large") is None


def test_revision_cache_keeps_the_newer_state():
    known = RevisionCache(100_000)
    known.note("s", StoredRecord(b"new", 2))
    known.note("s", StoredRecord(b"old", 1))

    assert known.take("s") == StoredRecord(b"new", 2)
