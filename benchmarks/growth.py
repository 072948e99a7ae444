"""Measure how the cost of a call graph grows with its size, and what a worker keeps after many calls.

`python -m benchmarks.growth` prints, for each workload, the exponents of items, round trips and CPU time over the
number of calls: 1 means that a call costs the same in a graph of any size. `--calls 500000` runs so many independent
calls through one worker instead, and samples its memory, file descriptors and tasks.
"""

import argparse
import asyncio
import gc
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import Final, NamedTuple

import brrr_core as brrr
from benchmarks.measure import TOPIC, Measured, measure
from benchmarks.peers.processes import memory_kib
from benchmarks.servers import valkey
from benchmarks.workloads import HANDLERS, WORKLOADS

__all__ = ["Sample", "exponents", "sample_many_calls"]

SMALLEST: Final = 100
SIZES: Final = dict.fromkeys(WORKLOADS, (SMALLEST, 1_000, 10_000, 30_000)) | {"tree": (6, 9, 12, 14)}
"""The sizes of each workload; for a tree the depths, so 127 to 32,767 calls."""

BACKENDS: Final = ("memory", "sqlite", "redis")
PART: Final = 1_000


class Sample(NamedTuple):
    """A sample of a worker process.

    Attributes:
        calls: Number of calls so far.
        resident_mib: Resident memory, in MiB.
        descriptors: Open file descriptors.
        tasks: Tasks of the event loop.
    """

    calls: int
    resident_mib: float
    descriptors: int
    tasks: int


def exponents(measured: Sequence[Measured]) -> dict[str, float]:
    """Return the exponent of each quantity over the number of calls, by least squares of the logarithms.

    One size has no exponents.
    """
    if len(measured) < 2:
        return {}
    sizes = [log(each.calls) for each in measured]
    return {
        name: linear_regression(sizes, [log(getattr(each, name)) for each in measured]).slope
        for name in ("items", "round_trips", "cpu_seconds")
    }


async def sample_many_calls(url: str, calls: int, *, every: int) -> AsyncIterator[Sample]:
    """Run independent calls through one worker in parts of a thousand, and regularly yield a sample of it."""
    async with brrr.serve(url, policy=brrr.Policy(spawn_limit=1_000_000)) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle, concurrency=64))
        for done in range(0, calls, PART):
            run = secrets.token_hex(4)
            await asyncio.gather(*(app.schedule("leaf", topic=TOPIC)(index, run) for index in range(PART)))
            while any(await connection.queue.stats(TOPIC)):  # noqa: ASYNC110 - a queue has no event for being empty
                await asyncio.sleep(0.01)
            if (done + PART) % every == 0:
                gc.collect()
                yield _sample(done + PART)
        loop.cancel()
        await asyncio.wait({loop})


def _sample(calls: int) -> Sample:
    resident = memory_kib("VmRSS") or 0
    return Sample(calls, resident / 1024, len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()))


def main() -> None:
    """Print the tables that the command line selects."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one; may be repeated (memory)")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--largest", type=int, default=30_000, help="the largest size, but not of the tree (30,000)")
    parser.add_argument("--calls", type=int, default=0, help="run so many independent calls, and sample the worker")
    chosen = parser.parse_args()
    if chosen.largest < SMALLEST:
        parser.error(f"--largest {chosen.largest} leaves no size: the smallest is {SMALLEST}")
    with tempfile.TemporaryDirectory(prefix="brrr-growth-") as folder, ExitStack() as servers:
        for backend in chosen.backend or ["memory"]:
            if backend == "redis":
                url = servers.enter_context(valkey(folder))
            else:
                url = "memory:growth" if backend == "memory" else f"sqlite:///{folder}/growth.db"
            if chosen.calls:
                asyncio.run(_print_samples(backend, url, chosen.calls))
            else:
                _print_growth(backend, url, chosen.workload or list(WORKLOADS), chosen.largest)


async def _print_samples(backend: str, url: str, calls: int) -> None:
    print(f"{backend}: {calls:,} calls through one worker\n{'calls':>9}{'MiB':>8}{'files':>7}{'tasks':>7}")
    async for sample in sample_many_calls(url, calls, every=max(PART, calls // 10)):
        print(f"{sample.calls:>9,}{sample.resident_mib:>8.1f}{sample.descriptors:>7}{sample.tasks:>7}", flush=True)


def _print_growth(backend: str, url: str, workloads: Sequence[str], largest: int) -> None:
    print(f"{backend}: exponents; then calls, items, round trips and CPU µs per call")
    for name in workloads:
        sizes = [size for size in SIZES[name] if name == "tree" or size <= largest]
        measured = [asyncio.run(measure(url, name, concurrency=64, rounds=1, size=size)) for size in sizes]
        grown = exponents(measured)
        print(f"{name:<14}" + ("".join(f"{key} {value:.2f}  " for key, value in grown.items()) or "one size only"))
        for each in measured:
            items, trips, cpu = (each.items / each.calls, each.round_trips / each.calls, each.cpu_seconds / each.calls)
            print(f"{each.calls:>14,}{items:>9.2f}{trips:>9.3f}{cpu * 1e6:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
