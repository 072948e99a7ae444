"""Checkpoints keep the log small, and never run at the same time as a commit."""

import os
import sqlite3
from contextlib import closing

from brrr_core.backend import Key

A = Key("value", "a")
SMALL = 1 << 16


async def write(backend, size=1000):
    await backend.store.write([(A, os.urandom(size))])  # SQLite skips a write that changes nothing


def completed(backend):
    return backend._transactions._checkpoints.completed


async def test_small_log_needs_no_checkpoint(make):
    async with make() as backend:
        for _ in range(20):
            await write(backend)
        assert completed(backend) == 0
        assert backend._transactions._checkpoints._connection is None


async def test_log_stays_near_wal_size(make, path):
    async with make(wal_size=SMALL) as backend:
        sizes = []
        for _ in range(200):
            await write(backend)
            sizes.append(path.with_name("brrr.db-wal").stat().st_size)
        assert max(sizes) <= 1.5 * SMALL
        assert 5 <= completed(backend) <= 100
    assert path.stat().st_size > 0


async def test_log_is_truncated_after_a_huge_write(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend, 5_000_000)
        assert path.with_name("brrr.db-wal").stat().st_size > 5_000_000
        await write(backend)
        assert path.with_name("brrr.db-wal").stat().st_size <= SMALL
        assert path.stat().st_size > 5_000_000


async def test_no_other_process_can_commit_during_a_checkpoint(make, path, monkeypatch):
    async with make(wal_size=SMALL) as backend:
        checkpoints = backend._transactions._checkpoints
        tried = []

        class CheckpointConnection:
            def execute(self, statement):
                with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
                    try:
                        other.execute("BEGIN IMMEDIATE")
                    except sqlite3.OperationalError as error:
                        tried.append((statement, str(error)))
                return self

            def fetchall(self):
                return []

        monkeypatch.setattr(checkpoints, "_open", CheckpointConnection)
        await write(backend, 2 * SMALL)
        assert tried == [("PRAGMA wal_checkpoint(PASSIVE)", "database is locked")]


async def test_open_reader_does_not_cause_a_checkpoint_at_every_commit(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM record").fetchall()
            for _ in range(100):
                await write(backend)
            grown = path.with_name("brrr.db-wal").stat().st_size
            assert completed(backend) <= 4 * grown / SMALL
        for _ in range(20):
            await write(backend)
        assert path.with_name("brrr.db-wal").stat().st_size <= 1.5 * SMALL


async def test_failed_checkpoint_fails_no_operation(make, monkeypatch):
    async with make(wal_size=SMALL) as backend:
        checkpoints = backend._transactions._checkpoints

        def full():
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(checkpoints, "_open", full)
        await write(backend, 2 * SMALL)
        await write(backend)
        assert completed(backend) == 0
        monkeypatch.undo()
        await write(backend)
        assert completed(backend) == 1


async def test_closing_also_closes_the_checkpoint_connection(make, path):
    async with make(wal_size=SMALL) as backend:
        await write(backend, 2 * SMALL)
        assert completed(backend) == 1
    assert list(path.parent.iterdir()) == [path]
