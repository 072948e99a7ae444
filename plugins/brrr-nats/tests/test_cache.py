"""The counters beyond the contract kit."""

import asyncio

import pytest

from brrr_core.errors import ArgumentError, BackendError, BackendUnavailableError
from tests.support.nats_roles import messages, opened, proxied, until
from tests.support.nats_servers import Server


async def test_an_increment_is_one_request_a_counter_and_all_travel_together(server):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket="counted") as roles:
        proxy.subjects.clear()

        counts = await roles.cache.increment({f"c{number}": number for number in range(2000)})

        assert counts == {f"c{number}": number for number in range(2000)}
        assert len(proxy.subjects) == 2000


async def test_nothing_is_asked_for_no_counters(server):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket="none") as roles:
        proxy.subjects.clear()

        assert await roles.cache.increment({}) == {}

        assert proxy.subjects == []


async def test_counters_have_any_size_and_sign(server):
    async with opened(server.url, bucket="sizes") as roles:
        seen = [(await roles.cache.increment({"a": by}))["a"] for by in (0, 2**64, 2**200, -(2**201), 0, 1)]

        assert seen == [0, 2**64, 2**64 + 2**200, 2**64 - 2**200, 2**64 - 2**200, 2**64 - 2**200 + 1]
        with pytest.raises(ArgumentError, match="bits"):
            await roles.cache.increment({"b": 1, "a": 2**9000})
        assert await roles.cache.increment({"b": 0}) == {"b": 0}


async def test_a_count_whose_answer_was_lost_is_found_and_was_sent_once(server):
    async with proxied(server.port) as proxy, opened(proxy.url, bucket="lost") as roles:
        await roles.cache.increment({"a": 1, "b": 2**70})
        proxy.subjects.clear()
        proxy.lose_answer_to(lambda subject: subject == b"lost-counters.b")

        assert await roles.cache.increment({"a": 1, "b": 1}) == {"a": 2, "b": 2**70 + 1}

        get = "$JS.API.STREAM.MSG.GET.lost-counters"
        assert proxy.subjects == ["lost-counters.a", "lost-counters.b", get, get]


async def test_a_count_whose_answer_was_lost_and_that_others_counted_after_is_unknown(server):
    async with (
        proxied(server.port) as proxy,
        opened(proxy.url, bucket="after") as roles,
        opened(server.url, bucket="after") as other,
    ):

        def refuse(subject):
            proxy.refusing = subject == b"after-counters.a"
            return proxy.refusing

        proxy.lose_answer_to(refuse)
        counting = asyncio.create_task(roles.cache.increment({"a": 1}))

        async def counted() -> bool:
            return bool(await messages(other.link, "after-counters"))

        await until(counted, "it has counted")
        assert await other.cache.increment({"a": 1}) == {"a": 2}
        proxy.refusing = False

        with pytest.raises(BackendUnavailableError, match="may have been done"):
            await counting
        assert await other.cache.increment({"a": 0}) == {"a": 2}


async def test_one_message_a_counter_is_kept(server):
    async with opened(server.url, bucket="kept") as roles:
        for _ in range(20):
            await roles.cache.increment({"a": 1, "b": 1})

        assert await messages(roles.link, "kept-counters") == {"kept-counters.a": 1, "kept-counters.b": 1}


async def test_counters_are_forgotten_when_nobody_counts_for_long(server):
    async with opened(server.url, bucket="short", counter_ttl=1.0) as roles:
        await roles.cache.increment({"a": 5})

        async def gone() -> bool:
            return not await messages(roles.link, "short-counters")

        await until(gone, "the counter is gone")
        assert await roles.cache.increment({"a": 1}) == {"a": 1}


async def test_counts_outlive_the_server(tmp_path):
    server = Server(tmp_path / "own").start()
    try:
        async with opened(server.url) as roles:
            await roles.cache.increment({"a": 5})
            await asyncio.to_thread(server.kill)  # the client notices meanwhile, and connects again
            await asyncio.to_thread(server.start)
            assert await roles.cache.increment({"a": 1}) == {"a": 6}
    finally:
        server.kill()


async def test_a_stream_without_counters_is_refused(server):
    async with opened(server.url, bucket="first") as roles:
        await roles.link.ask(
            "STREAM.CREATE.plain-counters", {"name": "plain-counters", "subjects": ["plain-counters.*"]}
        )

    with pytest.raises(BackendError, match="allow_msg_counter"):
        async with opened(server.url, bucket="plain"):
            pass


async def test_concurrent_increments_are_all_counted(server):
    async with opened(server.url, bucket="race") as one, opened(server.url, bucket="race") as two:
        counts = await asyncio.gather(*((one, two)[n % 2].cache.increment({"a": 1}) for n in range(200)))

        assert sorted(each["a"] for each in counts) == list(range(1, 201))
