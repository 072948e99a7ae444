"""`make bench`: run every workload on every backend, each in its own process.

On a shared machine, do not compare figures of different runs. Compare within one run: each line shows the ratio to the
first line of its workload.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.measure import Measured
from benchmarks.servers import dynamo, nats, sqs, valkey
from benchmarks.workloads import WORKLOADS

BACKENDS: Final = {
    "memory": "memory:",
    "sqlite": "sqlite:///{folder}/{name}.db",
    "redis": "{redis}",
    "nats": "{nats}?stream=q-{name}&bucket=s-{name}",
    "nats-sync": "{nats_sync}?stream=q-{name}&bucket=s-{name}",
    "sqlite+dynamo": "sqlite:///{folder}/{name}-queue.db {dynamo}",
    "redis+dynamo": "{redis} {dynamo}",
    "sqs+dynamo": "{sqs} {dynamo}",
}
DEFAULT: Final = ("memory", "sqlite", "redis", "nats")
"""The others run only on request. Those with DynamoDB Local and moto take minutes, and measure the cost of the client
rather than of the service. `nats-sync` is a server with `sync_interval: always`."""
WIDTHS: Final = (1_000, 50_000)
HEAD: Final = (
    f"{'workload':<14}{'backend':<14}{'calls/s':>9}{'ratio':>7}{'cpu µs':>8}{'trips':>7}{'items':>7}{'MiB':>6}"
)


def main() -> None:
    """Run the benchmarks that the command line selects."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument(
        "--backend", action="append", choices=BACKENDS, help=f"only this one; may be repeated ({', '.join(DEFAULT)})"
    )
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--concurrency", type=int, default=64, help="calls that run at the same time (64)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each workload; the fastest counts (5)")
    parser.add_argument(
        "--otel", action="store_true", help="measure each workload with brrr-otel too, in a second line"
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure the memory of a wide fan-out")
    chosen = parser.parse_args()
    backends = chosen.backend or list(DEFAULT)
    with tempfile.TemporaryDirectory(prefix="brrr-bench-") as folder, ExitStack() as servers:
        redis = servers.enter_context(valkey(folder)) if any("{redis}" in BACKENDS[each] for each in backends) else ""
        plain = servers.enter_context(nats(folder, sync=False)) if "nats" in backends else ""
        synced = servers.enter_context(nats(folder, sync=True)) if "nats-sync" in backends else ""
        table = servers.enter_context(dynamo(folder)) if any("{dynamo}" in BACKENDS[each] for each in backends) else ""
        queues = servers.enter_context(sqs(folder)) if any("{sqs}" in BACKENDS[each] for each in backends) else ""
        print(f"one worker process, concurrency {chosen.concurrency}; per call: cpu, round trips, items; peak memory")
        print(HEAD)
        for workload in chosen.workload or list(WORKLOADS):
            first = 0.0
            for backend in backends:
                url = BACKENDS[backend].format(
                    folder=folder, name=workload, redis=redis, nats=plain, nats_sync=synced, dynamo=table, sqs=queues
                )
                for traced in ([], ["traced"])[: 1 + chosen.otel]:
                    measured = _measure(url, workload, str(chosen.concurrency), str(chosen.rounds), *traced)
                    first = first or measured.calls / measured.seconds
                    print(_line(workload, "  brrr-otel" if traced else backend, measured, first), flush=True)
        if "sqlite" in backends and not chosen.no_memory:
            _compare_memory(folder)


def _measure(*arguments: str) -> Measured:
    return Measured(**json.loads(_run("benchmarks.measure", *arguments)))


def _line(workload: str, backend: str, measured: Measured, first: float) -> str:
    calls = measured.calls
    speed = calls / measured.seconds
    return (
        f"{workload:<14}{backend:<14}{speed:>9,.0f}{speed / first:>7.2f}{measured.cpu_seconds / calls * 1e6:>8.0f}"
        f"{measured.round_trips / calls:>7.2f}{measured.items / calls:>7.2f}{measured.peak_mib:>6.0f}"
    )


def _compare_memory(folder: str) -> None:
    peaks = [float(_run("benchmarks.memory", f"sqlite:///{folder}/wide-{width}.db", str(width))) for width in WIDTHS]
    for width, peak in zip(WIDTHS, peaks, strict=True):
        print(f"peak memory of a worker on sqlite, fan-out {width:>6,}: {peak:6.1f} MiB")
    print(f"difference: {peaks[-1] - peaks[0]:.1f} MiB")


def _run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    return done.stdout


if __name__ == "__main__":
    main()
