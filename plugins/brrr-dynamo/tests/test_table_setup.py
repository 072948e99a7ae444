"""Setup of the table, and its check when a backend is opened."""

import asyncio
import traceback

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError, OptionError, UrlError
from brrr_testkit.faults.aws import proxied
from brrr_testkit.servers.aws import dynamo_url


@pytest.fixture
def name(aws_prefix, prefix):
    return f"{aws_prefix}{prefix}table"


async def test_setup_creates_a_table_with_expiry_and_payment_per_request(dynamo, dynamo_endpoint, name):
    url = dynamo_url(name, dynamo_endpoint)
    first = await brrr.open_backend(url).setup()
    again = await brrr.open_backend(url).setup()

    assert "created the table" in first[0]
    assert "exists" in again[0]
    table = dynamo.describe_table(TableName=name)["Table"]
    assert {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]} == {"pk": "HASH", "sk": "RANGE"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    expiry = dynamo.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert expiry["AttributeName"] == "expires_at"
    async with brrr.open_backend(url) as backend:
        assert await backend.store.read([Key("call", "x")]) == [None]


async def test_concurrent_setups_create_one_table(dynamo_endpoint, name):
    url = dynamo_url(name, dynamo_endpoint)
    report = await asyncio.gather(*(brrr.open_backend(url).setup() for _ in range(4)))

    assert all(len(lines) == 2 for lines in report)


async def test_opening_a_missing_table_fails_with_a_remedy(dynamo_endpoint, name):
    with pytest.raises(BackendError, match=f"the table {name} does not exist") as caught:
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
async def test_table_with_other_keys_is_refused(dynamo, dynamo_endpoint, name, keys, types, said):
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


async def test_table_that_expires_by_another_attribute_is_refused(dynamo, dynamo_endpoint, name):
    await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()
    if dynamo_endpoint is None:
        pytest.skip("an account takes an hour to change that")
    off = {"Enabled": False, "AttributeName": "expires_at"}
    dynamo.update_time_to_live(TableName=name, TimeToLiveSpecification=off)
    dynamo.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "other"})

    with pytest.raises(BackendError, match="by other"):
        await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()


async def test_opening_and_setup_wait_for_a_table_that_is_being_created(dynamo_endpoint, table):
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
        report = await brrr.open_backend(dynamo_url(table, proxy.endpoint)).setup()
        assert proxy.asked("DescribeTable") == 1 + 3 + 3
        assert len(report) == 2


@pytest.mark.parametrize("code", ["ValidationException", "ResourceInUseException"])
async def test_setup_accepts_the_work_of_a_concurrent_setup(dynamo_endpoint, name, code):
    async with proxied(dynamo_endpoint) as proxy:

        async def another():
            await brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup()

        proxy.refuse("UpdateTimeToLive", code, meanwhile=another)
        report = await brrr.open_backend(dynamo_url(name, proxy.endpoint)).setup()
        assert "expires_at" in report[-1]
        assert proxy.asked("UpdateTimeToLive") == 1


async def test_setup_survives_a_lost_response_of_every_operation(dynamo_endpoint, name):
    async with proxied(dynamo_endpoint) as proxy:
        for operation in ("CreateTable", "UpdateTimeToLive", "DescribeTimeToLive", "Query"):
            proxy.lose(operation)
        await brrr.open_backend(dynamo_url(name, proxy.endpoint)).setup()
    async with brrr.open_backend(dynamo_url(name, dynamo_endpoint)) as backend:
        assert await backend.store.read([Key("call", "x")]) == [None]


async def test_deleted_table_raises_an_error_with_a_remedy(dynamo, dynamo_endpoint, name):
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
            with pytest.raises(BackendError, match=f"the table {name} does not exist") as caught:
                await failing
            assert "brrr setup" in caught.value.remedy


@pytest.mark.parametrize("name", ["ab", "a b", "é-table", "x" * 256, "a%2Fb"])
def test_invalid_table_name_is_refused(name):
    with pytest.raises(UrlError) as caught:
        brrr.open_backend(f"dynamo://localhost:8000/{name}")
    assert caught.value.remedy


def test_default_table_is_brrr():
    assert brrr.open_backend("dynamo:")._name == "brrr"  # pyright: ignore[reportAttributeAccessIssue] - looks inside
    assert brrr.open_backend("dynamo://localhost:8000")._name == "brrr"  # pyright: ignore[reportAttributeAccessIssue] - looks inside


def test_url_with_keys_is_refused_without_showing_them():
    for url in ("dynamo://AKIDEXAMPLE:S3cret@jobs", "dynamo://jobs?endpoint=http://x:S3cret@localhost"):
        with pytest.raises((UrlError, OptionError)) as caught:
            brrr.open_backend(url)
        assert "S3cret" not in "".join(traceback.format_exception(caught.value))
