"""The store and the cache beyond the contract kit: layout, expiry, and answers that are lost."""

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError
from tests.support.proxy import proxied

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")


async def test_records_are_plain_strings_that_others_can_read_and_write(backend, valkey):
    await backend.store.write([(CALL, b"a\0b")])
    valkey.do("SET", "brrr:value:h", b"theirs")

    assert valkey.do("GET", "brrr:call:h") == b"a\0b"
    assert await backend.store.read([VALUE]) == [b"theirs"]
    assert await backend.store.swap([Swap(VALUE, b"theirs", None)]) == [True]
    assert valkey.do("EXISTS", "brrr:value:h") == 0


async def test_records_stay_unless_a_ttl_is_given(backend, valkey):
    await backend.store.write([(CALL, b"x")])
    await backend.store.swap([Swap(VALUE, None, b"x")])

    assert valkey.do("PTTL", "brrr:call:h") == valkey.do("PTTL", "brrr:value:h") == -1


async def test_a_ttl_starts_anew_with_every_write(url, valkey):
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"x"), Swap(PENDING, None, b"x")])
        for key in ("brrr:call:h", "brrr:value:h", "brrr:pending_returns:h"):
            assert 3_590_000 < valkey.do("PTTL", key) <= 3_600_000
            valkey.do("PEXPIRE", key, 1000)

        await backend.store.write([(CALL, b"y")])
        await backend.store.swap([Swap(VALUE, b"x", b"x"), Swap(PENDING, b"x", b"y")])

        for key in ("brrr:call:h", "brrr:value:h", "brrr:pending_returns:h"):
            assert valkey.do("PTTL", key) > 3_590_000


@pytest.mark.parametrize("ttl", ["", "?ttl=1h"])
async def test_calls_whose_write_was_lost_are_written_again(valkey, ttl):
    async with proxied(valkey.port) as proxy, brrr.open_backend(proxy.url + ttl) as backend:
        await backend.store.write([(CALL, b"x")])
        proxy.lose_answer_to(lambda words: words[0] in (b"MSET", b"EVALSHA"))
        proxy.clear()

        await backend.store.write([(CALL, b"y")])

        assert [words[0] for words in proxy.commands].count(b"EVALSHA" if ttl else b"MSET") == 2


async def test_another_write_that_was_lost_is_told(valkey):
    async with proxied(valkey.port) as proxy, brrr.open_backend(proxy.url) as backend:
        proxy.lose_answer_to(lambda words: words[0] == b"MSET")

        with pytest.raises(BackendUnavailableError, match="lost before the answer came"):
            await backend.store.write([(CALL, b"x"), (PENDING, b"y")])

        assert await backend.store.read([PENDING]) == [b"y"]


async def test_a_swap_that_was_lost_is_told_and_never_repeated(valkey):
    async with proxied(valkey.port) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.store.swap([Swap(CALL, None, b"x")])
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")
        proxy.clear()

        with pytest.raises(BackendUnavailableError, match="lost before the answer came") as caught:
            await backend.store.swap([Swap(VALUE, None, b"x")])

        assert caught.value.__cause__ is not None
        assert len(proxy.commands) == 1
        assert await backend.store.read([VALUE]) == [b"x"]


async def test_a_count_that_was_lost_counts_again(valkey):
    async with proxied(valkey.port) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.cache.increment({"brrr_count/r": 1})
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")

        assert await backend.cache.increment({"brrr_count/r": 1}) == {"brrr_count/r": 3}


async def test_counters_have_64_bits(backend):
    cache = backend.cache
    assert await cache.increment({"brrr_count/r": 2**63 - 2}) == {"brrr_count/r": 2**63 - 2}
    assert await cache.increment({"brrr_count/r": 1}) == {"brrr_count/r": 2**63 - 1}
    with pytest.raises(BackendError, match="overflow"):
        await cache.increment({"brrr_count/r": 1})
    with pytest.raises(ArgumentError, match="64 bits"):
        await cache.increment({"brrr_count/r": 2**63})


async def test_a_key_of_another_programme_is_told(backend, valkey):
    valkey.do("HSET", "jobs", "a", "b")

    with pytest.raises(BackendError, match="something else") as caught:
        await backend.queue.put("jobs", [b"x"])
    assert "prefix" in caught.value.remedy
    with pytest.raises(BackendError, match="something else"):
        await backend.queue.receive("jobs", limit=1, wait=0)
