"""A worker of the soak, and its workflow. `python -m tests.system.soak.worker URL…` runs one until it is killed."""

import asyncio
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import brrr_core as brrr

TOPIC: Final = "soak"
FOLDER: Final = "BRRR_SOAK_FOLDER"
"""Variable with the folder in which runs of `leaf` leave their traces."""

BRANCHES: Final = 4
LEAVES: Final = 4
STEPS: Final = 3
SHARED_BY: Final = 5
CALLS: Final = 1 + BRANCHES * (1 + LEAVES) + STEPS + 1
"""Calls of one workflow; the last one is shared by `SHARED_BY` workflows."""

POLICY: Final = brrr.Policy(
    backoff=0.05, backoff_limit=1.0, max_attempts=1_000, max_crashes=100_000, max_deliveries=100_000, park=0.5
)
"""Faults come at random, so a message that met many of them is not to blame."""


def names_of(number: int) -> Iterator[str]:
    """Yield the name of each leaf of a workflow."""
    for branch in range(BRANCHES):
        yield from (f"{number}.{branch}.{leaf}" for leaf in range(LEAVES))
    yield from (f"{number}.step.{step}" for step in range(STEPS))
    yield f"shared.{number // SHARED_BY}"


def value_of(name: str) -> int:
    """Return the result of a leaf."""
    return zlib.crc32(name.encode()) % 1_000


@brrr.handler_no_arg
async def leaf(name: str) -> int:
    """Note the run in a file, fail the first run of some names, and return the value of the name."""
    folder = Path(os.environ[FOLDER])
    with (folder / "runs").open("ab", buffering=0) as runs:
        runs.write(f"{name}\n".encode())
    if value_of(name) % 7 == 0 and not (folder / name).exists():
        (folder / name).touch()
        raise RuntimeError("the first run fails")
    await asyncio.sleep(value_of(name) / 100_000)
    return value_of(name)


@brrr.handler
async def branch(app: brrr.ActiveWorker, number: int, branch: int) -> int:
    """Return the sum of the leaves of one branch."""
    return sum(await app.gather(*(app.call(leaf)(f"{number}.{branch}.{each}") for each in range(LEAVES))))


@brrr.handler
async def order(app: brrr.ActiveWorker, number: int) -> int:
    """Fan out, take steps one after another, sleep, and call what other workflows call too. Return the sum."""
    total = sum(await app.gather(*(app.call(branch)(number, each) for each in range(BRANCHES))))
    for step in range(STEPS):
        total += await app.call(leaf)(f"{number}.step.{step}")
    await app.sleep(0.5)
    return total + await app.call(leaf)(f"shared.{number // SHARED_BY}")


async def work(*urls: str) -> None:
    """Run a worker until it is killed or stopped."""
    async with brrr.serve(*urls, policy=POLICY) as connection:
        app = brrr.AppWorker(
            handlers={"leaf": leaf, "branch": branch, "order": order}, codec="json", connection=connection
        )
        await connection.loop(TOPIC, app.handle, concurrency=8)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
