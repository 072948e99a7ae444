"""Measure the peak memory of a worker for a fan-out: `python -m benchmarks.memory URL WIDTH` prints MiB.

The memory should not grow with the width. Use a backend that does not keep its data in the memory of this process.
"""

import asyncio
import sys

import brrr_core as brrr
from benchmarks.measure import TOPIC, peak_mib
from benchmarks.workloads import HANDLERS

__all__ = ["peak_of_worker"]


async def peak_of_worker(url: str, width: int, run: str) -> float:
    """Return the peak memory in MiB of a process whose worker runs a fan-out of `width` calls."""
    async with brrr.serve(url, policy=brrr.Policy(spawn_limit=1_000_000)) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle, concurrency=64))
        await app.schedule("fan_out", topic=TOPIC)(width, run)
        await app.result("fan_out")(width, run)
        loop.cancel()
        await asyncio.wait({loop})
    return peak_mib()


if __name__ == "__main__":
    print(asyncio.run(peak_of_worker(sys.argv[1], int(sys.argv[2]), "memory")))
