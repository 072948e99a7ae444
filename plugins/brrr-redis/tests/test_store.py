"""The store and the cache beyond the contract kit: layout, and lost replies."""

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import Server

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")


async def test_records_are_plain_strings_for_other_programs(backend: Backend, valkey: Server) -> None:
    await backend.store.write([(CALL, b"a\0b")])
    valkey.do("SET", "brrr:value:h", b"theirs")

    assert valkey.do("GET", "brrr:call:h") == b"a\0b"
    assert await backend.store.read([VALUE]) == [b"theirs"]
    assert await backend.store.swap([Swap(VALUE, b"theirs", None)]) == [True]
    assert valkey.do("EXISTS", "brrr:value:h") == 0


@pytest.mark.parametrize("ttl", ["", "?ttl=1h"])
async def test_write_of_calls_is_repeated_if_its_reply_is_lost(valkey: Server, ttl: str) -> None:
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url + ttl) as backend:
        await backend.store.write([(CALL, b"x")])
        proxy.lose_answer_to(lambda words: words[0] == b"MSET")
        proxy.clear()

        await backend.store.write([(CALL, b"y")])

        assert [words[0] for words in proxy.commands].count(b"MSET") == 2


async def test_write_of_other_records_raises_if_its_reply_is_lost(valkey: Server) -> None:
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        proxy.lose_answer_to(lambda words: words[0] == b"MSET")

        with pytest.raises(BackendUnavailableError, match="lost before the reply came"):
            await backend.store.write([(CALL, b"x"), (PENDING, b"y")])

        assert await backend.store.read([PENDING]) == [b"y"]


async def test_swap_raises_and_is_not_repeated_if_its_reply_is_lost(valkey: Server) -> None:
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.store.swap([Swap(CALL, None, b"x")])
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")
        proxy.clear()

        with pytest.raises(BackendUnavailableError, match="lost before the reply came") as caught:
            await backend.store.swap([Swap(VALUE, None, b"x")])

        assert caught.value.__cause__ is not None
        assert len(proxy.commands) == 1
        assert await backend.store.read([VALUE]) == [b"x"]


async def test_increment_raises_if_its_reply_is_lost(valkey: Server) -> None:
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.cache.increment({"brrr_count/r": 1})
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")

        with pytest.raises(BackendUnavailableError, match="lost before the reply came"):
            await backend.cache.increment({"brrr_count/r": 1, "brrr_count/s": 0})

        assert await backend.cache.increment({"brrr_count/r": 0}) == {"brrr_count/r": 2}


async def test_counters_have_64_bits(backend: Backend) -> None:
    cache = backend.cache
    assert await cache.increment({"brrr_count/r": 2**62}) == {"brrr_count/r": 2**62}
    assert await cache.increment({"brrr_count/r": 2**62 - 1}) == {"brrr_count/r": 2**63 - 1}
    with pytest.raises(BackendError, match="overflow"):
        await cache.increment({"brrr_count/r": 1})


async def test_key_with_a_value_of_another_type_raises(backend: Backend, valkey: Server) -> None:
    valkey.do("HSET", "jobs", "a", "b")

    with pytest.raises(BackendError, match="a value of another type") as caught:
        await backend.queue.put("jobs", [b"x"])
    assert "prefix" in caught.value.remedy
    with pytest.raises(BackendError, match="a value of another type"):
        await backend.queue.receive("jobs", limit=1, wait=0)
