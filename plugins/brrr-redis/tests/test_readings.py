"""Records that are read with messages, by receives and for leased messages."""

import asyncio
from collections.abc import Sequence

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Message, Reading, Received, Step, Steps, keys_of
from brrr_core.errors import ArgumentError
from brrr_redis.layout import Layout
from brrr_testkit.faults.relay import RedisProxy
from brrr_testkit.servers.redis import Server
from brrr_testkit.waiting import until

TOPIC, OTHER = "jobs", "other jobs"
KEYS = Layout("").topic(TOPIC)
BODY = b"li2e4:root4:hashe"
VALUE, CALL = Key("value", "hash"), Key("call", "hash")
READINGS = (Reading("call"), Reading("value"), Reading("value", "brrr.root/", "root_id"))


def steps_of(backend: Backend) -> Steps:
    assert backend.steps is not None
    return backend.steps


async def test_receive_reads_the_records_of_each_message_in_one_command(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend:
        steps = steps_of(backend)
        assert await steps.receive(TOPIC, limit=1, wait=0, readings=READINGS) == []
        await backend.store.write([(CALL, b"c"), (Key("value", "brrr.root/root"), b"r")])
        await backend.queue.put(TOPIC, [BODY, b"no message of brrr", b"li2e4:root4:abcde"])
        proxy.clear()

        found = await steps.receive(TOPIC, limit=9, wait=0, readings=READINGS)

        assert [words[0] for words in proxy.commands] == [b"EVALSHA"]
        assert [records for _, records in found] == [[b"c", None, b"r"], None, [None, None, b"r"]]
        assert [delivery.attempt for delivery, _ in found] == [1, 1, 1]
        await backend.queue.ack([delivery for delivery, _ in found])
        assert await backend.queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_receive_without_readings_returns_no_records(backend: Backend, steps: Steps) -> None:
    await backend.queue.put(TOPIC, [BODY, b"x"])
    assert [each.records for each in await steps.receive(TOPIC, limit=2, wait=0, readings=())] == [[], None]


BODIES = [
    BODY,
    *(BODY[:length] for length in range(len(BODY))),
    BODY + b"e",
    b"li2e0:0:e",
    b"li2e04:root4:hashe",
    b"li2e00000000000000000004:root4:hashe",
    b"li2e0000000000000000004:root4:hashe",
    b"li2e000000000000000004:root4:hashe",
    b"li2e9999999999999999999:root4:hashe",
    b"li2e-4:root4:hashe",
    b"li2e+4:root4:hashe",
    b"li2e 4:root4:hashe",
    b"li2e:4:hashe",
    b"li2e4:ro\xc3\xa44:hashe",
    b"li2e4:r\0ot4:has\x7fe",
    b"li2e4:r:ot4:h%s:e",
    b"li3e4:root4:hashe",
]


async def test_server_splits_bodies_as_the_contract_does(backend: Backend, steps: Steps) -> None:
    readings = (Reading("value"), Reading("call", "x", "root_id"))
    keys = {key for body in BODIES for key in keys_of(body, readings) or ()}
    allowed = [key for key in keys if key.call_hash and key.call_hash.isascii() and key.call_hash.isprintable()]
    records_of = {key: f"{key}".encode() for key in allowed}  # a store refuses other hashes
    await backend.store.write(list(records_of.items()))
    await backend.queue.put(TOPIC, BODIES)

    found = await steps.receive(TOPIC, limit=99, wait=0, readings=readings)

    assert [delivery.body for delivery, _ in found] == BODIES
    for delivery, records in found:
        expected = keys_of(delivery.body, readings)
        assert records == (None if expected is None else [*map(records_of.get, expected)]), delivery.body


async def test_ready_message_wakes_a_receiver(backend: Backend, steps: Steps, valkey: Server) -> None:
    async with asyncio.timeout(10):
        receiving = asyncio.create_task(steps.receive(TOPIC, limit=1, wait=60, readings=READINGS))
        await until(lambda: valkey.do("INFO", "clients")["blocked_clients"] == 1)

        await steps.commit([Step((), writes=[(VALUE, b"v")], messages=[Message(TOPIC, BODY)])])

        assert [each.records for each in await receiving] == [[None, b"v", None]]


@pytest.mark.parametrize("call", [{"topic": ""}, {"limit": 0}, {"wait": -1}], ids=str)
async def test_receive_checks_its_arguments(steps: Steps, call: dict[str, object]) -> None:
    arguments = {"topic": TOPIC, "limit": 1, "wait": 0, "readings": (), **call}
    with pytest.raises(ArgumentError):
        await steps.receive(**arguments)  # type: ignore[arg-type]


async def test_repeated_receive_reads_the_records_of_what_the_lost_one_leased(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend, asyncio.timeout(20):
        await backend.store.write([(CALL, b"c")])
        await backend.queue.put(TOPIC, [BODY, b"x", b"left"])
        await steps_of(backend).receive(OTHER, limit=1, wait=0, readings=READINGS)
        proxy.lose_answer_to(lambda words: words[0] == b"EVALSHA")

        found = await steps_of(backend).receive(TOPIC, limit=2, wait=0, readings=READINGS)

        assert [(each.delivery.body, each.records) for each in found] == [(BODY, [b"c", None, None]), (b"x", None)]
        assert await backend.queue.stats(TOPIC) == (1, 2, 0, 0)


async def test_receive_that_is_cancelled_releases_its_messages_and_counts_no_attempt(
    backend: Backend, steps: Steps, valkey: Server
) -> None:
    await backend.queue.put(TOPIC, [BODY] * 12)
    for turns in range(12):
        receiving = asyncio.create_task(steps.receive(TOPIC, limit=12, wait=0, readings=READINGS))
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait({receiving})
        if not receiving.cancelled():
            break
        async with asyncio.timeout(10):
            while (await backend.queue.stats(TOPIC)).ready < 12:  # noqa: ASYNC110 - the release has no event
                await asyncio.sleep(0.002)
        assert valkey.do("EXISTS", KEYS.attempts) == 0


async def test_receive_leaves_messages_whose_records_are_too_large_together(backend: Backend, steps: Steps) -> None:
    bodies = [b"li2e4:root4:%04de" % number for number in range(12)]
    await backend.store.write([(Key("value", f"{number:04d}"), bytes(1_500_000)) for number in range(12)])
    await backend.queue.put(TOPIC, bodies)
    seen: list[bytes] = []
    for left in (9, 6, 3, 0):
        found = await steps.receive(TOPIC, limit=12, wait=0, readings=[Reading("value")])
        assert all(each.records == [bytes(1_500_000)] for each in found)
        seen += [each.delivery.body for each in found]
        assert (await backend.queue.stats(TOPIC))[:2] == (left, 12 - left)
    assert seen == bodies


async def test_receive_of_1000_messages_with_records_is_one_script(proxy: RedisProxy) -> None:
    async with brrr.open_backend(proxy.url) as backend:
        await backend.queue.put(TOPIC, [b"li2e4:root4:%04de" % number for number in range(1500)])
        await backend.store.write([(Key("call", f"{number:04d}"), b"%d" % number) for number in range(1500)])
        await steps_of(backend).receive(OTHER, limit=1, wait=0, readings=READINGS)
        proxy.clear()

        found = await steps_of(backend).receive(TOPIC, limit=1500, wait=0, readings=READINGS)

        assert len(proxy.commands) == 1
        assert [each.records for each in found] == [[b"%d" % number, None, None] for number in range(1000)]


@pytest.mark.parametrize(("left", "refreshed"), [(2_760_000, False), (2_640_000, True)])
@pytest.mark.parametrize("how", ["receive", "commit"])
async def test_reading_refreshes_a_value_and_its_call_once_a_quarter_of_the_ttl_is_over(
    url: str, valkey: Server, left: int, refreshed: bool, how: str
) -> None:
    root = "brrr:value:brrr.root/root"
    async with brrr.open_backend(url, ttl="1h") as backend:
        steps = steps_of(backend)
        await backend.store.write([(CALL, b"c"), (VALUE, b"v"), (Key("value", "brrr.root/root"), b"r")])
        for key in ("brrr:call:hash", "brrr:value:hash", root):
            valkey.do("PEXPIRE", key, left)

        found: Sequence[Received] | None
        if how == "receive":
            await backend.queue.put(TOPIC, [BODY])
            found = await steps.receive(TOPIC, limit=1, wait=0, readings=READINGS[1:])
        else:
            (found,) = await steps.commit(
                [Step((), messages=[Message(TOPIC, BODY, leased=True)])], readings=READINGS[1:]
            )

        assert [each.records for each in found or ()] == [[b"v", b"r"]]
        for key in ("brrr:call:hash", "brrr:value:hash", root):
            assert (valkey.do("PTTL", key) > 3_590_000) == refreshed, key
