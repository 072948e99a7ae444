"""Five worker processes run one schedule while some are killed: no tick is missed, and each is one call.

`python test_workers.py URL FOLDER` runs one worker.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

import brrr_core as brrr
import brrr_cron
from brrr_testkit.servers.redis import Server, valkey_program
from brrr_testkit.waiting import wait_until
from brrr_testkit.workloads.fleet import TOPIC

PATIENCE = 120.0
"""Seconds to wait for a step of five processes on a busy machine."""

TICKS = 10
"""Ticks to wait for, one each second."""


@brrr.handler
def note(app: brrr.ActiveWorker, tick: datetime) -> str:
    """Write a line for each run into a file of the tick."""
    with Path(sys.argv[2], f"{tick:%Y%m%dT%H%M%S}").open("a") as file:
        file.write(f"{app.call_hash}\n")
    return f"{tick:%H:%M:%S}"


async def work(url: str) -> None:
    """Run a worker until it is killed."""
    async with brrr.serve(url, policy=brrr.Policy(max_deliveries=10_000, max_crashes=10_000)) as connection:
        app = brrr.AppWorker(handlers={"note": note}, codec="json", connection=connection)
        schedule = brrr_cron.every("* * * * * *", note, name="note", missed="all")
        await connection.loop(TOPIC, app.handle, schedules=[schedule])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(valkey_program(), tmp_path_factory.mktemp("redis")).start()
    yield started
    started.stop()


def url_of(backend: str, lease: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if backend == "redis":
        return f"{request.getfixturevalue('server').url}?lease={lease}&prefix={tmp_path.name}."
    return f"sqlite:///{tmp_path}/brrr.db?lease={lease}"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def start(url: str, notes: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, __file__, url, str(notes)])


def runs_of(notes: Path) -> Counter[datetime]:
    """Return how often each tick was run."""
    return Counter(
        {
            datetime.strptime(file.name, "%Y%m%dT%H%M%S").replace(tzinfo=UTC): len(file.read_text().splitlines())
            for file in notes.iterdir()
        }
    )


def has_run(notes: Path, ticks: int) -> bool:
    return len(runs_of(notes)) >= ticks


def without_a_gap(ticks: Counter[datetime]) -> bool:
    first = min(ticks)
    return set(ticks) == {first + timedelta(seconds=second) for second in range(len(ticks))}


@pytest.mark.parametrize(
    ("backend", "kills"),
    [
        ("redis", True),
        ("sqlite", False),
        pytest.param("redis", False, marks=pytest.mark.exhaustive),
        pytest.param("sqlite", True, marks=pytest.mark.exhaustive),
    ],
)
def test_each_tick_happens_once(
    backend: str, kills: bool, request: pytest.FixtureRequest, tmp_path: Path, notes: Path
) -> None:
    url = url_of(backend, "1s" if kills else "30s", request, tmp_path)
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown if the test fails
    dice = random.Random(seed)
    with ExitStack() as stack:

        def another() -> "subprocess.Popen[bytes]":
            process = start(url, notes)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        workers = [another() for _ in range(5)]
        for tick in range(1, TICKS + 1):
            wait_until(partial(has_run, notes, tick), f"{tick} ticks have run", bound=PATIENCE)
            if kills:
                victim = dice.randrange(5)
                workers[victim].send_signal(signal.SIGKILL)
                workers[victim] = another()
        wait_until(lambda: without_a_gap(runs_of(notes)), "no tick is missed", bound=PATIENCE)
        asyncio.run(until_each_has_a_value(url, runs_of(notes)))
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        assert {worker.wait(PATIENCE) for worker in workers} <= {0, -signal.SIGTERM, 128 + signal.SIGTERM}

    runs = runs_of(notes)
    assert len(runs) >= TICKS
    assert all(len(set(file.read_text().split())) == 1 for file in notes.iterdir())  # one call for each tick
    if not kills:  # calls whose worker is killed run again
        assert set(runs.values()) == {1}


async def until_each_has_a_value(url: str, runs: Counter[datetime]) -> None:
    """Wait until the calls of the ticks have values."""
    async with brrr.connect(url) as connection:
        app = brrr.AppConsumer(codec="json", connection=connection)
        for tick in runs:
            assert await app.result(note, topic=TOPIC, timeout=PATIENCE)(tick) == f"{tick:%H:%M:%S}"


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
