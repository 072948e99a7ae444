"""`ttl`: values expire after their last read, with their calls. Files of version 1 get the column for it."""

import sqlite3
from contextlib import closing

import pytest

from brrr_core.backend import Key, Reading, Step, Swap
from brrr_core.codec import FAILURE_PREFIX
from brrr_core.errors import OptionError
from brrr_sqlite import schema

HOUR = 3600.0


def key(kind, name="a"):
    return Key(kind, name)


async def left(backend, *names):
    """Return the kinds of the records that are in the file, without a read of the store, which would refresh them."""
    rows = await backend._connection.run(lambda c: c.execute("SELECT hash, kind FROM record").fetchall())
    return sorted((name, ("call", "pending_returns", "value")[kind]) for name, kind in rows)


async def touch(backend):
    """Write something, so that expired records are swept."""
    await backend.queue.put("other", [b"x"])


@pytest.fixture
async def short(make, clocks):
    async with make(clocks=clocks, ttl=HOUR) as backend:
        yield backend


async def finish(backend, name="a"):
    await backend.store.write([(key("call", name), b"call")])
    await backend.store.swap([Swap(key("value", name), None, b"value")])


async def test_value_expires_with_its_call_and_an_unfinished_call_does_not(short, clocks):
    await finish(short)
    await short.store.write([(key("call", "b"), b"call"), (key("pending_returns", "b"), b"x")])
    await short.store.write([(key("value", "brrr.control"), b"1"), (key("value", "brrr.due/b/0"), b"1")])
    clocks.now += HOUR - 1
    await touch(short)
    assert len(await left(short)) == 6
    clocks.now += 2
    await touch(short)
    assert await left(short) == [("b", "call"), ("b", "pending_returns"), ("brrr.control", "value")]


@pytest.mark.parametrize(("share", "refreshed"), [(0.24, False), (0.26, True)])
async def test_read_refreshes_a_value_and_its_call_once_a_quarter_of_the_ttl_is_over(short, clocks, share, refreshed):
    await finish(short)
    before = short.transactions
    clocks.now += share * HOUR
    assert await short.store.read([key("value"), key("value", "absent")]) == [b"value", None]
    assert (short.transactions > before) == refreshed
    clocks.now += (1 - share) * HOUR + 1
    await touch(short)
    assert (await left(short) != []) == refreshed


async def test_message_refreshes_the_value_of_its_call(short, clocks):
    await finish(short)
    clocks.now += HOUR / 2
    await short.queue.put("t", [b"li2e4:root1:ae"])
    (received,) = await short.steps.receive("t", limit=1, wait=0, readings=[Reading("value")])
    assert received.records == [b"value"]
    clocks.now += HOUR / 2 + 1
    await touch(short)
    assert await left(short) == [("a", "call"), ("a", "value")]


async def test_step_that_writes_a_value_lets_the_call_expire(short, clocks):
    await short.store.write([(key("call"), b"call")])
    step = Step(expected=[(key("value"), None)], writes=[(key("value"), b"value")])
    assert await short.steps.commit([step]) == [[]]
    clocks.now += HOUR + 1
    await touch(short)
    assert await left(short) == []


@pytest.mark.parametrize("with_ttl", [True, False])
async def test_call_whose_failure_is_deleted_does_not_expire(short, clocks, make, with_ttl):
    await finish(short)
    if with_ttl:
        assert await short.store.swap([Swap(key("value"), b"value", None)]) == [True]
    else:
        async with make(clocks=clocks) as other:
            assert await other.store.swap([Swap(key("value"), b"value", None)]) == [True]
    clocks.now += 10 * HOUR
    await touch(short)
    assert await left(short) == [("a", "call")]


async def test_backend_without_ttl_deletes_nothing_by_itself(short, clocks, make):
    await finish(short)
    clocks.now += 2 * HOUR
    async with make(clocks=clocks) as other:
        await touch(other)
        assert len(await left(other)) == 2
        assert other.store.expires_after is None
        assert await other.collect(dry_run=True) == [
            "would remove 2 expired records",
            "would remove 0 records of sleeps, versions and states that finished calls left over",
        ]
        assert (await other.collect(dry_run=False))[0] == "removed 2 expired records"
        assert await left(other) == []
    assert short.store.expires_after == HOUR


async def test_collection_removes_what_finished_calls_left_over(backend):
    names = ["done", "failed", "running"]
    kinds = [
        "brrr.due/{}/0",
        "brrr.wait/{}/key-1",
        "brrr.state/{}",
        "brrr.version/{}",
        "brrr.version/{}/2",
        "brrr.buried/{}",
    ]
    await backend.store.write([(key("value", kind.format(name)), b"1") for name in names for kind in kinds])
    others = ["brrr.control", "brrr.control/forgotten", "brrr.cancelled/done", "brrr.cron/done"]
    await backend.store.write([(key("value", name), b"1") for name in others])
    await backend.store.write([(key("value", "done"), b"5"), (key("value", "failed"), FAILURE_PREFIX + b"x")])
    assert "would remove 6 records" in (await backend.collect(dry_run=True))[1]
    assert "removed 6 records" in (await backend.collect(dry_run=False))[1]
    assert len(await left(backend)) == 2 * 6 + 4 + 2
    assert not [
        name for name, _ in await left(backend) if "/done" in name and "cancelled" not in name and "cron" not in name
    ]


async def test_file_of_version_1_is_migrated_and_keeps_its_records(make, path, clocks):
    await make().setup()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP INDEX record_by_until; ALTER TABLE record DROP COLUMN until; PRAGMA user_version = 1;"
            "INSERT INTO record (hash, kind, value) VALUES ('a', 2, x'76');"
        )
    async with make(clocks=clocks, ttl=HOUR) as backend:
        assert await backend.store.read([key("value")]) == [b"v"]
        await finish(backend, "b")
        clocks.now += 2 * HOUR
        await touch(backend)
        assert await left(backend) == [("a", "value")]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_ttl_that_is_too_short_is_refused(make):
    with pytest.raises(OptionError, match="ttl is 60 s"):
        make(ttl=60.0)
