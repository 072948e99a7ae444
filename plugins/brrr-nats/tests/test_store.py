"""The store beyond the contract kit: what it asks, lost answers, races, markers, sizes."""

import asyncio

import pytest

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError, CorruptBackendError, ValueTooLargeError
from brrr_nats.client import request_batch
from brrr_nats.client.protocol import Request
from brrr_nats.store.revisions import Revisions, Stored
from tests.support.nats_roles import forbid_direct, messages, opened, proxied, until
from tests.support.nats_servers import Server

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")
GET = "$JS.API.DIRECT.GET."


# -- what is asked -------------------------------------------------------------------------------------------------


@pytest.fixture
async def watched(server, bucket):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.subjects.clear()
        yield roles.store, proxy.subjects


async def test_a_read_is_one_request_a_key(watched):
    store, subjects = watched

    assert await store.read([VALUE, CALL, VALUE]) == [None, None, None]

    assert len(subjects) == 2
    assert all(each.startswith(GET) for each in subjects)


async def test_nothing_is_asked_for_an_empty_batch(watched):
    store, subjects = watched

    assert await store.read([]) == []
    await store.write([])
    assert await store.swap([]) == []

    assert subjects == []


async def test_a_create_is_one_message(watched):
    store, subjects = watched

    assert await store.swap([Swap(VALUE, None, b"x")]) == [True]

    assert len(subjects) == 1


async def test_a_create_that_fails_reads_once(watched):
    store, subjects = watched
    await store.write([(VALUE, b"there")])
    subjects.clear()

    assert await store.swap([Swap(VALUE, None, b"x")]) == [False]

    assert len(subjects) == 2


async def test_a_swap_of_what_was_just_read_or_written_is_one_message(watched):
    store, subjects = watched
    await store.write([(PENDING, b"1")])
    assert await store.swap([Swap(PENDING, b"1", b"2")]) == [True]
    assert await store.swap([Swap(PENDING, b"2", b"3")]) == [True]
    assert await store.read([PENDING]) == [b"3"]
    assert await store.swap([Swap(PENDING, b"3", None)]) == [True]
    assert await store.swap([Swap(PENDING, None, b"4")]) == [True]

    assert [each.startswith(GET) for each in subjects] == [False, False, False, True, False, False]


async def test_batches_of_2000_keys(watched):
    store, subjects = watched
    keys = [Key("pending_returns", f"{number}") for number in range(2000)]

    await store.write([(key, b"%d" % n) for n, key in enumerate(keys)])
    assert await store.read(keys) == [b"%d" % n for n in range(2000)]
    assert all(await store.swap([Swap(key, b"%d" % n, b"new") for n, key in enumerate(keys)]))
    assert all(await store.swap([Swap(key, b"new", None) for key in keys]))
    assert await store.read(keys) == [None] * 2000

    assert len(subjects) == 5 * 2000


async def test_a_value_that_stands_twice_in_a_write_is_sent_once(watched):
    store, subjects = watched

    await store.write([(CALL, b"1"), (VALUE, b"2"), (CALL, b"3")])

    assert len(subjects) == 2
    assert await store.read([CALL]) == [b"3"]


# -- lost answers --------------------------------------------------------------------------------------------------


async def test_calls_whose_write_was_lost_are_written_again(server, bucket):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.subjects.clear()
        proxy.lose_answer_to(lambda subject: subject.endswith(b".call.h"))

        await roles.store.write([(CALL, b"x")])

        assert len(proxy.subjects) == 2
        assert await roles.store.read([CALL]) == [b"x"]


async def test_another_write_that_was_lost_is_told(server, bucket):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket=bucket) as roles:
        proxy.lose_answer_to(lambda subject: subject.endswith(b".value.h"))

        with pytest.raises(BackendUnavailableError, match="lost"):
            await roles.store.write([(VALUE, b"x")])

        assert await roles.store.read([VALUE]) == [b"x"]


async def test_a_read_whose_answer_was_lost_is_asked_again(server, bucket):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x")])
        proxy.lose_answer_to(lambda subject: subject.startswith(GET.encode()))

        assert await roles.store.read([VALUE]) == [b"x"]


@pytest.fixture
async def dropping(server, bucket, monkeypatch):
    """A proxy that drops the next request, as servers do while leaders change; what may be is sent again soon."""
    monkeypatch.setattr(request_batch, "FIRST_TRY", 0.1)
    async with proxied(server.port) as proxy, opened(proxy.url, bucket=bucket, timeout=1.0) as roles:
        proxy.subjects.clear()
        proxy.drop(lambda _: True)
        yield roles, proxy.subjects


async def test_a_call_that_was_dropped_is_written_again_on_the_same_connection(dropping):
    roles, subjects = dropping
    connection = roles.link.line.current

    await roles.store.write([(CALL, b"x")])
    assert len(subjects) == 2
    assert await roles.store.read([CALL]) == [b"x"]
    assert roles.link.line.current is connection


async def test_a_read_that_was_dropped_is_sent_again(dropping):
    roles, subjects = dropping

    assert await roles.store.read([CALL]) == [None]
    assert len(subjects) == 2


async def test_a_count_that_was_dropped_was_sent_once(dropping):
    roles, subjects = dropping

    with pytest.raises(BackendUnavailableError, match="lost"):
        await roles.cache.increment({"a": 1})
    assert [each.startswith("$JS.") for each in subjects] == [False, True]  # it was looked for
    assert await roles.cache.increment({"a": 1}) == {"a": 1}


# -- races ---------------------------------------------------------------------------------------------------------


async def test_what_is_known_from_before_and_old_does_not_decide(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"1")])
        assert await two.store.swap([Swap(PENDING, b"1", b"2")]) == [True]

        assert await one.store.swap([Swap(PENDING, b"2", b"3")]) == [True]
        assert await two.store.swap([Swap(PENDING, b"2", b"4")]) == [False]


async def test_the_same_bytes_under_another_revision_are_equal(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"a")])
        assert await two.store.swap([Swap(PENDING, b"a", b"b"), Swap(PENDING, b"b", b"a")]) == [True, True]

        assert await one.store.swap([Swap(PENDING, b"a", b"c")]) == [True]


async def test_a_record_that_was_deleted_and_made_again_is_found(server, bucket):
    async with opened(server.url, bucket=bucket) as one, opened(server.url, bucket=bucket) as two:
        await one.store.write([(PENDING, b"a")])
        assert await two.store.swap([Swap(PENDING, b"a", None)]) == [True]
        assert await one.store.swap([Swap(PENDING, b"a", b"b"), Swap(PENDING, None, b"c")]) == [False, True]
        assert await two.store.swap([Swap(PENDING, None, b"d"), Swap(PENDING, b"c", b"e")]) == [False, True]


@pytest.mark.parametrize("size", [1, 1_500_000])
async def test_of_many_that_replace_one_value_exactly_one_wins(server, bucket, size):
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


async def test_readers_of_a_large_value_that_changes_see_one_or_the_other(server, bucket):
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


async def test_markers_of_deleted_records_are_gone_in_the_end(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        keys = [Key("pending_returns", f"{number}") for number in range(50)]
        await roles.store.write([*((key, b"x") for key in keys), (VALUE, b"stays")])
        assert all(await roles.store.swap([Swap(key, b"x", None) for key in keys]))
        assert len(await messages(roles.link, f"KV_{bucket}")) == 51

        async def gone() -> bool:
            return len(await messages(roles.link, f"KV_{bucket}")) == 1

        await until(gone, "the markers are gone")
        # What is known of them is a marker's revision, which no server knows any more.
        assert all(await roles.store.swap([Swap(key, None, b"again") for key in keys]))


async def test_parts_go_with_their_value(server, bucket):
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
            return await messages(roles.link, f"KV_{bucket}") == {f"$KV.{bucket}.value.h": 1}

        await until(gone, "the parts are gone")


async def test_a_large_value_that_is_written_again_is_as_young_as_its_record(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(CALL, b"x" * 2_000_000)])
        before = (await roles.link.ask(f"STREAM.INFO.KV_{bucket}"))["state"]["last_seq"]
        await roles.store.write([(CALL, b"x" * 2_000_000)])

        assert (await roles.link.ask(f"STREAM.INFO.KV_{bucket}"))["state"]["first_seq"] > before


@pytest.mark.parametrize("sizes", [("64KB", "1MB"), ("1MB", "64KB")])
async def test_a_large_value_is_written_again_by_a_client_that_cuts_it_otherwise(own_server, bucket, sizes):
    value = bytes(range(256)) * 6000
    for size in sizes:
        own_server.reload(f"max_payload: {size}")
        async with opened(own_server.url, bucket=bucket) as roles:
            await roles.store.write([(VALUE, value)])
            assert await roles.store.read([VALUE]) == [value]
    async with opened(own_server.url, bucket=bucket) as roles:
        assert await roles.store.swap([Swap(VALUE, value, None)]) == [True]

        async def gone() -> bool:
            return await messages(roles.link, f"KV_{bucket}") == {}

        await until(gone, "every part is gone")


async def test_a_large_value_that_somebody_has_damaged_is_told(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x" * 1_500_000)])
        part = next(name for name in await messages(roles.link, f"KV_{bucket}") if name.endswith(".0"))
        await roles.link.request_many([Request(part, b"y" * 512 * 1024)])

        with pytest.raises(CorruptBackendError, match=r"value\.h"):
            await roles.store.read([VALUE])


async def test_parts_that_end_before_their_record_are_looked_for_until_it_ends(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"x" * 1_500_000)])
        part = next(name for name in await messages(roles.link, f"KV_{bucket}") if name.endswith(".0"))
        await roles.link.ask(f"STREAM.PURGE.KV_{bucket}", {"filter": part})
        reading = asyncio.create_task(roles.store.read([VALUE]))
        await asyncio.sleep(0.6)  # a server looks four times a second at most
        await roles.link.ask(f"STREAM.PURGE.KV_{bucket}", {"filter": f"$KV.{bucket}.value.h"})

        assert await reading == [None]


async def test_setup_removes_parts_that_a_small_write_has_left_and_no_others(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        large = b"1" * 2_000_000
        await roles.store.write([(VALUE, large), (CALL, large)])
        await roles.store.write([(VALUE, b"small")])

        assert await roles.store.prepare(change=True) == [f"removed 4 parts that no value of KV_{bucket} is made of"]

        assert await roles.store.read([VALUE, CALL]) == [b"small", large]

        async def gone() -> bool:
            return len(await messages(roles.link, f"KV_{bucket}")) == 6

        await until(gone, "the parts are gone")
        assert await roles.store.prepare(change=True) == []


# -- sizes ---------------------------------------------------------------------------------------------------------


async def test_values_around_the_size_of_a_message(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        sizes = [2**20 + by for by in (-4097, -4096, -4095, -1, 0, 1)] + [512 * 1024 * 3, 512 * 1024 * 3 + 1]
        keys = [Key("value", f"{size}") for size in sizes]
        values = [bytes([65 + at]) * size for at, size in enumerate(sizes)]

        assert all(await roles.store.swap([Swap(*each) for each in zip(keys, [None] * 8, values, strict=True)]))

        assert await roles.store.read(keys) == values


async def test_a_server_that_takes_only_small_messages(tmp_path, bucket):
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


async def test_the_largest_value_there_may_be(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        value = bytes(range(256)) * (64 * 1024 * 1024 // 256)

        await roles.store.write([(VALUE, value)])

        assert await roles.store.read([VALUE]) == [value]


async def test_many_large_values_are_read_without_falling_behind(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        keys = [Key("value", f"{number}") for number in range(120)]
        await roles.store.write([(key, b"x" * 1_000_000) for key in keys])
        await roles.store.read([Key("value", f"none {number}") for number in range(40)])  # now it asks for many at once

        assert await roles.store.read(keys) == [b"x" * 1_000_000] * 120


async def test_many_that_read_large_values_at_the_same_time_do_not_fall_behind(tmp_path, bucket):
    server = Server(tmp_path / "own", sync=False, config="max_pending: 48MB").start()
    try:
        async with opened(server.url, bucket=bucket) as roles:
            await forbid_direct(roles.link, bucket)  # a leader answers with a third more
        async with opened(server.url, bucket=bucket) as roles:
            keys = [Key("value", f"{number}") for number in range(80)]
            for key in keys:
                await roles.store.write([(key, b"x" * 1_000_000)])
            connection = roles.link.line.current

            async with asyncio.timeout(60):
                found = await asyncio.gather(*(roles.store.read([key]) for key in keys))

            assert found == [[b"x" * 1_000_000]] * 80
            assert roles.link.line.current is connection
    finally:
        server.kill()


async def test_more_large_values_at_a_time_than_a_stream_takes_batches(server, bucket):
    async with opened(server.url, bucket=bucket) as roles:
        # Batches that somebody has begun and does not go on with: the stream gives them up after 10 s.
        begun = [{"Nats-Batch-Id": f"{number}", "Nats-Batch-Sequence": "1"} for number in range(50)]
        await roles.link.request_many([Request(f"$KV.{bucket}.other", b"x", headers) for headers in begun])

        assert await roles.store.swap([Swap(VALUE, None, b"x" * 1_300_000)]) == [True]

        assert await roles.store.read([VALUE]) == [b"x" * 1_300_000]


def test_what_is_known_is_bounded_by_bytes():
    known = Revisions(100_000)
    for number in range(1000):
        known.note(f"s{number}", Stored(b"x" * 700, number))
    known.note("large", Stored(b"x" * 50_000, 1))

    assert 90 < len(known) < 100
    assert known.take("s999") == Stored(b"x" * 700, 999)
    assert known.take("s999") is known.take("s1") is known.take("large") is None


def test_what_is_known_never_gets_older():
    known = Revisions(100_000)
    known.note("s", Stored(b"new", 2))
    known.note("s", Stored(b"old", 1))

    assert known.take("s") == Stored(b"new", 2)
