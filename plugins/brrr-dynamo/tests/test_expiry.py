"""`ttl` and `counter_ttl`: values expire after their last read, with their calls, and unfinished calls stay.

An expired item counts as absent, even if DynamoDB has not removed it yet.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_core.errors import OptionError
from brrr_testkit.faults.aws import AwsProxy
from brrr_testkit.servers.aws import dynamo_url
from brrr_testkit.waiting import until

LARGE = bytes(500_000)
HOUR, DAY = 3600, 86_400


@pytest.fixture
async def short(table: str, dynamo_endpoint: str | None) -> AsyncIterator[Backend]:
    async with brrr.open_backend(dynamo_url(table, dynamo_endpoint, ttl="1h", counter_ttl="2h")) as backend:
        yield backend


def seconds_left(item: Any) -> float | None:
    """Return the seconds until an item expires; None for never."""
    return float(item["expires_at"]["N"]) - time.time() if "expires_at" in item else None


def is_new(item: Any) -> bool:
    """Whether the hour of an item has just begun."""
    left = seconds_left(item)
    return left is not None and HOUR - 100 < left <= HOUR


def expire(dynamo: Any, table: str, pk: str, sk: str, *, after: float = -1) -> None:
    """Let an item expire after some seconds; by default a second ago."""
    dynamo.update_item(
        TableName=table,
        Key={"pk": {"S": pk}, "sk": {"S": sk}},
        UpdateExpression="SET expires_at = :then",
        ExpressionAttributeValues={":then": {"N": str(int(time.time() + after))}},
    )


async def finished(backend: Backend) -> None:
    """Wait until the calls that have ended expire."""
    await backend.store.close()  # type: ignore[attr-defined]


async def test_values_expire_and_records_of_unfinished_calls_do_not(short: Backend, item_of: Any, prefix: str) -> None:
    names = [f"{prefix}small", f"{prefix}large"]
    records = list(zip(names, (b"x", LARGE), strict=True))
    await short.store.write([(Key("call", name), value) for name, value in records])
    await short.store.write([(Key("value", f"{prefix}written"), LARGE)])
    await short.store.swap([Swap(Key("pending_returns", name), None, value) for name, value in records])
    for name in names:
        for kind in ("call", "pending_returns"):
            assert seconds_left(item_of(name, kind)) is None
    assert seconds_left(_part(item_of, names[1], "call")) is None

    await short.store.swap([Swap(Key("value", name), None, value) for name, value in records])
    await finished(short)

    for name in names:
        assert is_new(item_of(name, "value"))
        assert is_new(item_of(name, "call"))
        assert seconds_left(item_of(name, "pending_returns")) is None
    assert is_new(item_of(f"{prefix}written", "value"))
    assert 2 * HOUR + DAY - 100 < (seconds_left(_part(item_of, names[1], "value")) or 0) <= 2 * HOUR + DAY


def _part(item_of: Any, pk: str, sk: str) -> Any:
    return item_of(f"brrr_part/{item_of(pk, sk)['parts_id']['S']}/0", "part")


async def test_call_whose_failure_is_deleted_does_not_expire(short: Backend, item_of: Any, prefix: str) -> None:
    call, value = Key("call", prefix), Key("value", prefix)
    await short.store.write([(call, b"x")])
    await short.store.swap([Swap(value, None, b"y")])
    assert await short.store.swap([Swap(value, b"y", None)]) == [True]

    await finished(short)
    assert seconds_left(item_of(prefix, "call")) is None
    assert await short.store.swap([Swap(value, b"y", b"z")]) == [False]
    await finished(short)
    assert seconds_left(item_of(prefix, "call")) is None


@pytest.mark.parametrize("size", [1, 500_000])
@pytest.mark.parametrize(("left", "refreshed"), [(0.77 * HOUR, False), (0.73 * HOUR, True)])
async def test_read_refreshes_a_value_and_its_call_once_a_quarter_of_the_ttl_is_over(
    short: Backend, dynamo: Any, table: str, item_of: Any, prefix: str, size: int, left: float, refreshed: bool
) -> None:
    call, value, absent = Key("call", prefix), Key("value", prefix), Key("value", f"{prefix}-")
    await short.store.write([(call, b"x")])
    await short.store.swap([Swap(value, None, bytes(size))])
    await finished(short)
    for kind in ("call", "value"):
        expire(dynamo, table, prefix, kind, after=left)

    assert await short.store.read([absent, value, value]) == [None, bytes(size), bytes(size)]

    await finished(short)
    assert [is_new(item_of(prefix, kind)) for kind in ("call", "value")] == [refreshed] * 2


@pytest.mark.parametrize(("left", "refreshed"), [(HOUR + DAY + 60, False), (HOUR + DAY - 60, True)])
async def test_read_refreshes_parts_that_could_expire_before_their_value(
    short: Backend, dynamo: Any, table: str, item_of: Any, prefix: str, left: float, refreshed: bool
) -> None:
    key = Key("value", prefix)
    await short.store.swap([Swap(key, None, LARGE)])
    for number in (0, 1):
        name = f"brrr_part/{item_of(prefix, 'value')['parts_id']['S']}/{number}"
        expire(dynamo, table, name, "part", after=left)

    assert await short.store.read([key]) == [LARGE]

    assert ((seconds_left(_part(item_of, prefix, "value")) or 0) > 2 * HOUR + DAY - 100) == refreshed


async def test_value_that_is_read_outlives_its_ttl(table: str, dynamo_endpoint: str, item_of: Any, prefix: str) -> None:
    """The ttl is shorter than an option may be, so that the test is short."""
    read, other = Key("value", f"{prefix}a"), Key("value", f"{prefix}b")
    async with brrr.open_backend(dynamo_url(table, dynamo_endpoint, ttl="1h")) as backend:
        backend.store._expiry._ttl = 2  # type: ignore[attr-defined]
        await backend.store.swap([Swap(read, None, b"x"), Swap(other, None, b"x")])

        async def expired() -> bool:
            assert await backend.store.read([read]) == [b"x"]
            return (seconds_left(item_of(other.call_hash, "value")) or 0) <= 0

        await until(expired, "the value that is not read expires")
        assert await backend.store.read([read, other]) == [b"x", None]


async def test_value_that_expires_during_its_read_is_absent(
    short: Backend, dynamo: Any, table: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key("value", prefix)
    await short.store.swap([Swap(key, None, b"x")])
    expire(dynamo, table, prefix, "value", after=60)
    records = short.store._table  # type: ignore[attr-defined]
    get = records.get

    async def slow(keys: Any) -> Any:
        found = await get(keys)
        expire(dynamo, table, prefix, "value")
        return found

    monkeypatch.setattr(records, "get", slow)
    assert await short.store.read([key]) == [None]


async def test_records_of_the_engine_expire_and_those_of_a_fleet_stay(short: Backend, item_of: Any) -> None:
    names = ["brrr.wait/h/0", "brrr.control", "brrr.cron/nightly"]
    await short.store.write([(Key("value", name), b"") for name in names])

    assert [seconds_left(item_of(name, "value")) is None for name in names] == [False, True, True]


async def test_ttl_takes_one_request_more_for_a_finished_call(proxy: AwsProxy, table: str, prefix: str) -> None:
    call, value = Key("call", prefix), Key("value", prefix)
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, ttl="1h")) as backend:
        await backend.store.write([(call, b"x")])
        await backend.store.read([value, call])
        assert proxy.asked("UpdateItem") == 0
        await backend.store.swap([Swap(value, None, b"y")])
        await finished(backend)
        await backend.store.read([value, call])

        assert [proxy.asked(name) for name in ("PutItem", "UpdateItem", "BatchGetItem")] == [1, 1, 2]


async def test_records_without_ttl_do_not_expire(backend: Backend, item_of: Any, prefix: str) -> None:
    await backend.store.write([(Key("call", prefix), b"x")])
    await backend.store.swap([Swap(Key("value", prefix), None, b"x" * 500_000)])

    for kind in ("call", "value"):
        assert "expires_at" not in item_of(prefix, kind)


@pytest.mark.parametrize("size", [1, 500_000])
async def test_expired_record_counts_as_absent(
    short: Backend, backend: Backend, dynamo: Any, table: str, prefix: str, size: int
) -> None:
    key, old = Key("value", prefix), b"x" * size
    for each in (short, backend):
        await short.store.swap([Swap(key, None, old)])
        expire(dynamo, table, prefix, "value")
        assert await each.store.read([key]) == [None]
        assert await each.store.swap([Swap(key, old, b"new"), Swap(key, old, None)]) == [False, False]
        assert await each.store.swap([Swap(key, None, None), Swap(key, None, b"new")]) == [True, True]
        assert await each.store.read([key]) == [b"new"]
        assert await each.store.swap([Swap(key, b"new", None)]) == [True]


async def test_increment_renews_the_expiry_of_a_counter(
    short: Backend, dynamo: Any, table: str, item_of: Any, prefix: str
) -> None:
    await short.cache.increment({prefix: 1})
    expire(dynamo, table, prefix, "count")
    await short.cache.increment({prefix: 1})

    assert 7100 < (seconds_left(item_of(prefix, "count")) or 0) <= 7200


@pytest.mark.parametrize(
    "option",
    ["ttl=0", "ttl=500ms", "ttl=54m", "ttl=9999d", "counter_ttl=0", "retry_for=0", "timeout=2h", "retry_for=2h"],
)
def test_duration_out_of_range_is_refused(option: str) -> None:
    with pytest.raises(OptionError, match=option.partition("=")[0]):
        brrr.open_backend(f"dynamo://jobs?{option}")
