"""Mutants of the SQLite backend that trust the wall clock of their process, or expect to be set up by one caller."""

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from brrr_core.errors import BackendError
from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.clock import Clock
from mutants.files import of_file
from mutants.kit import MemoryBackend, QueueOver, breaks  # type: ignore[attr-defined]


class _WallClock(Clock):
    """The wall clock of this process."""

    def __call__(self):
        return time.time_ns() // 1000


class _InFolder(SqliteBackend):
    """Creates the folder of its file."""

    async def start(self):
        self.path.parent.mkdir(exist_ok=True)
        return await super().start()


@of_file("QUEUE-CLOCK-01", "QUEUE-CLOCK-02")
class TrustsItsClock(_InFolder):
    """Leases and delays end by the wall clock of the process that looks."""

    def __init__(self, url, options=None):
        super().__init__(url, options, clock=_WallClock())


def _skew():
    """Return the seconds by which the wall clock of this process is ahead."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    (booted,) = (int(line.split()[1]) for line in lines if line.startswith("btime"))
    ahead = time.time() - booted - time.clock_gettime(time.CLOCK_BOOTTIME)
    return ahead if abs(ahead) > 60 else 0.0


class _DelaysByClock(QueueOver):
    async def put(self, topic, bodies, *, delay=0):
        await self.inner.put(topic, bodies, delay=max(0.0, delay + _skew()) if delay else 0)


@of_file("QUEUE-CLOCK-01", "QUEUE-CLOCK-02")
class DelaysByItsClock(_InFolder):
    """A delay ends at a time of the wall clock of the process that puts the message."""

    async def start(self):
        roles = await super().start()
        return replace(roles, queue=_DelaysByClock(roles.queue))


@of_file("BACKEND-SETUP-01", "BACKEND-SETUP-02")
class CreatesBlindly(_InFolder):
    """Setup checks whether a table exists, and then creates it."""

    async def setup(self):
        self.path.parent.mkdir(exist_ok=True)
        done = await super().setup()
        with closing(sqlite3.connect(self.path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'extra'").fetchone():
                return done
            await asyncio.sleep(0.2)
            try:
                connection.execute("CREATE TABLE extra (x)")
            except sqlite3.OperationalError as error:
                raise BackendError(f"setup failed ({error})", remedy="Try again.") from error
        return [*done, "created a table"]

    async def stop(self):
        await super().stop()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DROP TABLE IF EXISTS extra")


@breaks("BACKEND-SETUP-01")
class SetsUpAlone(MemoryBackend):
    """Only one setup can run at a time."""

    running = False

    async def setup(self):
        if SetsUpAlone.running:
            raise BackendError("another setup is running", remedy="Wait for it.")
        SetsUpAlone.running = True
        await asyncio.sleep(0)
        SetsUpAlone.running = False
        return []
