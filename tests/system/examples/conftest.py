"""Worker processes of an example, in a folder of their own; some of them are killed at random moments."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_testkit.servers.redis import redis_server
from brrr_testkit.waiting import until

__all__ = ["TIMEOUT", "Fleet", "redis_server"]

ROOT = Path(__file__).resolve().parents[3]
BRRR = Path(sys.executable).with_name("brrr")
TIMEOUT = 90.0
"""Seconds that a test waits for a step. On a busy machine a worker takes seconds to start."""
ROUNDS = range(1 + int(os.environ.get("BRRR_SOAK_ROUNDS", "0")))


class Fleet:
    """Worker processes, and a client of their backend.

    Attributes:
        dice: Decides about the kills. `BRRR_SEED=17` repeats a seed.
        killed: The number of kills so far.
    """

    def __init__(self, folder: Path, url: str, client: brrr.AppConsumer, connection: brrr.Connection) -> None:
        self.folder = folder
        self.client = client
        self.connection = connection
        self.killed = 0
        seed = os.environ.get("BRRR_SEED") or str(random.randrange(10_000))
        print(f"BRRR_SEED={seed}")  # noqa: T201 - pytest shows it if the test fails
        self.dice = random.Random(seed)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("BRRR_", "PYTEST"))}
        self.environ = {**kept, "BRRR_QUEUE": url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        self._workers: list[tuple[subprocess.Popen[bytes], tuple[str, ...]]] = []

    @property
    def log(self) -> str:
        """Return all that the workers have written."""
        return (self.folder / "fleet.log").read_text()

    def run(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """Run a command in the folder. Its output goes to the log."""
        with (self.folder / "fleet.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self, *arguments: str, count: int = 1) -> None:
        """Start worker processes. Only kills may keep a call from its outcome, so these count for nothing."""
        for _ in range(count):
            process = self.run(BRRR, "worker", *arguments, "--max-crashes", "1000", "--max-deliveries", "1000")
            self._workers.append((process, arguments))

    def at_work(self) -> list[tuple["subprocess.Popen[bytes]", tuple[str, ...]]]:
        """Return the workers that have begun to work."""
        log = self.log
        return [worker for worker in self._workers if f"[{worker[0].pid}] working on" in log]

    async def kill(self) -> None:
        """Kill a worker with SIGKILL, and start another in its place. Wait until at least one other works."""
        await until(lambda: len(self.at_work()) > 1, "two workers work", bound=TIMEOUT)
        worker = process, arguments = self.dice.choice(self.at_work())
        self._workers.remove(worker)
        assert process.poll() is None, self.log
        process.kill()
        process.wait()
        self.killed += 1
        self.start(*arguments)

    def runs(self, arguments: tuple[str, ...]) -> bool:
        """Whether a worker with these arguments runs."""
        return any(each == arguments for _, each in self._workers)

    async def replace(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Replace a worker, which stops gracefully, by one with other arguments."""
        self.start(*new)
        newest, _ = self._workers[-1]
        await until(lambda: f"[{newest.pid}] working on" in self.log or newest.poll() is not None, bound=TIMEOUT)
        process = next(process for process, arguments in self._workers if arguments == old)
        self._workers.remove((process, old))
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, "the worker stops", bound=TIMEOUT)
        assert process.returncode in (0, -signal.SIGTERM), self.log  # the latter before it has begun

    @asynccontextmanager
    async def killing(self, kills: int) -> AsyncIterator[None]:
        """Kill workers at random moments within the block, at most `kills` times."""

        async def kill() -> None:
            for _ in range(kills):
                await asyncio.sleep(self.dice.uniform(0.2, 1.2))  # any moment will do: nothing waits for it
                await self.kill()

        killer = asyncio.create_task(kill())
        try:
            yield
        finally:
            killer.cancel()
            await asyncio.wait([killer])
        assert killer.cancelled() or killer.exception() is None, killer.exception()
        assert self.killed, "no worker was killed in time"

    async def dead(self, topic: str) -> list[str]:
        """Return the reasons of all dead letters."""
        return [letter.reason for letter in await self.connection.queue.dead(topic, limit=100)]

    def close(self) -> None:
        """End all workers."""
        for process, _ in self._workers:
            process.kill()
            process.wait()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.exhaustive)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty backend with a short lease, so that another worker soon takes a killed one's calls."""
    if request.param == "redis":
        yield f"{request.getfixturevalue('redis_server').url}?prefix={tmp_path.parent.name}-{tmp_path.name}:&lease=1s"
    else:
        yield f"sqlite:///{tmp_path}/brrr.db?lease=1s"


@pytest.fixture
async def fleet(tmp_path: Path, url: str) -> AsyncIterator[Fleet]:
    async with brrr.connect(url) as connection:
        fleet = Fleet(tmp_path, url, brrr.AppConsumer(codec="json", connection=connection), connection)
        yield fleet
        fleet.close()


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.soak if n else ()) for n in ROUNDS])
def round_(request: pytest.FixtureRequest) -> int:
    """Repeat a test with other kills."""
    number: int = request.param
    return number
