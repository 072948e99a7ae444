"""The table: made by `setup`, checked when a backend is opened."""

import asyncio
import traceback

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError, OptionError, UrlError
from tests.support.aws_proxy import proxied
from tests.support.aws_servers import dynamo_url


@pytest.fixture
def name(aws_prefix, prefix):
    return f"{aws_prefix}{prefix}table"


async def test_setup_makes_a_table_that_expires_and_is_paid_per_request(dynamo, dynamo_endpoint, name):
    url = dynamo_url(name, dynamo_endpoint)
    first = await brrr.open_backend(url).setup()
    again = await brrr.open_backend(url).setup()

    assert "made the table" in first[0]
    assert "is there" in again[0]
    table = dynamo.describe_table(TableName=name)["Table"]
    assert {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]} == {"pk": "HASH", "sk": "RANGE"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    lives = dynamo.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert lives["AttributeName"] == "expires_at"
    async with brrr.open_backend(url) as backend:
        assert await backend.store.read([Key("call", "x")]) == [None]


async def test_setups_at_the_same_time_make_one_table(dynamo_endpoint, name):
    url = dynamo_url(name, dynamo_endpoint)
    told = await asyncio.gather(*(brrr.open_backend(url).setup() for _ in range(4)))

    assert all(len(lines) == 2 for lines in told)


async def test_a_table_that_is_not_there_is_told_with_its_remedy(dynamo_endpoint, name):
    with pytest.raises(BackendError, match=f"there is no table {name}") as caught:
        await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).open()
    assert "brrr setup" in caught.value.remedy


@pytest.mark.parametrize(
    ("keys", "types", "said"),
    [
        ({"HASH": "pk"}, {"pk": "S"}, "HASH pk"),
        ({"HASH": "sk", "RANGE": "pk"}, {"pk": "S", "sk": "S"}, "HASH sk"),
        ({"HASH": "pk", "RANGE": "sk"}, {"pk": "S", "sk": "N"}, "sk (N)"),
    ],
)
async def test_a_table_with_other_keys_is_told(dynamo, dynamo_endpoint, name, keys, types, said):
    dynamo.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for kind, key in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in types.items()],
    )
    dynamo.get_waiter("table_exists").wait(TableName=name)
    backend = brrr.open_backend(dynamo_url(name, dynamo_endpoint))
    for failing in (backend.open(), backend.setup()):
        with pytest.raises(BackendError, match="has the keys") as caught:
            await failing
        assert said in str(caught.value)
        assert "brrr setup" in caught.value.remedy


async def test_a_table_that_expires_by_something_else_is_told(dynamo, dynamo_endpoint, name):
    await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()
    if dynamo_endpoint is None:
        pytest.skip("an account takes an hour to change that")
    off = {"Enabled": False, "AttributeName": "expires_at"}
    dynamo.update_time_to_live(TableName=name, TimeToLiveSpecification=off)
    dynamo.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "other"})

    with pytest.raises(BackendError, match="by other"):
        await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()


async def test_a_table_that_is_being_made_is_waited_for(dynamo_endpoint, table):
    async with proxied(dynamo_endpoint) as proxy:
        described = {
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "TableStatus": "CREATING",
        }
        proxy.answer("DescribeTable", {"Table": described}, times=1)
        with pytest.raises(BackendUnavailableError, match="CREATING"):
            await brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="1ms")).open()
        proxy.answer("DescribeTable", {"Table": described}, times=2)
        async with brrr.open_backend(dynamo_url(table, proxy.endpoint)):
            pass
        assert proxy.asked("DescribeTable") == 1 + 3
        proxy.answer("DescribeTable", {"Table": described}, times=2)
        told = await brrr.open_backend(dynamo_url(table, proxy.endpoint)).setup()
        assert proxy.asked("DescribeTable") == 1 + 3 + 3
        assert len(told) == 2


@pytest.mark.parametrize("code", ["ValidationException", "ResourceInUseException"])
async def test_a_setup_beside_another_finds_what_that_one_did(dynamo_endpoint, name, code):
    async with proxied(dynamo_endpoint) as proxy:

        async def another():
            await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()

        proxy.refuse("UpdateTimeToLive", code, meanwhile=another)
        told = await brrr.open_backend(dynamo_url(name, proxy.endpoint)).setup()
        assert "expires_at" in told[-1]
        assert proxy.asked("UpdateTimeToLive") == 1


async def test_a_setup_whose_every_answer_is_lost_once_is_done(dynamo_endpoint, name):
    async with proxied(dynamo_endpoint) as proxy:
        for operation in ("CreateTable", "UpdateTimeToLive", "DescribeTimeToLive", "Query"):
            proxy.lose(operation)
        await brrr.open_backend(dynamo_url(name, proxy.endpoint)).setup()
    async with brrr.open_backend(dynamo_url(name, dynamo_endpoint)) as backend:
        assert await backend.store.read([Key("call", "x")]) == [None]


async def test_a_table_that_is_removed_meanwhile_is_told_with_its_remedy(dynamo, dynamo_endpoint, name):
    url = dynamo_url(name, dynamo_endpoint)
    await brrr.open_backend(url).setup()
    async with brrr.open_backend(url) as backend:
        dynamo.delete_table(TableName=name)
        dynamo.get_waiter("table_not_exists").wait(TableName=name)
        key = Key("value", "x")
        for failing in (
            *(
                backend.store.read([key]),
                backend.store.write([(key, b"x")]),
                backend.store.swap([Swap(key, None, b"x")]),
            ),
            *(backend.store.swap([Swap(key, None, bytes(500_000))]), backend.cache.increment({"x": 1})),
        ):
            with pytest.raises(BackendError, match=f"there is no table {name}") as caught:
                await failing
            assert "brrr setup" in caught.value.remedy


@pytest.mark.parametrize("name", ["ab", "a b", "é-table", "x" * 256, "a%2Fb"])
def test_what_is_no_table(name):
    with pytest.raises(UrlError) as caught:
        brrr.open_backend(f"dynamo://localhost:8000/{name}")
    assert caught.value.remedy


def test_a_table_named_brrr_is_the_default():
    assert brrr.open_backend("dynamo:")._name == "brrr"
    assert brrr.open_backend("dynamo://localhost:8000")._name == "brrr"


def test_keys_in_a_url_are_refused_and_not_shown():
    for url in ("dynamo://AKIDEXAMPLE:S3cret@jobs", "dynamo://jobs?endpoint=http://x:S3cret@localhost"):
        with pytest.raises((UrlError, OptionError)) as caught:
            brrr.open_backend(url)
        assert "S3cret" not in "".join(traceback.format_exception(caught.value))
