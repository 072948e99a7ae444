"""Errors of the file are reported clearly, lose no data and leave nothing behind."""

import asyncio
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError, CorruptBackendError
from brrr_sqlite import schema
from brrr_sqlite.checkpoints import Checkpoints
from brrr_sqlite.clock import Clock
from brrr_sqlite.connection import Connection
from brrr_sqlite.errors import translate_error
from brrr_sqlite.location import OpenFile
from brrr_sqlite.options import SqliteOptions
from brrr_sqlite.transactions import LockRetry
from brrr_testkit.waiting import until

A = Key("value", "a")


def run_sql(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def refused(make, kind, match, **options):
    with pytest.raises(kind, match=match) as caught:
        await make(**options).open()
    assert caught.value.remedy
    return caught.value


async def test_missing_folder_is_reported(make, tmp_path):
    with pytest.raises(BackendUnavailableError, match=r"folder .*nowhere.* does not exist") as caught:
        await make(tmp_path / "nowhere" / "brrr.db").open()
    assert "brrr setup" in caught.value.remedy
    assert not (tmp_path / "nowhere").exists()


async def test_missing_file_is_refused_without_create(make, path):
    await refused(make, BackendUnavailableError, "does not exist, and create=false", create=False)
    assert not path.exists()


async def test_existing_file_opens_without_create(make):
    await make().setup()
    async with make(create=False) as backend:
        await backend.queue.put("t", [b"x"])


async def test_folder_at_the_path_is_refused(make, path):
    path.mkdir()
    await refused(make, BackendUnavailableError, "is a folder")


async def test_file_of_another_format_is_refused_unchanged(make, path):
    path.write_bytes(b"hello, world! " * 1000)
    error = await refused(make, CorruptBackendError, "is not a SQLite file")
    assert isinstance(error.__cause__, sqlite3.DatabaseError)
    assert path.read_bytes() == b"hello, world! " * 1000


async def test_sqlite_file_of_another_program_is_refused_unchanged(make, path):
    run_sql(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    await refused(make, CorruptBackendError, "belongs to another program")
    assert path.read_bytes() == before


async def test_refused_file_is_closed(path):
    run_sql(path, "CREATE TABLE theirs (x)")
    options = SqliteOptions()
    file = OpenFile(path)
    checkpoints = Checkpoints(file, options)
    connection = Connection(file, options, create=True, lock_retry=LockRetry(1), checkpoints=checkpoints, clock=Clock())
    with pytest.raises(CorruptBackendError) as caught:
        await connection.open()
    assert caught.value.__cause__ is not caught.value  # a chain with a cycle can trap code that follows causes
    opened = connection._opened
    await connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened.execute("SELECT 1")  # pyright: ignore[reportOptionalMemberAccess]


async def test_file_with_newer_tables_is_refused_unchanged(make, path):
    await make().setup()
    run_sql(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    error = await refused(
        make, CorruptBackendError, f"version {schema.VERSION + 1}, but .* knows version {schema.VERSION}"
    )
    assert "Install the newest brrr-sqlite" in error.remedy


async def test_damaged_page_is_reported(make, path):
    async with make() as backend:
        await backend.store.write([(Key("value", str(n)), b"x" * 1000) for n in range(100)])
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'record'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xaa" * 4096
    path.write_bytes(content)
    async with make() as backend:
        with pytest.raises(CorruptBackendError, match="is damaged"):
            await backend.store.read([A])
        with pytest.raises(CorruptBackendError, match="is damaged"):
            await backend.store.write([(A, b"x")])


@pytest.mark.parametrize("what", ["file", "folder"])
def test_missing_write_permission_is_reported(processes, what, tmp_path):
    """Run in a process without the rights of root, in a folder that it can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "brrr.db"
        processes._path = path
        script = """
import os
from brrr_core.errors import BackendUnavailableError

async def refused():
    elsewhere = SqliteBackend(BackendUrl("sqlite", path="/" + args[0]))
    async with elsewhere:  # import all modules first: perhaps only root can read them
        pass
    if not os.getuid():
        os.setuid(65534)
    await backend().open()

try:
    asyncio.run(refused())
except BackendUnavailableError as error:
    say(error)
"""
        if what == "file":
            run_sql(path, "PRAGMA journal_mode = delete")
            path.touch()
            path.chmod(stat.S_IREAD | stat.S_IRGRP | stat.S_IROTH)
        folder.chmod(0o777 if what == "file" else 0o555)
        said, _ = processes.start(script, tmp_path / "elsewhere.db").communicate(timeout=30)
        folder.chmod(0o755)
        assert "[BRRR-BACKEND-01]" in said
        assert ("cannot be written" if what == "file" else "cannot be created") in said
        assert "folder" in said


async def test_full_disk_fails_only_the_operations_that_do_not_fit(make):
    async with make() as backend:
        queue, store = backend.queue, backend.store
        await queue.put("t", [b"x"] * 10)
        held = await queue.receive("t", limit=5, wait=0)
        await backend._connection.run(lambda c: c.execute("PRAGMA max_page_count = 20").fetchone())
        acked, put = await asyncio.gather(queue.ack(held), queue.put("t", [b"y" * 1_000_000]), return_exceptions=True)
        assert acked is None
        assert isinstance(put, BackendUnavailableError)
        assert "disk is full" in str(put)
        with pytest.raises(BackendUnavailableError, match="disk is full"):
            await store.write([(A, b"x" * 1_000_000)])
        assert await store.read([A]) == [None]
        assert (await queue.stats("t"))[:2] == (5, 0)
        await backend._connection.run(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
        await store.write([(A, b"x" * 1_000_000)])


async def test_lock_held_longer_than_busy_timeout_fails_a_write(make, path):
    async with make(busy_timeout=0.05) as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendUnavailableError, match="locked by another process") as caught:
                await backend.queue.put("t", [b"x"])
            assert "busy_timeout" in caught.value.remedy
            assert await backend.store.read([A]) == [None]  # reads need no lock
        await backend.queue.put("t", [b"x"])


async def test_write_waits_for_a_lock_that_is_released_in_time(make, path):
    async with make() as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tries = []
            await backend._connection.run(lambda c: c.set_trace_callback(tries.append))
            put = asyncio.create_task(backend.queue.put("t", [b"x"]))
            await until(lambda: len(tries) > 3)
            assert set(tries) == {"BEGIN IMMEDIATE"}
        await put


async def test_lock_held_longer_than_busy_timeout_fails_opening(make, path):
    await make().setup()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refused(make, BackendUnavailableError, "locked by another process", busy_timeout=0.05)


async def test_cancelled_opening_leaves_no_lock_or_thread(make, path):
    await make().setup()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        backend = make(busy_timeout=3600.0)
        opening = asyncio.create_task(backend.open())
        await until(lambda: backend._connection and backend._connection._opened)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
    async with make() as backend:
        await backend.queue.put("t", [b"x"])


async def test_closed_backend_can_be_opened_again(make):
    backend = make()
    for n in range(3):
        async with backend:
            assert await backend.cache.increment({"a": 1}) == {"a": n + 1}


async def test_setup_creates_folder_and_file_and_reports_them(make, tmp_path):
    path = tmp_path / "a" / "b" / "brrr.db"
    assert await make(path, create=False).setup() == [
        f"created the folder {path.parent}",
        f"created {path} with tables of version 2",
    ]
    assert await make(path).setup() == [f"{path} exists and has tables of version 2"]


async def test_setup_reports_why_it_cannot_create_a_folder(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailableError, match="cannot create the folder"):
        await make(tmp_path / "file" / "b" / "brrr.db").setup()


async def test_connection_has_the_settings_of_the_options(make):
    async with make(synchronous="normal", page_cache=1 << 20, wal_size=1 << 20) as backend:
        names = ("journal_mode", "synchronous", "cache_size", "wal_autocheckpoint", "journal_size_limit")
        values = [
            await backend._connection.run(lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0])
            for name in names
        ]
        assert values == ["wal", 1, -1024, 0, 1 << 20]


def remove(path):
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def replace(path):
    run_sql(path.with_name("other.db"), "CREATE TABLE theirs (x)")
    path.with_name("other.db").rename(path)


def remove_log(path):
    path.with_name(f"{path.name}-wal").unlink()


GONE = {"removed": remove, "replaced": replace, "moved": lambda path: path.rename(path.with_name("moved.db"))}


@pytest.mark.parametrize("how", GONE)
async def test_every_operation_fails_after_the_file_is_gone(make, path, how):
    async with make() as backend:
        await backend.queue.put("t", [b"x"])
        GONE[how](path)
        for operation in (
            backend.queue.put("t", [b"y"]),
            backend.queue.receive("t", limit=1, wait=0),
            backend.store.read([A]),
            backend.cache.increment({"a": 1}),
        ):
            with pytest.raises(BackendClosedError, match="removed, moved or replaced while it was open") as caught:
                await operation
            assert "Restart this process" in caught.value.remedy


@pytest.mark.parametrize("how", GONE)
async def test_waiting_receiver_fails_after_the_file_is_gone(make, path, how):
    async with make() as backend:
        receiver = asyncio.create_task(backend.queue.receive("t", limit=1, wait=60))
        await until(lambda: backend._commits.receivers._waiting)
        GONE[how](path)
        with pytest.raises(BackendClosedError, match="removed, moved or replaced"):
            await receiver


async def test_write_fails_after_the_log_was_removed(make, path):
    async with make() as backend:
        await backend.queue.put("t", [b"x"])
        remove_log(path)
        with pytest.raises(BackendClosedError, match=r"-wal was removed"):
            await backend.queue.put("t", [b"y"])


async def test_operations_succeed_again_after_the_file_is_moved_back(make, path):
    async with make() as backend:
        path.rename(path.with_name("moved.db"))
        with pytest.raises(BackendClosedError):
            await backend.queue.put("t", [b"x"])
        path.with_name("moved.db").rename(path)
        await backend.queue.put("t", [b"x"])
        assert (await backend.queue.stats("t")).ready == 1


async def test_worker_ends_after_its_file_was_removed(path):
    async with brrr.serve(f"sqlite:///{path}") as connection:
        app = brrr.AppWorker(handlers={}, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop("t", app.handle))
        await until(lambda: path.with_name(f"{path.name}-wal").exists())
        remove(path)
        with pytest.raises(BackendClosedError, match="removed, moved or replaced"):
            await loop


@pytest.mark.parametrize(("options", "mode"), [({}, 0o600), ({"mode": "0660"}, 0o660), ({"mode": "644"}, 0o644)])
async def test_new_files_have_the_permissions_of_the_mode_option(make, path, options, mode):
    async with make(**options) as backend:
        await backend.queue.put("t", [b"x"])
        files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert files == dict.fromkeys(("brrr.db", "brrr.db-wal", "brrr.db-shm", "brrr.db-hints"), mode)


async def test_existing_file_keeps_its_permissions(make, path):
    path.touch(0o640)
    async with make() as backend:
        await backend.queue.put("t", [b"x"])
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o640}


async def test_closing_the_last_backend_removes_the_log(make, path):
    async with make() as backend:
        await backend.queue.put("t", [b"x"])
    assert list(path.parent.iterdir()) == [path]


def test_unknown_error_becomes_a_backend_error():
    error = translate_error(ValueError("odd"), Path("f.db"))
    assert type(error) is BackendError
    assert "ValueError (odd)" in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_every_translated_error_has_a_remedy(path):
    errors = [sqlite3.OperationalError("x"), RuntimeError("x")]
    for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH):
        error = sqlite3.DatabaseError("x")
        error.sqlite_errorcode = code
        errors.append(error)

    assert [str(ours) for ours in (translate_error(error, path) for error in errors) if not ours.remedy] == []
