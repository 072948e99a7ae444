"""The protocol's table layout: SDKs in other languages read our items, and we read theirs."""

import pytest

from brrr_core.backend import Key, Swap
from brrr_core.errors import CorruptBackendError

CONFLICT = "ConditionalCheckFailedException"


async def test_another_sdk_reads_our_records(backend, item_of, prefix):
    await backend.store.write([(Key("call", prefix), b"a call")])
    await backend.store.swap([Swap(Key("value", prefix), None, b"a value")])
    for kind, value in (("call", b"a call"), ("value", b"a value")):
        assert item_of(prefix, kind)["value"] == {"B": value}
    assert item_of(prefix, "call") == {"pk": {"S": prefix}, "sk": {"S": "call"}, "value": {"B": b"a call"}}


async def test_records_of_another_sdk_are_read_and_swapped(backend, dynamo, table, prefix):
    def put(kind, value):
        item = {"pk": {"S": prefix}, "sk": {"S": kind}, "value": {"B": value}}
        dynamo.put_item(TableName=table, Item=item)

    put("pending_returns", b"theirs")
    key = Key("pending_returns", prefix)
    assert await backend.store.read([key]) == [b"theirs"]
    assert await backend.store.swap([Swap(key, None, b"x"), Swap(key, b"no", b"x")]) == [False, False]
    assert await backend.store.swap([Swap(key, b"theirs", b"ours")]) == [True]

    put("pending_returns", b"theirs again")
    assert await backend.store.swap([Swap(key, b"ours", b"x")]) == [False]
    assert await backend.store.swap([Swap(key, b"theirs again", None)]) == [True]
    assert await backend.store.read([key]) == [None]


async def test_conditional_writes_of_another_sdk_work_on_our_items(backend, dynamo, table, prefix):
    key = {"pk": {"S": prefix}, "sk": {"S": "value"}}
    await backend.store.swap([Swap(Key("value", prefix), None, b"ours")])
    with pytest.raises(dynamo.exceptions.ConditionalCheckFailedException):
        dynamo.put_item(
            TableName=table,
            Item={**key, "value": {"B": b"theirs"}},
            ConditionExpression="attribute_not_exists(pk)",
        )
    dynamo.delete_item(
        TableName=table,
        Key=key,
        ConditionExpression="#v = :v",
        ExpressionAttributeNames={"#v": "value"},
        ExpressionAttributeValues={":v": {"B": b"ours"}},
    )
    assert await backend.store.read([Key("value", prefix)]) == [None]


@pytest.mark.usefixtures("_not_moto")
async def test_full_item_of_another_sdk_is_read_and_swapped(backend, dynamo, table, prefix):
    value = bytes(409_600 - len("pk" + prefix + "sk" + "value" + "value"))
    item = {"pk": {"S": prefix}, "sk": {"S": "value"}, "value": {"B": value}}
    dynamo.put_item(TableName=table, Item=item)
    key = Key("value", prefix)

    assert await backend.store.read([key]) == [value]
    assert await backend.store.swap([Swap(key, value[1:], b"x"), Swap(key, value, b"small")]) == [False, True]
    assert await backend.store.read([key]) == [b"small"]


@pytest.mark.parametrize(
    "attributes",
    [{}, {"value": {"S": "text"}}, {"parts_id": {"S": "x"}}, {"parts_id": {"S": "x"}, "parts_count": {"N": "1"}}],
)
async def test_item_without_a_record_raises_corrupt_backend_error(backend, dynamo, table, prefix, attributes):
    dynamo.put_item(TableName=table, Item={"pk": {"S": prefix}, "sk": {"S": "value"}, **attributes})

    with pytest.raises(CorruptBackendError, match=prefix) as caught:
        await backend.store.read([Key("value", prefix)])
    assert caught.value.remedy


async def test_counter_and_record_of_the_same_name_are_separate_items(backend, item_of, prefix):
    name = f"brrr_count/{prefix}"
    await backend.store.write([(Key("value", name), b"not a counter")])
    assert await backend.cache.increment({name: 5}) == {name: 5}

    assert item_of(name, "count")["count"] == {"N": "5"}
    assert await backend.store.read([Key("value", name)]) == [b"not a counter"]
