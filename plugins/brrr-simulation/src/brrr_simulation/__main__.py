"""Run new histories for some time, and print a summary: `python -m brrr_simulation --seconds 60`."""

import argparse
import gc
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final

from brrr_simulation.faults import KINDS
from brrr_simulation.history import Report, simulate
from brrr_simulation.pairs import Pairs
from brrr_simulation.story import shrink, tell

__all__ = ["main"]

CHUNK: Final = 10
"""Histories that a process runs before it reports."""

SHOWN: Final = 3
"""The most failing seeds whose stories are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run histories, print a summary, and return the exit code: 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m brrr_simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to run new seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes to use")
    parser.add_argument("--first", type=int, default=None, help="the first seed; random by default")
    parser.add_argument("--seed", type=int, default=None, help="run one seed, and print its story")
    parser.add_argument("--pairs", type=int, default=None, help="count pairs of operations in so many histories")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _tell(options.seed)
    first = secrets.randbelow(10**9) if options.first is None else options.first
    if options.pairs is not None:
        return _pairs(first, options.pairs)
    _say(f"Seeds from {first}, for {options.seconds:g} s in {options.processes} processes")
    began = time.monotonic()
    reports = list(_run(first, began + options.seconds, options.processes))
    _say(summary(reports, time.monotonic() - began))
    failed = [report for report in reports if report.violations]
    for report in failed[:SHOWN]:
        _say("")
        _tell(report.seed)
    if failed:
        _say(f"\nFailed seeds: {', '.join(str(report.seed) for report in failed)}")
    return int(bool(failed))


def summary(reports: Sequence[Report], seconds: float) -> str:
    """Return the figures of histories as text."""
    faults: Counter[str] = Counter()
    for report in reports:
        faults.update(report.kinds)
    calls, left = (sum(getattr(report, name) for report in reports) for name in ("calls", "leftovers"))
    cpu = len(reports) / max(1e-9, sum(report.seconds for report in reports))
    rows = [
        f"{len(reports)} histories in {seconds:.0f} s: {len(reports) / seconds:.1f} per s, {cpu:.1f} per s of CPU",
        f"{'':24}{'least':>10}{'median':>10}{'95 %':>10}{'most':>10}",
        _row("calls", (report.calls for report in reports)),
        _row("workers", (report.workers for report in reports)),
        _row("faults", (len(report.faults) for report in reports)),
        _row("kinds of faults", (len(report.kinds) for report in reports)),
        _row("virtual seconds", (report.virtual for report in reports)),
        _row("milliseconds of CPU", (report.seconds * 1000 for report in reports)),
        f"{sum(faults.values())} faults:",
        *(f"{faults[kind]:10}  {kind:10} {text}" for kind, text in KINDS.items()),
        f"{calls} calls, of which {left} left a pending record",
        f"{sum(bool(report.over_limit) for report in reports)} histories with a schedule over its spawn limit",
        f"{sum(report.handed_over for report in reports)} calls that another schedule took over from such a one",
        f"{sum(bool(report.violations) for report in reports)} failed",
    ]
    return "\n".join(rows)


def _row(name: str, values: Iterable[float]) -> str:
    known = sorted(values) or [0]
    places = (0, len(known) // 2, len(known) * 95 // 100, -1)
    return f"{name:24}" + "".join(f"{known[place]:10.0f}" for place in places)


def _run(first: int, end: float, processes: int) -> Iterable[Report]:
    seed, running = first, set[Future[list[Report]]]()
    with ProcessPoolExecutor(processes) as pool:
        while True:
            while len(running) < 2 * processes and time.monotonic() < end:
                running.add(pool.submit(_chunk, seed))
                seed += CHUNK
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _chunk(first: int, histories: int = CHUNK, pairs: Pairs | None = None) -> list[Report]:
    gc.disable()  # a history makes many reference cycles, which are all garbage at its end
    try:
        return [simulate(seed, pairs=pairs) for seed in range(first, first + histories)]
    finally:
        gc.enable()


def _pairs(first: int, histories: int) -> int:
    """Run histories in this process, and print the pairs of operations that none of them hit."""
    pairs = Pairs()
    for begin in range(first, first + histories, CHUNK):
        _chunk(begin, min(CHUNK, first + histories - begin), pairs)
    _say(f"Seeds from {first}, {histories} histories\n{pairs.table()}")
    return 0


def _tell(seed: int) -> int:
    report = simulate(seed, trace=True)
    if not report.violations:
        _say(tell(report))
        return 0
    shrunk = shrink(seed)
    _say(tell(shrunk.report, shrunk.how))
    _say(f"Shrunk from {report.calls} calls and {len(report.faults)} faults in {shrunk.tries} histories")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
