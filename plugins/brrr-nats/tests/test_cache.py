"""Counters, beyond the contract kit."""

import asyncio

import pytest
from nats_roles import messages, opened

from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.servers.nats import Server
from brrr_testkit.waiting import until


async def test_increment_sends_one_request_per_counter_in_one_batch(server):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket="counted") as roles:
        proxy.subjects.clear()

        counts = await roles.cache.increment({f"c{number}": number for number in range(2000)})

        assert counts == {f"c{number}": number for number in range(2000)}
        assert len(proxy.subjects) == 2000


async def test_increment_without_counters_sends_nothing(server):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket="none") as roles:
        proxy.subjects.clear()

        assert await roles.cache.increment({}) == {}

        assert proxy.subjects == []


async def test_counters_may_be_of_any_size_and_sign(server):
    async with opened(server.url, bucket="sizes") as roles:
        seen = [(await roles.cache.increment({"a": by}))["a"] for by in (0, *[2**62] * 5, -(2**62), 0, 1)]

        assert seen == [0, *(2**62 * times for times in (1, 2, 3, 4, 5, 4, 4)), 2**64 + 1]


async def test_increment_whose_reply_was_lost_raises_and_is_not_sent_again(server):
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket="lost") as roles:
        await roles.cache.increment({"a": 1, "b": 2**60})
        proxy.subjects.clear()
        proxy.lose_answer_to(lambda subject: subject == b"lost-counters.b")

        with pytest.raises(BackendUnavailableError, match="lost") as caught:
            await roles.cache.increment({"a": 1, "b": 1})

        assert "may have taken effect" in caught.value.remedy
        assert proxy.subjects == ["lost-counters.a", "lost-counters.b"]
        assert await roles.cache.increment({"a": 0, "b": 0}) == {"a": 2, "b": 2**60 + 1}


async def test_stream_keeps_one_message_per_counter(server):
    async with opened(server.url, bucket="kept") as roles:
        for _ in range(20):
            await roles.cache.increment({"a": 1, "b": 1})

        assert await messages(roles.client, "kept-counters") == {"kept-counters.a": 1, "kept-counters.b": 1}


async def test_counter_expires_after_its_ttl(server):
    async with opened(server.url, bucket="short", counter_ttl=1.0) as roles:
        await roles.cache.increment({"a": 5})

        async def gone() -> bool:
            return not await messages(roles.client, "short-counters")

        await until(gone, "the counter is gone")
        assert await roles.cache.increment({"a": 1}) == {"a": 1}


async def test_counters_survive_a_server_restart(tmp_path):
    server = Server(tmp_path / "own").start()
    try:
        async with opened(server.url) as roles:
            await roles.cache.increment({"a": 5})
            await asyncio.to_thread(server.kill)  # the client notices meanwhile, and connects again
            await asyncio.to_thread(server.start)
            assert await roles.cache.increment({"a": 1}) == {"a": 6}
    finally:
        server.kill()


async def test_stream_without_counters_is_refused(server):
    async with opened(server.url, bucket="first") as roles:
        await roles.client.call_api(
            "STREAM.CREATE.plain-counters", {"name": "plain-counters", "subjects": ["plain-counters.*"]}
        )

    with pytest.raises(BackendError, match="allow_msg_counter"):
        async with opened(server.url, bucket="plain"):
            pass


async def test_concurrent_increments_are_all_counted(server):
    async with opened(server.url, bucket="race") as one, opened(server.url, bucket="race") as two:
        counts = await asyncio.gather(*((one, two)[n % 2].cache.increment({"a": 1}) for n in range(200)))

        assert sorted(each["a"] for each in counts) == list(range(1, 201))
