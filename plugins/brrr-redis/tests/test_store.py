"""The store and the cache beyond the contract kit: layout, expiry, and lost replies."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.waiting import until

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")


async def test_records_are_plain_strings_for_other_programs(backend, valkey):
    await backend.store.write([(CALL, b"a\0b")])
    valkey.do("SET", "brrr:value:h", b"theirs")

    assert valkey.do("GET", "brrr:call:h") == b"a\0b"
    assert await backend.store.read([VALUE]) == [b"theirs"]
    assert await backend.store.swap([Swap(VALUE, b"theirs", None)]) == [True]
    assert valkey.do("EXISTS", "brrr:value:h") == 0


async def test_records_without_a_ttl_do_not_expire(backend, valkey):
    await backend.store.write([(CALL, b"x")])
    await backend.store.swap([Swap(VALUE, None, b"x")])

    assert valkey.do("PTTL", "brrr:call:h") == valkey.do("PTTL", "brrr:value:h") == -1


async def test_ttl_begins_when_a_call_has_its_value(url, valkey):
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(PENDING, None, b"x")])
        await backend.store.swap([Swap(PENDING, b"x", b"y")])
        for key in ("brrr:call:h", "brrr:pending_returns:h"):
            assert valkey.do("PTTL", key) == -1

        await backend.store.swap([Swap(VALUE, None, b"x")])

        for key in ("brrr:call:h", "brrr:value:h"):
            assert 3_590_000 < valkey.do("PTTL", key) <= 3_600_000
            valkey.do("PEXPIRE", key, 1000)

        await backend.store.swap([Swap(VALUE, b"x", b"x")])

        for key in ("brrr:call:h", "brrr:value:h"):
            assert valkey.do("PTTL", key) > 3_590_000


async def test_call_scheduled_again_does_not_expire(url, valkey):
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"x")])
        valkey.do("DEL", "brrr:value:h")  # it expired

        await backend.store.write([(CALL, b"x")])

        assert valkey.do("PTTL", "brrr:call:h") == -1


async def test_written_value_expires_and_other_records_of_the_batch_stay(url, valkey):
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x"), (VALUE, b"y"), (PENDING, b"z")])

        assert await backend.store.read([CALL, VALUE, PENDING]) == [b"x", b"y", b"z"]
        assert [valkey.do("PTTL", f"brrr:{kind}:h") > 0 for kind in ("call", "value", "pending_returns")] == [
            False,
            True,
            False,
        ]


async def test_parent_that_waits_longer_than_the_ttl_is_woken(url, valkey):
    """Every record that expires has expired when the child completes. The parent is woken anyway."""
    running, gate = asyncio.Event(), asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        running.set()
        await gate.wait()
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> int:
        return 1 + await app.call(child)()

    async with brrr.serve(f"{url}?ttl=1h") as connection:
        app = brrr.AppWorker(handlers={"parent": parent, "child": child}, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop("jobs", app.handle))
        await app.schedule(parent, topic="jobs")()
        await running.wait()

        async def waits() -> bool:
            return (await connection.queue.stats("jobs"))[:2] == (0, 1)

        await until(waits)
        for key in valkey.do("KEYS", "brrr:call:*") + valkey.do("KEYS", "brrr:pending_returns:*"):
            if valkey.do("PTTL", key) > 0:
                valkey.do("DEL", key)
        gate.set()
        assert await app.result(parent, timeout=10)() == 2
        connection.stop()
        await loop


@pytest.mark.parametrize("ttl", ["", "?ttl=1h"])
async def test_write_of_calls_is_repeated_if_its_reply_is_lost(valkey, ttl):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url + ttl) as backend:
        await backend.store.write([(CALL, b"x")])
        proxy.lose_answer_to(lambda words: words[0] == b"MSET")
        proxy.clear()

        await backend.store.write([(CALL, b"y")])

        assert [words[0] for words in proxy.commands].count(b"MSET") == 2


async def test_write_of_other_records_raises_if_its_reply_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        proxy.lose_answer_to(lambda words: words[0] == b"MSET")

        with pytest.raises(BackendUnavailableError, match="lost before the reply came"):
            await backend.store.write([(CALL, b"x"), (PENDING, b"y")])

        assert await backend.store.read([PENDING]) == [b"y"]


async def test_swap_raises_and_is_not_repeated_if_its_reply_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
        await backend.store.swap([Swap(CALL, None, b"x")])
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")
        proxy.clear()

        with pytest.raises(BackendUnavailableError, match="lost before the reply came") as caught:
            await backend.store.swap([Swap(VALUE, None, b"x")])

        assert caught.value.__cause__ is not None
        assert len(proxy.commands) == 1
        assert await backend.store.read([VALUE]) == [b"x"]


async def test_increment_is_repeated_if_its_reply_is_lost(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url) as backend:
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


async def test_key_with_a_value_of_another_type_raises(backend, valkey):
    valkey.do("HSET", "jobs", "a", "b")

    with pytest.raises(BackendError, match="a value of another type") as caught:
        await backend.queue.put("jobs", [b"x"])
    assert "prefix" in caught.value.remedy
    with pytest.raises(BackendError, match="a value of another type"):
        await backend.queue.receive("jobs", limit=1, wait=0)
