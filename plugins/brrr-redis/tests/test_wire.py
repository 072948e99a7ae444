"""The protocol: brrr and programs in other languages receive each other's messages by plain commands."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.backend import Delivery, Key
from brrr_redis.queue import Receipt
from brrr_testkit.servers.redis import until

TOPIC = "jobs"
BODY = b"l1i2e4:rootee \x00\xff"


async def test_messages_of_a_plain_producer_are_received(backend, valkey):
    valkey.do("RPUSH", TOPIC, BODY, b"second")

    found = await backend.queue.receive(TOPIC, limit=10, wait=1)

    assert [(each.body, each.attempt) for each in found] == [(BODY, 1), (b"second", 1)]


async def test_put_messages_are_on_the_list_named_by_the_topic(backend, valkey):
    await backend.queue.put(TOPIC, [b"first", BODY])

    assert list(valkey.do("BLPOP", TOPIC, 1)) == [TOPIC.encode(), b"first"]
    assert valkey.do("LRANGE", TOPIC, 0, -1) == [BODY]


async def test_released_and_redriven_messages_are_on_the_list(backend, valkey):
    queue = backend.queue
    await queue.put(TOPIC, [b"released", b"buried"])
    released, buried = await queue.receive(TOPIC, limit=2, wait=1)
    await queue.release([released])
    await queue.bury(buried, "for the test")
    await queue.redrive(TOPIC, limit=1)

    assert valkey.do("LRANGE", TOPIC, 0, -1) == [b"released", b"buried"]


async def test_due_messages_are_on_the_list_after_any_operation(url, valkey):
    async with brrr.open_backend(url, lease=0.05) as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"leased"])
        await queue.receive(TOPIC, limit=1, wait=1)
        await queue.put(TOPIC, [b"due"], delay=0.05)
        async with asyncio.timeout(5):
            while valkey.do("LLEN", TOPIC) < 2:
                await queue.extend([Delivery(TOPIC, b"", Receipt(b"no such"), 1)])  # any operation of a consumer

        assert sorted(valkey.do("LRANGE", TOPIC, 0, -1)) == [b"due", b"leased"]


@pytest.mark.parametrize("body", [b"short", b"long" * 100])
async def test_attempts_of_messages_that_other_programs_took_are_deleted(backend, valkey, body):
    queue = backend.queue
    await queue.put(TOPIC, [body])
    await queue.release(await queue.receive(TOPIC, limit=1, wait=1))
    assert valkey.do("LPOP", TOPIC) == body
    assert await queue.receive(TOPIC, limit=1, wait=0) == []
    await queue.put(TOPIC, [b"other"])
    await queue.receive(TOPIC, limit=1, wait=1)

    await queue.put(TOPIC, [body])

    assert (await queue.receive(TOPIC, limit=1, wait=1))[0].attempt == 1


async def test_counters_have_the_keys_of_the_protocol_and_expire(backend, valkey):
    assert valkey.do("INCR", "brrr_count/root") == 1
    assert await backend.cache.increment({"brrr_count/root": 2}) == {"brrr_count/root": 3}

    assert valkey.do("GET", "brrr_count/root") == b"3"
    assert 0 < valkey.do("TTL", "brrr_count/root") <= 7 * 24 * 3600


async def test_every_key_begins_with_the_prefix(url, valkey):
    async with brrr.open_backend(url, prefix="app:") as backend:
        queue = backend.queue
        await queue.put(TOPIC, [b"a", b"b", b"c"])
        one, two, _ = await queue.receive(TOPIC, limit=3, wait=1)
        await queue.release([one])
        await queue.bury(two, "x")
        await queue.put(TOPIC, [b"later"], delay=60)
        await backend.store.write([(Key("value", "h"), b"v")])
        await backend.cache.increment({"brrr_count/root": 1})

    keys = until(lambda: valkey.do("KEYS", "*"), "keys")
    assert len(keys) == 7
    assert all(key.startswith(b"brrr:prefix:4:app::") for key in keys)
