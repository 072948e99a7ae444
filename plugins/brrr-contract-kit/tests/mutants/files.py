"""Mutants of the SQLite backend: several processes can share them."""

import asyncio
import atexit
import os
import shutil
import sqlite3
import tempfile
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


class Meddles(SqliteBackend):
    """Changes its file by SQL when it is set up, opened or closed."""

    on_setup = on_opening = on_closing = "SELECT 1"
    connection = None

    async def setup(self):
        done = await super().setup()
        self.change(self.on_setup)
        self.disconnect()
        return done

    async def start(self):
        self.path.parent.mkdir(exist_ok=True)
        roles = await super().start()
        self.change(self.on_opening)
        return roles

    async def stop(self):
        self.change(self.on_closing)
        self.disconnect()
        await super().stop()

    def change(self, statement, values=()):
        """Run a statement in a transaction of its own, and return its rows."""
        if self.connection is None:
            self.connection = sqlite3.connect(self.path, isolation_level=None)
            self.connection.execute("PRAGMA synchronous = OFF")
        return self.connection.execute(statement, values).fetchall()

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class ReleasesTheFile(Meddles):
    """Opening releases all leases in the file."""

    on_opening = "UPDATE message SET lease = 0, due = 0 WHERE lease <> 0"


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class HurriesTheFile(Meddles):
    """Opening makes all delayed messages in the file ready."""

    on_opening = "UPDATE message SET due = 0 WHERE lease = 0"


@of_file("BACKEND-BESIDE-01", "BACKEND-BESIDE-02")
class SettlesTheFile(Meddles):
    """Closing acknowledges all leased messages in the file."""

    on_closing = "DELETE FROM message WHERE lease <> 0"


@of_file("BACKEND-BESIDE-01")
class ClearsTheFile(Meddles):
    """Setup empties the table of records."""

    on_setup = "DELETE FROM record"


@of_file("BACKEND-BESIDE-03", "QUEUE-DURABLE-01", "QUEUE-DURABLE-02")
class KeepsDelaysInItsProcess(Meddles):
    """The process keeps messages that are released with a delay in its memory until they are due."""

    async def start(self):
        roles = await super().start()
        self.keeping = _KeepsReleases(roles.queue)
        return replace(roles, queue=self.keeping)

    async def stop(self):
        for task in self.keeping.later:
            task.cancel()
        await super().stop()


class _SettlesBySql(Meddles):
    """Settles by statements of its own, each in a transaction of its own."""

    async def start(self):
        roles = await super().start()
        return replace(roles, queue=self.queue_kind(roles.queue, self))


class _SqlQueue(QueueOver):
    def __init__(self, inner, backend):
        super().__init__(inner)
        self.change = backend.change


@of_file("QUEUE-EXPIRE-01")
class AcknowledgesByToken(_SettlesBySql):
    """An acknowledgement compares the token of the lease, and not its end."""

    class queue_kind(_SqlQueue):  # noqa: N801 - replaces an attribute of that name
        async def ack(self, deliveries):
            for each in deliveries:
                self.change("DELETE FROM message WHERE id = ? AND lease = ?", each.receipt)


@of_file("QUEUE-EXPIRE-01")
class ExtendsByToken(_SettlesBySql):
    """An extension compares the token of the lease, and not its end."""

    class queue_kind(_SqlQueue):  # noqa: N801 - replaces an attribute of that name
        async def extend(self, deliveries):
            until = self.inner._clock() + self.inner.lease_us
            for each in deliveries:
                self.change("UPDATE message SET due = ? WHERE id = ? AND lease = ?", (until, *each.receipt))


@of_file("QUEUE-EXPIRE-02")
class ExtendsInTwoTransactions(_SettlesBySql):
    """An extension reads the lease in one transaction, and writes it in another one."""

    class queue_kind(_SqlQueue):  # noqa: N801 - replaces an attribute of that name
        async def extend(self, deliveries):
            for each in deliveries:
                now = self.inner._clock()
                if self.change("SELECT 1 FROM message WHERE id = ? AND lease = ? AND due > ?", (*each.receipt, now)):
                    await asyncio.sleep(0.05)
                    message, lease = each.receipt
                    until = self.inner._clock() + self.inner.lease_us
                    self.change("UPDATE message SET lease = ?, due = ? WHERE id = ?", (lease, until, message))


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
