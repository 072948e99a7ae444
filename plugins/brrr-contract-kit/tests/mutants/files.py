"""Mutants of the SQLite backend: several processes can share them."""

import asyncio
import atexit
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.manifest import MANIFEST
from mutants.kit import QueueOver
from mutants.liars import by_url

FOLDER = Path(tempfile.gettempdir()) / f"brrr-mutants-{os.getpid()}"
"""The folder of the files of this process. The backends create it."""

atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def of_file(*rules):
    """Register a mutant of the SQLite backend, with a file of its own."""
    return by_url(*rules, url=f"{{scheme}}:///{FOLDER}/{{scheme}}.db", manifest=MANIFEST)


class _Meddles(SqliteBackend):
    """Changes its file by SQL when it is set up, opened or closed."""

    on_setup = on_opening = on_closing = "SELECT 1"

    async def setup(self):
        done = await super().setup()
        self.change(self.on_setup)
        return done

    async def start(self):
        self.path.parent.mkdir(exist_ok=True)
        roles = await super().start()
        self.change(self.on_opening)
        return roles

    async def stop(self):
        self.change(self.on_closing)
        await super().stop()

    def change(self, statement):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement)


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class ReleasesTheFile(_Meddles):
    """Opening releases all leases in the file."""

    on_opening = "UPDATE message SET lease = 0, due = 0 WHERE lease <> 0"


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class HurriesTheFile(_Meddles):
    """Opening makes all delayed messages in the file ready."""

    on_opening = "UPDATE message SET due = 0 WHERE lease = 0"


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class SettlesTheFile(_Meddles):
    """Closing acknowledges all leased messages in the file."""

    on_closing = "DELETE FROM message WHERE lease <> 0"


@of_file("BACKEND-BESIDE-01")
class ClearsTheFile(_Meddles):
    """Setup empties the table of records."""

    on_setup = "DELETE FROM record"


@of_file("BACKEND-BESIDE-03", "QUEUE-DURABLE-01", "QUEUE-DURABLE-02")
class KeepsDelaysInItsProcess(_Meddles):
    """The process keeps messages that are released with a delay in its memory until they are due."""

    async def start(self):
        roles = await super().start()
        self.keeping = _KeepsReleases(roles.queue)
        return replace(roles, queue=self.keeping)

    async def stop(self):
        for task in self.keeping.later:
            task.cancel()
        await super().stop()


class _KeepsReleases(QueueOver):
    def __init__(self, inner):
        super().__init__(inner)
        self.later = set()

    async def release(self, deliveries, *, delay=0):
        if not delay:
            await self.inner.release(deliveries)
            return
        await self.inner.ack(deliveries)
        self.later.add(asyncio.create_task(self._later(deliveries, delay)))

    async def _later(self, deliveries, delay):
        await asyncio.sleep(delay)
        for each in deliveries:
            await self.inner.put(each.topic, [each.body])
