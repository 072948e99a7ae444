"""Rounds of a workflow whose worker processes are killed, on any durable backend.

`python -m brrr_testkit.workloads.soak URL` runs one worker; `… QUEUE_URL STORE_URL` separates queue and store.
"""

import asyncio
import multiprocessing
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import brrr_core as brrr
from brrr_testkit.workloads.fleet import until_idle, urls_of

TOPIC = "soak"
DEPTH = 7
BOUND = 60.0
"""Seconds within which a round must end."""

POLICY = brrr.Policy(backoff=0.05, max_crashes=100_000, max_deliveries=100_000)
"""A policy that never blames a message for the death of its worker, because workers are killed at random."""

FORKSERVER = multiprocessing.get_context("forkserver")
"""Workers are forked from a process that has imported their modules. So kills strike workers that already work."""
FORKSERVER.set_forkserver_preload(
    [__name__, *(f"brrr_{plugin}.backend" for plugin in ("dynamo", "nats", "redis", "sqlite", "sqs"))]
)


@brrr.handler
async def tree(app: brrr.ActiveWorker, number: int, depth: int, path: str = "") -> int:
    """Return the number of calls in a binary tree. The number of the round makes its calls unique."""
    if not depth:
        return 1
    children = [app.call(tree)(number, depth - 1, path + letter) for letter in "lr"]
    return 1 + sum(await app.gather(*children))


async def work(*urls: str, ready: Callable[[], object]) -> None:
    """Run a worker until it is killed or stopped. Call `ready` when it is connected."""
    async with brrr.serve(*urls, policy=POLICY) as connection:
        app = brrr.AppWorker(handlers={"tree": tree}, codec="json", connection=connection)
        ready()
        await connection.loop(TOPIC, app.handle, concurrency=8)


@dataclass
class Report:
    """Counts and times of a soak."""

    rounds: int = 0
    kills: int = 0
    seconds: list[float] = field(default_factory=list[float])


class Workers:
    """Worker processes. A killed one is replaced immediately."""

    def __init__(self, urls: Sequence[str], number: int, rng: random.Random) -> None:
        self.urls = urls
        self.rng = rng
        self.number = number
        self.processes: list[BaseProcess] = []

    async def start(self) -> None:
        """Start the workers and wait until each is connected."""
        pipes = [FORKSERVER.Pipe(duplex=False) for _ in range(self.number)]
        self.processes = [self._spawn(end) for _, end in pipes]
        for process, (connected, end) in zip(self.processes, pipes, strict=True):
            came = await asyncio.to_thread(_first, connected, process.sentinel)
            assert came == [connected], f"a worker did not start: {process.exitcode}"
            connected.close()
            end.close()

    def kill(self, victims: int) -> None:
        """Kill some workers with SIGKILL and start as many."""
        for at in self.rng.sample(range(self.number), victims):
            process = self.processes[at]
            assert process.exitcode is None, f"a worker ended unexpectedly, with {process.exitcode}"
            process.kill()
            process.join()
            self.processes[at] = self._spawn(None)

    def stop(self) -> None:
        """Kill all workers."""
        for process in self.processes:
            process.kill()
            process.join()

    def _spawn(self, connected: Connection | None) -> BaseProcess:
        process = FORKSERVER.Process(target=_forked, args=(self.urls, dict(os.environ), connected))
        process.start()
        return process


def _first(*sources: "Connection | int") -> list[Any]:
    return list[Any](wait(sources, BOUND))


def _forked(urls: Sequence[str], environ: Mapping[str, str], connected: Connection | None) -> None:
    os.environ.update(environ)  # the fork server still has the environment of its start
    asyncio.run(work(*urls, ready=lambda: None if connected is None else connected.send(True)))


@asynccontextmanager
async def workers(urls: Sequence[str], number: int, rng: random.Random) -> AsyncGenerator[Workers]:
    """Run worker processes inside the block."""
    pool = Workers(urls, number, rng)
    try:
        await pool.start()
        yield pool
    finally:
        pool.stop()


async def soak(url: str | Sequence[str], *, rounds: int, seed: int, number: int = 2, depth: int = DEPTH) -> Report:
    """Run rounds of the tree, and kill workers at random moments of each.

    `url` may be one URL, or separate URLs of queue, store and cache. Every round must end with the right value and
    without remaining messages or dead letters.
    """
    rng = random.Random(seed)
    report = Report()
    urls = urls_of(url)
    async with brrr.connect(*urls) as connection, workers(urls, number, rng) as pool:
        app = brrr.AppConsumer(codec="json", connection=connection)
        for at in range(rounds):
            begin = time.monotonic()
            await app.schedule(tree, topic=TOPIC)(at, depth)
            for _ in range(rng.randint(1, 2)):
                await asyncio.sleep(rng.uniform(0, 0.25))  # the moment of the kill, not a synchronisation
                victims = rng.randint(1, number)
                pool.kill(victims)
                report.kills += victims
            assert await app.result(tree, timeout=BOUND)(at, depth) == 2 ** (depth + 1) - 1, f"round {at}"
            await _nothing_left(connection, at)
            report.rounds += 1
            report.seconds.append(time.monotonic() - begin)
    return report


async def soak_part(url: str | Sequence[str], *, part: int, parts: int, rounds: int, depth: int = DEPTH) -> None:
    """Run one part of all rounds, so that several tests can share the rounds and run in parallel.

    `BRRR_SOAK_ROUNDS` in the environment replaces the number of rounds, and `BRRR_SEED` the random seed.
    """
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    own = len(range(part, int(os.environ.get("BRRR_SOAK_ROUNDS", rounds)), parts))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown if the test fails
    report = await soak(url, rounds=own, seed=seed, depth=depth)
    assert report.rounds == own
    assert report.kills >= own
    print(f"{report.kills} kills, the longest round {max(report.seconds):.1f} s")  # noqa: T201


async def _nothing_left(connection: brrr.Connection, at: int) -> None:
    stats = await until_idle(connection.queue, [TOPIC])
    letters = await connection.queue.dead(TOPIC, limit=5)
    assert stats.dead == 0, f"round {at}: {letters}"


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:], ready=lambda: print("ready", flush=True)))  # noqa: T201 - the test waits for this line
