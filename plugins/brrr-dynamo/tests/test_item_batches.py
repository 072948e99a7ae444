"""Batches of items: their sizes, unprocessed items, and costs."""

import pytest

import brrr_core as brrr
from brrr_aws.metering import metering
from brrr_core.backend import Key, Swap
from brrr_core.errors import ArgumentError, BackendUnavailableError
from brrr_testkit.servers.aws import dynamo_url


@pytest.fixture
async def store(proxy, table):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="1s")) as backend:
        proxy.requests.clear()
        yield backend.store


def keys_of(prefix: str, count: int) -> list[Key]:
    return [Key("call", f"{prefix}{number}") for number in range(count)]


async def test_reads_batch_100_keys_and_writes_25_items(proxy, store, prefix):
    keys = keys_of(prefix, 250)
    await store.write([(key, key.call_hash.encode()) for key in keys])
    assert await store.read([*keys, *keys]) == [key.call_hash.encode() for key in keys] * 2

    assert proxy.asked("BatchWriteItem") == 10
    assert proxy.asked("BatchGetItem") == 3
    assert all(
        request["ConsistentRead"]
        for sent in proxy.requests
        if sent.operation == "BatchGetItem"
        for request in sent.parameters["RequestItems"].values()
    )


async def test_read_larger_than_one_response_takes_several(proxy, store, prefix):
    keys, value = keys_of(prefix, 60), bytes(390_000)
    await store.write([(key, value) for key in keys])
    proxy.requests.clear()

    assert await store.read(keys) == [value] * 60
    assert proxy.asked("BatchGetItem") > 1


async def test_unprocessed_keys_are_read_again(proxy, store, table, prefix):
    keys = keys_of(prefix, 10)
    await store.write([(key, b"x") for key in keys])
    left = [{"pk": {"S": key.call_hash}, "sk": {"S": "call"}} for key in keys]
    proxy.answer("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {table: {"Keys": left, "ConsistentRead": True}}})

    assert await store.read(keys) == [b"x"] * 10
    assert proxy.asked("BatchGetItem") == 2


async def test_unprocessed_items_are_written_again(proxy, store, table, prefix):
    keys = keys_of(prefix, 3)

    def left(key):
        return {"PutRequest": {"Item": {"pk": {"S": key.call_hash}, "sk": {"S": "call"}, "value": {"B": "eA=="}}}}

    proxy.answer("BatchWriteItem", {"UnprocessedItems": {table: [left(key) for key in keys]}})
    await store.write([(key, b"x") for key in keys])

    assert await store.read(keys) == [b"x"] * 3
    assert proxy.asked("BatchWriteItem") == 2


@pytest.mark.parametrize("operation", ["BatchGetItem", "BatchWriteItem"])
async def test_batch_that_stays_unprocessed_fails_after_retry_for(proxy, store, table, prefix, operation):
    key = Key("call", prefix)
    item = {"pk": {"S": prefix}, "sk": {"S": "call"}}
    proxy.answer("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {table: {"Keys": [item]}}}, times=10_000)
    request = {"PutRequest": {"Item": {**item, "value": {"B": "eA=="}}}}
    proxy.answer("BatchWriteItem", {"UnprocessedItems": {table: [request]}}, times=10_000)

    with pytest.raises(BackendUnavailableError, match=f"did not complete {operation}") as caught:
        await (store.read([key]) if operation == "BatchGetItem" else store.write([(key, b"x")]))
    assert "retry_for" in caught.value.remedy


@pytest.mark.parametrize("call_hash", ["", "x" * 2049, "é" * 1025])
async def test_invalid_call_hash_is_refused_without_a_request(proxy, store, call_hash):
    key = Key("value", call_hash)
    for operation in (store.read([key]), store.write([(key, b"")]), store.swap([Swap(key, None, b"")])):
        with pytest.raises(ArgumentError, match="call hash"):
            await operation
    assert proxy.requests == []


async def test_call_hash_of_1024_bytes_is_accepted(store, prefix):
    key = Key("pending_returns", prefix.ljust(1024, "x"))
    assert await store.swap([Swap(key, None, bytes(390_000))]) == [True]
    assert await store.read([key]) == [bytes(390_000)]


async def test_empty_batches_send_no_request(proxy, store):
    assert await store.read([]) == []
    assert await store.swap([]) == []
    await store.write([])
    assert proxy.requests == []


@pytest.mark.usefixtures("_not_moto")
async def test_swap_takes_one_request_and_one_unit_per_kilobyte(url, prefix):
    with metering() as meter:
        async with brrr.open_backend(url) as backend:
            keys = [Key("value", f"{prefix}{number}") for number in range(20)]
            await backend.store.swap([Swap(key, None, b"x" * 100) for key in keys])
            await backend.store.swap([Swap(key, b"x" * 100, None) for key in keys[:5]])
            await backend.cache.increment({f"{prefix}count": 1})

    assert meter.requests == {
        "dynamodb.DescribeTable": 1,
        "dynamodb.PutItem": 20,
        "dynamodb.DeleteItem": 5,
        "dynamodb.UpdateItem": 1,
    }
    assert meter.read_units == 0
    assert meter.write_units == 26


async def test_capacity_is_requested_only_while_metering(proxy, store, prefix):
    await store.swap([Swap(Key("value", prefix), None, b"x")])
    await store.read([Key("value", prefix)])
    assert not any("ReturnConsumedCapacity" in request.parameters for request in proxy.requests)
