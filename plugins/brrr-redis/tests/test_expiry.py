"""`ttl`: values and their calls expire after the last read, and unfinished calls stay."""

import asyncio

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_testkit.servers.redis import Cluster, Server
from brrr_testkit.waiting import until

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")


async def finished(backend: Backend) -> None:
    """Wait until the work in the background is over."""
    await backend.store.close()  # type: ignore[attr-defined]


async def test_records_without_a_ttl_do_not_expire(backend: Backend, valkey: Server) -> None:
    await backend.store.write([(CALL, b"x")])
    await backend.store.swap([Swap(VALUE, None, b"x")])

    assert valkey.do("PTTL", "brrr:call:h") == valkey.do("PTTL", "brrr:value:h") == -1


async def test_ttl_begins_when_a_call_has_its_value(url: str, valkey: Server) -> None:
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


async def test_read_refreshes_a_value_and_its_call_once_a_quarter_of_the_ttl_is_over(url: str, valkey: Server) -> None:
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"y")])
        for milliseconds, refreshed in ((2_760_000, False), (2_640_000, True)):
            for key in ("brrr:call:h", "brrr:value:h"):
                valkey.do("PEXPIRE", key, milliseconds)

            assert await backend.store.read([PENDING, VALUE, PENDING]) == [None, b"y", None]
            await finished(backend)

            for key in ("brrr:call:h", "brrr:value:h"):
                assert (valkey.do("PTTL", key) > 3_590_000) == refreshed


async def test_value_that_is_read_outlives_its_ttl_and_another_expires(url: str, valkey: Server) -> None:
    """The ttl is shorter than an option may be, so that the test is short."""
    other = Key("value", "other")
    async with brrr.open_backend(url, ttl="1h") as backend:
        backend.store._ttl = 300  # type: ignore[attr-defined]
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"y"), Swap(other, None, b"z")])

        async def expired() -> bool:
            assert await backend.store.read([VALUE]) == [b"y"]
            return not valkey.do("EXISTS", "brrr:value:other")

        await until(expired, "the value that is not read expires")
        assert await backend.store.read([CALL, VALUE, other]) == [b"x", b"y", None]


async def test_call_expires_with_its_value_on_another_server_of_a_cluster(whole_cluster: Cluster) -> None:
    whole_cluster.flush()
    server_of: dict[bytes, Server] = {}
    async with brrr.open_backend(whole_cluster.url, ttl="1h") as backend:
        names = [f"h{number}" for number in range(20)]
        await backend.store.write([(Key("call", name), b"x") for name in names])
        await backend.store.swap([Swap(Key("value", name), None, b"y") for name in names])
        await backend.store.swap([Swap(Key("value", name), b"y", None) for name in names[:10]])
        await finished(backend)
        for server in whole_cluster.servers:
            server_of.update(dict.fromkeys(server.do("KEYS", "brrr:*"), server))

    left = {key.decode(): server.do("PTTL", key) > 0 for key, server in server_of.items()}
    assert left == {
        **{f"brrr:call:{name}": index >= 10 for index, name in enumerate(names)},
        **{f"brrr:value:{name}": True for name in names[10:]},
    }


async def test_call_whose_failure_is_deleted_does_not_expire(url: str, valkey: Server) -> None:
    """A retry deletes the failure, and the call must run again."""
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"y")])

        assert await backend.store.swap([Swap(VALUE, b"other", None)]) == [False]
        assert valkey.do("PTTL", "brrr:call:h") > 0
        assert await backend.store.swap([Swap(VALUE, b"y", None)]) == [True]

        assert valkey.do("PTTL", "brrr:call:h") == -1


async def test_call_scheduled_again_does_not_expire(url: str, valkey: Server) -> None:
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x")])
        await backend.store.swap([Swap(VALUE, None, b"x")])
        valkey.do("DEL", "brrr:value:h")  # it expired

        await backend.store.write([(CALL, b"x")])

        assert valkey.do("PTTL", "brrr:call:h") == -1


async def test_written_value_expires_and_other_records_of_the_batch_stay(url: str, valkey: Server) -> None:
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.write([(CALL, b"x"), (VALUE, b"y"), (PENDING, b"z")])

        assert await backend.store.read([CALL, VALUE, PENDING]) == [b"x", b"y", b"z"]
        assert [valkey.do("PTTL", f"brrr:{kind}:h") > 0 for kind in ("call", "value", "pending_returns")] == [
            False,
            True,
            False,
        ]


async def test_records_of_the_engine_expire_and_those_of_a_fleet_stay(url: str, valkey: Server) -> None:
    hashes = ["brrr.wait/h/0", "brrr.control", "brrr.cron/nightly"]
    async with brrr.open_backend(url, ttl="1h") as backend:
        await backend.store.swap([Swap(Key("value", name), None, b"") for name in hashes])

        assert [valkey.do("PTTL", f"brrr:value:{name}") > 0 for name in hashes] == [True, False, False]


async def test_parent_that_waits_longer_than_the_ttl_is_woken(url: str, valkey: Server) -> None:
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
