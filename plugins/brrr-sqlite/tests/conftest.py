"""Shared fixtures: files, backends on them, clocks that tests set, and processes."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from brrr_core.backend import BackendUrl, Cache, Queue, Store
from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.clock import Clock
from brrr_sqlite.options import SqliteOptions

MakeBackend = Callable[..., SqliteBackend]

PRELUDE = """
import asyncio, sys
from brrr_core.backend import BackendUrl, Key, Swap
from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.options import SqliteOptions

path, *args = sys.argv[1:]

def backend(**options):
    return SqliteBackend(BackendUrl("sqlite", path="/" + path), SqliteOptions(**options))

def say(*words):
    print(*words, flush=True)

def wait_for_go():
    say("ready")
    sys.stdin.readline()
"""


class ManualClocks:
    """The clocks of a machine, in seconds, which tests set: the steady clock, and the wall clock `ahead` of it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.ahead = 0.0
        self.boot = "first"

    def clock(self) -> Clock:
        return Clock(lambda: round(self.now * 1e9), lambda: round((self.now + self.ahead) * 1e9), lambda: self.boot)


class Processes:
    """Python processes that run a script on the file. The fixture kills those that still run at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running: list[subprocess.Popen[str]] = []

    def start(self, script: str, *args: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + script, str(self._path), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def race(self, count: int, script: str) -> list[str]:
        """Start `count` processes, let them go at the same time, and return the output of each."""
        racers = [self.start(script, number) for number in range(count)]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60)[0] for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * count
        return said

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


class BlockedThread:
    """Keep the backend's thread busy inside the `async with`, so that new operations wait in a known order."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend
        self._go = threading.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._backend._connection.run(lambda _: self._go.wait(30)))
        await asyncio.sleep(0)  # now it is in the queue of the thread
        return self

    async def __aexit__(self, *_: object) -> None:
        self._go.set()
        assert await self._task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "brrr.db"


@pytest.fixture
def clocks() -> ManualClocks:
    return ManualClocks()


@pytest.fixture
def make(path: Path) -> MakeBackend:
    def make(where: Path = path, *, clocks: ManualClocks | None = None, **options: object) -> SqliteBackend:
        clock = None if clocks is None else clocks.clock()
        return SqliteBackend(BackendUrl("sqlite", path=f"/{where}"), SqliteOptions(**options), clock=clock)

    return make


@pytest.fixture
async def backend(make: MakeBackend, clocks: ManualClocks) -> AsyncIterator[SqliteBackend]:
    """An open backend that uses the clocks of the test."""
    async with make(clocks=clocks) as backend:
        yield backend


@pytest.fixture
def queue(backend: SqliteBackend) -> Queue:
    return backend.queue


@pytest.fixture
def store(backend: SqliteBackend) -> Store:
    return backend.store


@pytest.fixture
def cache(backend: SqliteBackend) -> Cache:
    return backend.cache


@pytest.fixture
def blocked_thread() -> type[BlockedThread]:
    return BlockedThread


@pytest.fixture
def processes(path: Path) -> Iterator[Processes]:
    processes = Processes(path)
    yield processes
    processes.end()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("brrr-sqlite")]
    assert not left
