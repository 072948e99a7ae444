"""Values too large for one item: every reader sees them whole, and no parts stay behind."""

import asyncio
import time
from random import Random

import pytest

import brrr_core as brrr
from brrr_aws.errors import AnswerLostError
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError, CorruptBackendError
from brrr_dynamo import parts
from brrr_dynamo.layout import MAX_INLINE_BYTES
from brrr_dynamo.options import MAX_VALUE
from brrr_testkit.servers.aws import dynamo_url

RANDOM = Random(7)
LARGE, OTHER = RANDOM.randbytes(900_000), RANDOM.randbytes(1_500_000)


@pytest.fixture
def key(prefix):
    return Key("value", f"{prefix}hash")


@pytest.fixture
def table_of_parts(dynamo_endpoint, aws_prefix, prefix):
    """A table for one test, in which all parts can be counted."""
    name = f"{aws_prefix}{prefix}parts"
    asyncio.run(brrr.open_backend(dynamo_url(name, dynamo_endpoint)).setup())
    return name


@pytest.fixture
def own_url(table_of_parts, dynamo_endpoint):
    return dynamo_url(table_of_parts, dynamo_endpoint)


@pytest.fixture
def left(dynamo, table_of_parts):
    """Count the parts and the index entries in the table."""

    def count():
        found = []
        for page in dynamo.get_paginator("scan").paginate(TableName=table_of_parts, ConsistentRead=True):
            found += page["Items"]
        return (
            sum(item["sk"]["S"] == "part" for item in found),
            sum(item["pk"]["S"] == "brrr_parts" for item in found),
        )

    return count


@pytest.mark.parametrize("size", [MAX_INLINE_BYTES - 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, 393_216 * 2, MAX_VALUE])
async def test_read_items_of_every_size_are_written_swapped_and_read_whole(backend, prefix, size):
    value = RANDOM.randbytes(size)
    written, created = Key("call", prefix), Key("value", prefix)
    await backend.store.write([(written, value)])
    assert await backend.store.swap([Swap(created, None, value)]) == [True]
    assert await backend.store.read([written, created]) == [value, value]
    assert await backend.store.swap([Swap(created, value, value)]) == [True]


async def test_replaced_value_loses_its_parts(own_url, left, key):
    async with brrr.open_backend(own_url) as backend:
        store = backend.store
        steps = [(None, LARGE, 3), (LARGE, OTHER, 4), (OTHER, b"small", 0), (b"small", LARGE, 3), (LARGE, None, 0)]
        for expected, new, count in steps:
            assert await store.swap([Swap(key, LARGE[1:], b"x"), Swap(key, expected, new)]) == [False, True]
            assert await store.read([key]) == [new]
            assert left() == (count, bool(count))


async def test_failed_swap_leaves_no_parts(own_url, left, key):
    async with brrr.open_backend(own_url) as backend:
        await backend.store.write([(key, b"theirs")])
        assert await backend.store.swap([Swap(key, None, LARGE), Swap(key, LARGE, OTHER)]) == [False, False]
    assert left() == (0, 0)


async def test_second_write_of_a_large_value_replaces_the_parts(own_url, left, key):
    async with brrr.open_backend(own_url) as backend:
        for value in (LARGE, OTHER, LARGE):
            await backend.store.write([(key, value)])
            assert await backend.store.read([key]) == [value]
    assert left() == (3, 1)


async def test_only_the_winning_creator_leaves_parts(own_url, left, key):
    async with brrr.open_backend(own_url) as backend:
        values = [bytes([number]) * 800_000 for number in range(4)]
        won = await asyncio.gather(*(backend.store.swap([Swap(key, None, value)]) for value in values))
        assert sorted(won) == [[False], [False], [False], [True]]
        assert await backend.store.read([key]) == [values[won.index([True])]]
    assert left() == (3, 1)


async def test_reader_of_replaced_parts_reads_again(proxy, table, backend, key):
    await backend.store.swap([Swap(key, None, LARGE)])
    async with brrr.open_backend(dynamo_url(table, proxy.endpoint, retry_for="5s")) as slow:
        replaced = []

        async def replace():
            if not replaced:
                replaced.append(await backend.store.swap([Swap(key, LARGE, OTHER)]))

        before = slow.store._read_items  # pyright: ignore[reportAttributeAccessIssue] - looks inside

        async def values(keys):
            found = await before(keys)
            await replace()
            return found

        slow.store._read_items = values  # pyright: ignore[reportAttributeAccessIssue] - looks inside
        assert await slow.store.read([key]) == [OTHER]
        assert replaced == [[True]]


async def test_reader_of_deleted_parts_finds_no_value(backend, key):
    await backend.store.swap([Swap(key, None, LARGE)])
    before, deleted = backend.store._read_items, []

    async def values(keys):
        found = await before(keys)
        if not deleted:
            deleted.append(True)
            assert await backend.store.swap([Swap(key, LARGE, None)]) == [True]
        return found

    backend.store._read_items = values
    assert await backend.store.read([key]) == [None]


async def test_missing_part_raises_corrupt_backend_error(backend, dynamo, table, item_of, key):
    await backend.store.swap([Swap(key, None, LARGE)])
    head = item_of(key.call_hash, "value")
    part = {"pk": {"S": f"brrr_part/{head['parts_id']['S']}/1"}, "sk": {"S": "part"}}
    dynamo.delete_item(TableName=table, Key=part)

    with pytest.raises(CorruptBackendError, match="some are missing") as caught:
        await backend.store.read([key])
    assert caught.value.remedy


async def test_head_has_no_value_attribute(backend, item_of, key):
    await backend.store.swap([Swap(key, None, LARGE)])

    head = item_of(key.call_hash, "value")
    assert "value" not in head


class TestCrashes:
    """`brrr setup` removes what a crash leaves behind, and nothing else."""

    @pytest.fixture(autouse=True)
    def _orphans_at_once(self, monkeypatch):
        monkeypatch.setattr(parts, "ORPHAN_AGE", 0)

    async def age(self):
        """Wait until earlier uploads are older than ORPHAN_AGE: their time has whole seconds."""
        await asyncio.sleep(1.01 - time.time() % 1)  # until the clock's next second

    @pytest.mark.parametrize("operation", ["BatchWriteItem", "PutItem"])
    async def test_parts_without_a_head_are_removed(self, proxy, table_of_parts, own_url, left, key, operation):
        async with brrr.open_backend(dynamo_url(table_of_parts, proxy.endpoint, retry_for="100ms")) as backend:
            if operation == "BatchWriteItem":
                proxy.plans.append(_after_first(proxy, operation))
            else:
                proxy.cut(operation, times=10_000)
            with pytest.raises(BackendUnavailableError):
                await backend.store.swap([Swap(key, None, LARGE)])
        assert left()[1] == 1
        await self.age()

        assert (await brrr.open_backend(own_url).setup())[-1] == "removed orphaned parts of 1 large values"
        assert left() == (0, 0)
        assert not any("orphaned" in line for line in await brrr.open_backend(own_url).setup())

    async def test_parts_of_a_replaced_value_are_removed(self, proxy, table_of_parts, own_url, left, key):
        async with brrr.open_backend(own_url) as backend:
            await backend.store.swap([Swap(key, None, LARGE)])
        async with brrr.open_backend(dynamo_url(table_of_parts, proxy.endpoint, retry_for="100ms")) as backend:
            proxy.cut("BatchWriteItem", times=10_000)
            assert await backend.store.swap([Swap(key, LARGE, b"small")]) == [True]
        assert left() == (3, 1)
        await self.age()

        await brrr.open_backend(own_url).setup()
        assert left() == (0, 0)

    async def test_parts_of_a_current_value_stay(self, own_url, left, key):
        async with brrr.open_backend(own_url) as backend:
            await backend.store.swap([Swap(key, None, LARGE)])
            await self.age()
            await backend.setup()
            assert await backend.store.read([key]) == [LARGE]
        assert left() == (3, 1)

    async def test_parts_of_a_swap_with_unknown_outcome_stay_if_its_head_exists(
        self, proxy, table_of_parts, own_url, left, key
    ):
        async with brrr.open_backend(dynamo_url(table_of_parts, proxy.endpoint, retry_for="100ms")) as backend:
            proxy.lose("PutItem")
            proxy.cut("BatchGetItem", times=10_000)
            with pytest.raises(AnswerLostError):
                await backend.store.swap([Swap(key, None, LARGE)])
        await self.age()
        async with brrr.open_backend(own_url) as backend:
            await backend.setup()
            assert await backend.store.read([key]) == [LARGE]


async def test_parts_younger_than_a_day_stay(own_url, left, table_of_parts, proxy, key):
    async with brrr.open_backend(dynamo_url(table_of_parts, proxy.endpoint, retry_for="100ms")) as backend:
        proxy.cut("PutItem", times=10_000)
        with pytest.raises(BackendError):
            await backend.store.swap([Swap(key, None, LARGE)])
    await brrr.open_backend(own_url).setup()

    assert left() == (3, 1)


@pytest.mark.parametrize("clock", ["monotonic", "time"])
async def test_upload_that_takes_more_than_an_hour_raises(backend, key, monkeypatch, clock):
    """Test both clocks: the monotonic one may stand still during sleep, the other may be set back."""
    begun = parts.Upload(parts.Head("0", 1, 1, b""))  # pyright: ignore[reportPrivateImportUsage]
    now = getattr(time, clock)()
    with monkeypatch.context() as patch:
        patch.setattr(time, clock, lambda: now + parts.UPLOAD_LIMIT + 1)
        with pytest.raises(BackendUnavailableError, match="more than an hour"):
            begun.check_age()

    monkeypatch.setattr(parts, "UPLOAD_LIMIT", -1)
    with pytest.raises(BackendUnavailableError, match="more than an hour"):
        await backend.store.swap([Swap(key, None, LARGE)])
    assert await backend.store.read([key]) == [None]


def _after_first(proxy, operation):
    """Cut every request of an operation except the first."""
    from brrr_testkit.faults.aws import Plan

    return Plan(lambda request: request.operation == operation and proxy.asked(operation) > 1, 10_000, before=True)
