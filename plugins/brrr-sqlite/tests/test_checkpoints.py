"""The log is moved into the file in time, and never beside another commit."""

import os
import sqlite3
from contextlib import closing

from brrr_core.backend import Key

A = Key("value", "a")
SMALL = 1 << 16


async def write(backend, size=1000):
    await backend.store.write([(A, os.urandom(size))])  # SQLite skips a write that changes nothing


def done(backend):
    return backend._transactions._checkpoints.completed


async def test_nothing_is_moved_before_its_time(make):
    async with make() as backend:
        for _ in range(20):
            await write(backend)
        assert done(backend) == 0
        assert backend._transactions._checkpoints._connection is None


async def test_the_log_stays_at_its_size(make, path):
    async with make(wal_size=SMALL) as backend:
        sizes = []
        for _ in range(200):
            await write(backend)
            sizes.append(path.with_name("brrr.db-wal").stat().st_size)
        assert max(sizes) <= 1.5 * SMALL
        assert 5 <= done(backend) <= 100
    assert path.stat().st_size > 0


async def test_the_log_of_a_huge_write_is_cut_back(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend, 5_000_000)
        assert path.with_name("brrr.db-wal").stat().st_size > 5_000_000
        await write(backend)
        assert path.with_name("brrr.db-wal").stat().st_size <= SMALL
        assert path.stat().st_size > 5_000_000


async def test_nobody_can_commit_while_the_log_is_moved(make, path, monkeypatch):
    async with make(wal_size=SMALL) as backend:
        checkpoints = backend._transactions._checkpoints
        tried = []

        class Mover:
            def execute(self, statement):
                with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
                    try:
                        other.execute("BEGIN IMMEDIATE")
                    except sqlite3.OperationalError as error:
                        tried.append((statement, str(error)))
                return self

            def fetchall(self):
                return []

        monkeypatch.setattr(checkpoints, "_open", Mover)
        await write(backend, 2 * SMALL)
        assert tried == [("PRAGMA wal_checkpoint(PASSIVE)", "database is locked")]


async def test_a_log_that_somebody_reads_is_not_tried_at_every_commit(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM record").fetchall()
            for _ in range(100):
                await write(backend)
            grown = path.with_name("brrr.db-wal").stat().st_size
            assert done(backend) <= 4 * grown / SMALL
        for _ in range(20):
            await write(backend)
        assert path.with_name("brrr.db-wal").stat().st_size <= 1.5 * SMALL


async def test_a_checkpoint_that_fails_fails_nobody(make, monkeypatch):
    async with make(wal_size=SMALL) as backend:
        checkpoints = backend._transactions._checkpoints

        def full():
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(checkpoints, "_open", full)
        await write(backend, 2 * SMALL)
        await write(backend)
        assert done(backend) == 0
        monkeypatch.undo()
        await write(backend)
        assert done(backend) == 1


async def test_the_second_connection_goes_too(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend, 2 * SMALL)
        assert done(backend) == 1
    assert list(path.parent.iterdir()) == [path]
