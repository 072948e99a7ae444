"""Measure one workload on one backend in this process. `python -m benchmarks.measure` prints the result as JSON."""

import asyncio
import json
import resource
import secrets
import sys
import time
from dataclasses import asdict, dataclass, replace

import brrr_core as brrr
from benchmarks.counting import CountingBackend
from benchmarks.peers.processes import memory_kib
from benchmarks.telemetry import telemetry
from benchmarks.workloads import HANDLERS, WORKLOADS

__all__ = ["Measured", "measure", "peak_mib"]

TOPIC = "bench"


@dataclass(frozen=True, slots=True)
class Measured:
    """The fastest of several runs.

    Attributes:
        calls: Number of calls in a run.
        seconds: Duration of the fastest run.
        cpu_seconds: Processor time of that run, for all threads of the process.
        round_trips: Backend operations in that run.
        items: Items of these operations.
        peak_mib: Peak memory of the process, in MiB.
    """

    calls: int
    seconds: float
    cpu_seconds: float
    round_trips: int
    items: int
    peak_mib: float


async def measure(
    url: str, name: str, *, concurrency: int, rounds: int, traced: bool = False, size: int | None = None
) -> Measured:
    """Run a workload `rounds` times with one worker, and return the fastest run.

    `url` may also hold two URLs, of a queue and a store, separated by a space. If `traced`, the worker has brrr-otel.
    `size` replaces that of the workload.
    """
    workload = WORKLOADS[name] if size is None else replace(WORKLOADS[name], size=size)
    backend = CountingBackend(*(brrr.open_backend(each) for each in url.split()))
    best: Measured | None = None
    policy, hooks = brrr.Policy(spawn_limit=1_000_000), [telemetry()] if traced else []
    async with backend, brrr.serve(backend, policy=policy, hooks=hooks) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle, concurrency=concurrency))
        for _ in range(rounds):
            arguments = workload.arguments(secrets.token_hex(4))
            backend.counts.clear()
            started, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(app.schedule(workload.task, topic=TOPIC)(*args) for args in arguments))
            while any(await connection.queue.stats(TOPIC)):  # noqa: ASYNC110 - a queue has no event for being empty
                await asyncio.sleep(0.002)
            await app.read(workload.task)(*arguments[-1])
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            run = Measured(workload.calls, seconds, cpu, backend.counts.round_trips, backend.counts.items, peak_mib())
            if best is None or run.seconds < best.seconds:
                best = run
        loop.cancel()
        await asyncio.wait({loop})
    assert best is not None, "rounds is at least 1"
    return best


def peak_mib() -> float:
    """Return the peak memory of this process, in MiB.

    On Linux this is VmHWM, because `ru_maxrss` starts with the peak of the parent process.
    """
    peak = memory_kib("VmHWM")
    return (peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


if __name__ == "__main__":
    url, name, concurrency, rounds, *traced = sys.argv[1:]
    measured = asyncio.run(
        measure(url, name, concurrency=int(concurrency), rounds=int(rounds), traced=traced == ["traced"])
    )
    print(json.dumps(asdict(measured)))
