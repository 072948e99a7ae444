"""Answers that are lost: a swap never reports a conflict with itself, and never a success that was not one."""

import pytest

import brrr_core as brrr
from brrr_aws.failures import AnswerLostError
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendUnavailableError
from tests.support.aws_servers import dynamo_url

HARMS = ["lose", "stall"]


@pytest.fixture
async def store(proxy, table):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, timeout="1s", retry_for="60s")) as backend:
        yield backend.store


@pytest.fixture
def key(prefix):
    return Key("value", f"{prefix}hash")


@pytest.mark.parametrize("harm", HARMS)
async def test_a_create_whose_answer_is_lost_is_a_success(proxy, store, key, harm):
    getattr(proxy, harm)("PutItem")

    assert await store.swap([Swap(key, None, b"mine")]) == [True]
    assert await store.read([key]) == [b"mine"]
    assert proxy.asked("PutItem") == 1


async def test_it_is_looked_for_until_somebody_answers(proxy, store, key):
    proxy.lose("PutItem")
    proxy.cut("BatchGetItem", times=3)

    assert await store.swap([Swap(key, None, b"mine")]) == [True]


@pytest.mark.parametrize("harm", ["cut", "refuse"])
async def test_a_create_that_was_never_done_cannot_be_told_from_one_that_is_late(proxy, store, key, harm):
    if harm == "cut":
        proxy.cut("PutItem")
    else:
        proxy.refuse("PutItem", "InternalServerError", status=500)

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, b"mine")])
    assert proxy.asked("PutItem") == 1
    assert await store.swap([Swap(key, None, b"mine")]) == [True]


@pytest.mark.parametrize("size", [4, 500_000])
async def test_a_create_that_another_has_undone_is_not_done_again(proxy, store, key, backend, size):
    value = bytes(size)

    async def another():
        assert await backend.store.swap([Swap(key, value, None)]) == [True]

    proxy.lose("PutItem", meanwhile=another)

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, value)])
    assert await store.read([key]) == [None]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_replace_whose_answer_is_lost_is_a_success(proxy, store, key, harm):
    await store.write([(key, b"old")])
    getattr(proxy, harm)("PutItem")

    assert await store.swap([Swap(key, b"old", b"new")]) == [True]
    assert await store.read([key]) == [b"new"]


async def test_a_true_conflict_costs_one_request(proxy, store, key):
    await store.write([(key, b"theirs")])
    proxy.requests.clear()

    assert await store.swap([Swap(key, None, b"mine")]) == [False]
    assert [request.operation for request in proxy.requests] == ["PutItem"]


async def test_what_another_changed_meanwhile_cannot_be_told(proxy, store, key, backend):
    async def another():
        assert await backend.store.swap([Swap(key, b"mine", b"theirs")]) == [True]

    proxy.lose("PutItem", meanwhile=another)

    with pytest.raises(AnswerLostError, match="was lost") as caught:
        await store.swap([Swap(key, None, b"mine")])
    assert "look before you ask again" in caught.value.remedy
    assert await store.read([key]) == [b"theirs"]


async def test_who_was_first_cannot_be_told_where_a_cut_create_meets_another(proxy, store, key, backend):
    await backend.store.write([(key, b"theirs")])
    proxy.cut("PutItem")

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, None, b"mine")])


async def test_a_delete_whose_answer_is_lost_cannot_be_told(proxy, store, key):
    await store.write([(key, b"old")])
    proxy.lose("DeleteItem")

    with pytest.raises(AnswerLostError):
        await store.swap([Swap(key, b"old", None)])
    assert await store.read([key]) == [None]
    assert proxy.asked("DeleteItem") == 1


async def test_a_throttled_swap_is_done_in_the_end(proxy, store, key):
    proxy.refuse("PutItem", "ProvisionedThroughputExceededException", times=3)

    assert await store.swap([Swap(key, None, b"mine")]) == [True]
    assert proxy.asked("PutItem") == 4


async def test_a_create_that_nobody_can_look_for_is_given_up(proxy, table, key):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="200ms")) as backend:
        proxy.lose("PutItem")
        proxy.cut("BatchGetItem", times=10_000)
        with pytest.raises(AnswerLostError, match="PutItem"):
            await backend.store.swap([Swap(key, None, b"mine")])


async def test_calls_are_written_again_and_others_are_not(proxy, store, prefix):
    proxy.lose("BatchWriteItem", times=2)
    await store.write([(Key("call", f"{prefix}a"), b"call")])
    assert await store.read([Key("call", f"{prefix}a")]) == [b"call"]

    proxy.lose("BatchWriteItem")
    with pytest.raises(AnswerLostError):
        await store.write([(Key("value", f"{prefix}a"), b"value")])


async def test_reads_are_asked_again(proxy, store, key):
    await store.write([(key, b"x")])
    proxy.lose("BatchGetItem", times=2)
    proxy.refuse("BatchGetItem", "InternalServerError", status=500)

    assert await store.read([key]) == [b"x"]


async def test_a_large_create_whose_answer_is_lost_keeps_its_parts(proxy, store, key):
    value = bytes(1_000_000)
    proxy.lose("PutItem")

    assert await store.swap([Swap(key, None, value)]) == [True]
    assert await store.read([key]) == [value]


async def test_a_large_call_whose_answer_is_lost_keeps_its_parts(proxy, store, prefix):
    key, value = Key("call", prefix), bytes(1_000_000)
    proxy.lose("PutItem")

    await store.write([(key, value)])
    assert await store.read([key]) == [value]
    assert proxy.asked("PutItem") == 1


async def test_a_large_call_whose_answer_is_lost_is_not_put_over_anothers(proxy, store, backend, prefix):
    key, value = Key("call", prefix), bytes(1_000_000)

    async def another():
        await backend.store.write([(key, value)])

    proxy.lose("PutItem", meanwhile=another)

    await store.write([(key, value)])
    assert await store.read([key]) == [value]


async def test_a_large_write_that_was_never_done_is_told(proxy, store, prefix):
    key = Key("call", prefix)
    proxy.cut("PutItem")

    with pytest.raises(AnswerLostError):
        await store.write([(key, bytes(1_000_000))])
    assert await store.read([key]) == [None]


async def test_an_unreachable_server_is_told_when_it_is_needed(proxy, table, key):
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="200ms")) as backend:
        proxy.cut("*", times=10_000)
        with pytest.raises(BackendUnavailableError):
            await backend.store.read([key])
