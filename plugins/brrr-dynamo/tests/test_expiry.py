"""`ttl` and `counter_ttl`: an expired item counts as absent, even if DynamoDB has not removed it yet."""

import time

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import OptionError
from brrr_testkit.servers.aws import dynamo_url


@pytest.fixture
async def short(table, dynamo_endpoint):
    async with brrr.open_backend(dynamo_url(table, dynamo_endpoint, ttl="1h", counter_ttl="2h")) as backend:
        yield backend


def seconds_left(item) -> float:
    return float(item["expires_at"]["N"]) - time.time()


def expire(dynamo, table, pk, sk):
    """Let an item have expired a second ago."""
    dynamo.update_item(
        TableName=table,
        Key={"pk": {"S": pk}, "sk": {"S": sk}},
        UpdateExpression="SET expires_at = :then",
        ExpressionAttributeValues={":then": {"N": str(int(time.time()) - 1)}},
    )


async def test_every_write_sets_the_expiry_of_records(short, item_of, prefix):
    large = bytes(500_000)
    keys = [Key("call", prefix), Key("value", prefix), Key("pending_returns", prefix), Key("value", f"{prefix}-")]
    await short.store.write([(keys[0], b"x"), (keys[3], large)])
    await short.store.swap([Swap(keys[1], None, b"x"), Swap(keys[2], None, large)])

    for key in keys:
        assert 3500 < seconds_left(item_of(key.call_hash, key.kind)) <= 3600
    head = item_of(keys[2].call_hash, "pending_returns")
    part = item_of(f"brrr_part/{head['parts_id']['S']}/0", "part")
    assert seconds_left(part) > seconds_left(head) + 80_000


async def test_records_without_ttl_do_not_expire(backend, item_of, prefix):
    await backend.store.write([(Key("call", prefix), b"x")])
    await backend.store.swap([Swap(Key("value", prefix), None, b"x" * 500_000)])

    for kind in ("call", "value"):
        assert "expires_at" not in item_of(prefix, kind)


@pytest.mark.parametrize("size", [1, 500_000])
async def test_expired_record_counts_as_absent(short, backend, dynamo, table, prefix, size):
    key, old = Key("value", prefix), b"x" * size
    for each in (short, backend):
        await short.store.swap([Swap(key, None, old)])
        expire(dynamo, table, prefix, "value")
        assert await each.store.read([key]) == [None]
        assert await each.store.swap([Swap(key, old, b"new"), Swap(key, old, None)]) == [False, False]
        assert await each.store.swap([Swap(key, None, None), Swap(key, None, b"new")]) == [True, True]
        assert await each.store.read([key]) == [b"new"]
        assert await each.store.swap([Swap(key, b"new", None)]) == [True]


async def test_increment_renews_the_expiry_of_a_counter(short, dynamo, table, item_of, prefix):
    await short.cache.increment({prefix: 1})
    expire(dynamo, table, prefix, "count")
    await short.cache.increment({prefix: 1})

    assert 7100 < seconds_left(item_of(prefix, "count")) <= 7200


@pytest.mark.parametrize(
    "option",
    ["ttl=0", "ttl=500ms", "ttl=54m", "ttl=9999d", "counter_ttl=0", "retry_for=0", "timeout=2h", "retry_for=2h"],
)
def test_duration_out_of_range_is_refused(option):
    with pytest.raises(OptionError, match=option.partition("=")[0]):
        brrr.open_backend(f"dynamo://jobs?{option}")
