"""Lost responses: a swap reports neither a conflict with itself nor a success that did not happen."""

import pytest

import brrr_core as brrr
from brrr_aws.errors import AnswerLostError
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.servers.aws import dynamo_url

FAULTS = ["lose", "stall"]


@pytest.fixture
async def store(proxy, table):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, timeout="2s", retry_for="60s")) as backend:
        yield backend.store


@pytest.fixture
def key(prefix):
    return Key("value", f"{prefix}hash")


@pytest.mark.parametrize("fault", FAULTS)
async def test_create_with_lost_response_succeeds(proxy, store, key, fault):
    getattr(proxy, fault)("PutItem")

    assert await store.swap([Swap(key, None, b"mine")]) == [True]
    assert await store.read([key]) == [b"mine"]
    assert proxy.asked("PutItem") == 1


async def test_check_for_the_token_is_retried(proxy, store, key):
    proxy.lose("PutItem")
    proxy.cut("BatchGetItem", times=3)

    assert await store.swap([Swap(key, None, b"mine")]) == [True]


@pytest.mark.parametrize("fault", ["cut", "refuse"])
async def test_create_without_effect_raises_answer_lost_as_it_may_be_late(proxy, store, key, fault):
    if fault == "cut":
        proxy.cut("PutItem")
    else:
        proxy.refuse("PutItem", "InternalServerError", status=500)

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, b"mine")])
    assert proxy.asked("PutItem") == 1
    assert await store.swap([Swap(key, None, b"mine")]) == [True]


@pytest.mark.parametrize("size", [4, 500_000])
async def test_create_that_another_client_undid_is_not_repeated(proxy, store, key, backend, size):
    value = bytes(size)

    async def another():
        assert await backend.store.swap([Swap(key, value, None)]) == [True]

    proxy.lose("PutItem", meanwhile=another)

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, value)])
    assert await store.read([key]) == [None]


@pytest.mark.parametrize("fault", FAULTS)
async def test_replace_with_lost_response_succeeds(proxy, store, key, fault):
    await store.write([(key, b"old")])
    getattr(proxy, fault)("PutItem")

    assert await store.swap([Swap(key, b"old", b"new")]) == [True]
    assert await store.read([key]) == [b"new"]


async def test_conflict_takes_one_request(proxy, store, key):
    await store.write([(key, b"theirs")])
    proxy.requests.clear()

    assert await store.swap([Swap(key, None, b"mine")]) == [False]
    assert [request.operation for request in proxy.requests] == ["PutItem"]


async def test_lost_create_that_another_client_replaced_raises_answer_lost(proxy, store, key, backend):
    async def another():
        assert await backend.store.swap([Swap(key, b"mine", b"theirs")]) == [True]

    proxy.lose("PutItem", meanwhile=another)

    with pytest.raises(AnswerLostError, match="was lost") as caught:
        await store.swap([Swap(key, None, b"mine")])
    assert "Check before you repeat it" in caught.value.remedy
    assert await store.read([key]) == [b"theirs"]


async def test_cut_create_of_an_existing_record_raises_answer_lost(proxy, store, key, backend):
    await backend.store.write([(key, b"theirs")])
    proxy.cut("PutItem")

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, b"mine")])


async def test_delete_with_lost_response_raises_answer_lost(proxy, store, key):
    await store.write([(key, b"old")])
    proxy.lose("DeleteItem")

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, b"old", None)])
    assert await store.read([key]) == [None]
    assert proxy.asked("DeleteItem") == 1


async def test_throttled_swap_is_retried(proxy, store, key):
    proxy.refuse("PutItem", "ProvisionedThroughputExceededException", times=3)

    assert await store.swap([Swap(key, None, b"mine")]) == [True]
    assert proxy.asked("PutItem") == 4


async def test_lost_create_that_cannot_be_checked_raises_answer_lost(proxy, table, key):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="200ms")) as backend:
        proxy.lose("PutItem")
        proxy.cut("BatchGetItem", times=10_000)
        with pytest.raises(AnswerLostError, match="PutItem"):
            await backend.store.swap([Swap(key, None, b"mine")])


async def test_lost_write_is_repeated_only_for_calls(proxy, store, prefix):
    proxy.lose("BatchWriteItem", times=2)
    await store.write([(Key("call", f"{prefix}a"), b"call")])
    assert await store.read([Key("call", f"{prefix}a")]) == [b"call"]

    proxy.lose("BatchWriteItem")
    with pytest.raises(AnswerLostError):
        await store.write([(Key("value", f"{prefix}a"), b"value")])


async def test_reads_are_retried(proxy, store, key):
    await store.write([(key, b"x")])
    proxy.lose("BatchGetItem", times=2)
    proxy.refuse("BatchGetItem", "InternalServerError", status=500)

    assert await store.read([key]) == [b"x"]


async def test_large_create_with_lost_response_keeps_its_parts(proxy, store, key):
    value = bytes(1_000_000)
    proxy.lose("PutItem")

    assert await store.swap([Swap(key, None, value)]) == [True]
    assert await store.read([key]) == [value]


async def test_large_call_with_lost_response_keeps_its_parts(proxy, store, prefix):
    key, value = Key("call", prefix), bytes(1_000_000)
    proxy.lose("PutItem")

    await store.write([(key, value)])
    assert await store.read([key]) == [value]
    assert proxy.asked("PutItem") == 1


async def test_large_call_with_lost_response_does_not_replace_an_equal_one(proxy, store, backend, prefix):
    key, value = Key("call", prefix), bytes(1_000_000)

    async def another():
        await backend.store.write([(key, value)])

    proxy.lose("PutItem", meanwhile=another)

    await store.write([(key, value)])
    assert await store.read([key]) == [value]


async def test_large_write_without_effect_raises_answer_lost(proxy, store, prefix):
    key = Key("call", prefix)
    proxy.cut("PutItem")

    with pytest.raises(AnswerLostError):
        await store.write([(key, bytes(1_000_000))])
    assert await store.read([key]) == [None]


async def test_unreachable_server_raises_backend_unavailable(proxy, table, key):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="200ms")) as backend:
        proxy.cut("*", times=10_000)
        with pytest.raises(BackendUnavailableError):
            await backend.store.read([key])
