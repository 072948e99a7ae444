"""`ttl`: values and their calls expire after the last read, and unfinished calls stay.

The times to live are shorter than an option may be, so that the tests are short.
"""

import asyncio
from typing import Any

import pytest
from nats_roles import Roles, forbid_direct, messages, opened

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError
from brrr_nats.client.messages import stored_message
from brrr_nats.store.store import NatsStore
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.servers.nats import Server
from brrr_testkit.waiting import until

CALL, VALUE, PENDING, OTHER = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h"), Key("value", "other")
LARGE = b"x" * 1_500_000


async def left(roles: Roles, bucket: str) -> set[str]:
    """Return the keys of the bucket, without reading, and so refreshing, their records. Parts have no key."""
    keys = (subject.removeprefix(f"$KV.{bucket}.") for subject in await messages(roles.client, f"KV_{bucket}"))
    return {key for key in keys if not key.startswith("part.")}


async def ttl_of(roles: Roles, bucket: str, key: str) -> str | None:
    """Return the time to live of a record's message."""
    message = await roles.client.call_api(f"STREAM.MSG.GET.KV_{bucket}", {"last_by_subj": f"$KV.{bucket}.{key}"})
    return stored_message(message["message"]).headers.get("Nats-TTL")


@pytest.mark.parametrize(("direct", "value"), [(True, b"y"), (False, LARGE)], ids=["direct", "by leader, in parts"])
async def test_value_that_is_read_outlives_its_ttl_and_another_expires(
    server: Server, bucket: str, direct: bool, value: bytes
) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        if not direct:
            await forbid_direct(roles.client, bucket)
    async with opened(server.url, bucket=bucket, ttl=1.5) as roles:
        await roles.store.swap([Swap(VALUE, None, value), Swap(OTHER, None, b"z")])

        async def expired() -> bool:
            assert await roles.store.read([VALUE, PENDING, VALUE]) == [value, None, value]
            return "value.other" not in await left(roles, bucket)

        await until(expired, "the value that is not read expires")
        assert await roles.store.read([VALUE, OTHER]) == [value, None]
        assert await roles.store.swap([Swap(OTHER, None, b"again"), Swap(VALUE, value, b"new")]) == [True, True]


async def test_records_of_unfinished_calls_do_not_expire(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket, ttl=1.0) as roles:
        await roles.store.write([(CALL, LARGE), (PENDING, b"x"), (OTHER, b"z")])

        async def expired() -> bool:
            return "value.other" not in await left(roles, bucket)

        await until(expired, "the value expires")
        assert await roles.store.read([CALL, PENDING]) == [LARGE, b"x"]


@pytest.mark.parametrize("payload", [b"x", LARGE], ids=["small", "in parts"])
async def test_call_expires_with_its_value_and_stays_if_its_failure_is_deleted(
    server: Server, bucket: str, payload: bytes
) -> None:
    async with opened(server.url, bucket=bucket, ttl=3600) as roles:
        await roles.store.write([(CALL, payload)])
        assert await roles.store.swap([Swap(VALUE, b"y", b"z")]) == [False]
        await roles.store.close()
        assert await ttl_of(roles, bucket, "call.h") is None

        assert await roles.store.swap([Swap(VALUE, None, b"y")]) == [True]
        await roles.store.close()
        assert await ttl_of(roles, bucket, "call.h") == "3600s"

        assert await roles.store.swap([Swap(VALUE, b"y", None)]) == [True]
        assert await ttl_of(roles, bucket, "call.h") is None
        assert await roles.store.read([CALL]) == [payload]


async def test_refresh_of_a_value_refreshes_its_call(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(CALL, b"x"), (VALUE, b"y")])
    async with opened(server.url, bucket=bucket, ttl=3600) as roles:
        assert await roles.store.read([VALUE]) == [b"y"]
        await roles.store.close()
        assert await ttl_of(roles, bucket, "call.h") is None

        shorten(roles.store, 0.001)
        assert await roles.store.read([VALUE]) == [b"y"]
        await roles.store.close()
        assert await ttl_of(roles, bucket, "call.h") == await ttl_of(roles, bucket, "value.h") == "1s"


async def test_value_that_was_deleted_during_its_refresh_is_absent(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await roles.store.write([(VALUE, b"y")])
    async with (
        relayed(NatsProxy(server.port)) as proxy,
        opened(proxy.url, bucket=bucket, ttl=3600) as roles,
        opened(server.url, bucket=bucket) as other,
    ):
        shorten(roles.store, 0.001)
        find = roles.store._records.find
        deleted = asyncio.Event()

        async def deleting(subjects: Any, **how: Any) -> Any:
            found = await find(subjects, **how)
            if not deleted.is_set():
                deleted.set()
                assert await other.store.swap([Swap(VALUE, b"y", None)]) == [True]
            return found

        roles.store._records.find = deleting  # type: ignore[method-assign]
        assert await roles.store.read([VALUE]) == [None]


async def test_records_of_the_engine_expire_and_those_of_a_fleet_stay(server: Server, bucket: str) -> None:
    keys = [Key("value", name) for name in ("brrr.wait/h/0", "brrr.control", "brrr.cron/nightly")]
    async with opened(server.url, bucket=bucket, ttl=3600) as roles:
        await roles.store.swap([Swap(key, None, b"") for key in keys])
        names = [roles.store._bucket.subject(key).removeprefix(f"$KV.{bucket}.") for key in keys]
        assert [await ttl_of(roles, bucket, name) for name in names] == ["3600s", None, None]


async def test_bucket_whose_records_all_expire_is_changed_only_by_setup(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        config = (await roles.client.call_api(f"STREAM.INFO.KV_{bucket}"))["config"]
        await roles.client.call_api(f"STREAM.UPDATE.KV_{bucket}", {**config, "max_age": 3600 * 10**9})

    with pytest.raises(BackendError, match="max_age") as caught:
        async with opened(server.url, bucket=bucket, ttl=3600):
            pass
    assert "brrr setup" in caught.value.remedy
    async with opened(server.url, bucket=bucket, ttl=3600, setup=True):
        pass


def shorten(store: NatsStore, ttl: float) -> None:
    """Let a store take every value for an old one."""
    store._ttl = ttl
