"""`make bench-peers`: run every case on every engine, ours and others.

Each engine runs alone, with its server, a worker and a client in processes of their own. Each round runs all engines
one after another, so that a slow minute of the machine hits all of them. The fastest round counts.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.engines import ENGINES, Engine
from benchmarks.peers.environments import FOLDER
from benchmarks.peers.figures import COLD_START, Comparison, Figure, Run, percentile, summary
from benchmarks.peers.report import SAVED, write_pages
from benchmarks.peers.session import EngineError, Session

LAST: Final = FOLDER / "last.json"
"""The figures of the last run."""


class Measuring:
    """The runs of all engines and cases so far."""

    def __init__(self, engines: Sequence[Engine], cases: Sequence[Case], *, timeout: float) -> None:
        self._engines = engines
        self._cases = cases
        self._timeout = timeout
        self._runs: dict[tuple[str, str], list[Run]] = {}
        self._problems: dict[tuple[str, str], str] = {
            (engine.name, case): reason for engine in engines for case, reason in engine.missing.items()
        }

    def round(self, number: int, folder: Path) -> None:
        """Run each engine once. The first one of a round is another in each round."""
        start = number % len(self._engines)
        for engine in (*self._engines[start:], *self._engines[:start]):
            left = [case for case in self._cases if (engine.name, case.name) not in self._problems]
            sessions = 0
            while left:
                sessions += 1
                try:
                    self._session(engine, left, folder / f"{number}-{engine.name.replace(' ', '-')}-{sessions}")
                except (EngineError, OSError, subprocess.SubprocessError) as error:  # also: no installation, no server
                    case = left.pop(0)
                    self._problems[engine.name, case.name] = str(error)
                    print(f"{engine.name:<16}{case.name:<18}{summary(str(error))}", flush=True)

    def _session(self, engine: Engine, left: list[Case], folder: Path) -> None:
        """Run the cases in `left`, and remove each that has run."""
        with Session(engine, folder, timeout=self._timeout) as session:
            self._runs.setdefault((engine.name, COLD_START), []).append(
                Run(session.cold_start, [session.cold_start], 0, 0, 0)
            )
            while left:
                case = left[0]
                run = session.run(case, engine.size(case))
                self._runs.setdefault((engine.name, case.name), []).append(run)
                calls = case.calls(engine.size(case)) * case.repeat
                speed = f"{calls / run.seconds:>9,.0f} calls/s"
                if case.kind == "latency":
                    speed = f"{percentile(run.samples, 50) * 1e3:>9,.1f} ms p50 "
                cpu = f"{run.worker_cpu / calls * 1e6:>8,.0f} µs CPU a call"
                print(f"{engine.name:<16}{case.name:<18}{speed}{cpu}", flush=True)
                left.pop(0)

    def figures(self, date: str) -> list[Figure]:
        """Return one figure for each engine and case."""
        found = []
        for engine in self._engines:
            empty = [Figure(engine.name, COLD_START, 1, 1, date)]
            for case in self._cases:
                size = engine.size(case)
                empty.append(Figure(engine.name, case.name, size, case.calls(size) * case.repeat, date))
            for each in empty:
                key = each.engine, each.case
                if key in self._problems:
                    found.append(replace(each, problem=self._problems[key]))
                elif key in self._runs:
                    found.append(each.with_runs(self._runs[key]))
        return found


def main() -> None:
    """Run the comparison that the command line selects."""
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=...", description=__doc__)
    names, cases = [engine.name for engine in ENGINES], [case.name for case in CASES]
    parser.add_argument("--engine", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--case", action="append", choices=cases, help="only this one; may be repeated")
    parser.add_argument("--large", action="store_true", help="run the large cases as well; takes an hour")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case; the fastest counts (3)")
    parser.add_argument("--minutes", type=float, default=11, help="begin no round that would end later (11)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a case counts as hanging (60)")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the blocks that stop the servers
    engines = [engine for engine in ENGINES if not chosen.engine or engine.name in chosen.engine]
    selected = [case for case in CASES if (case.name in chosen.case if chosen.case else chosen.large or not case.large)]
    load = os.getloadavg()[0]
    measuring = Measuring(engines, selected, timeout=chosen.timeout)
    with tempfile.TemporaryDirectory(prefix="brrr-peers-", ignore_cleanup_errors=True) as folder:
        rounds, begun = 0, time.monotonic()
        for number in range(chosen.rounds):
            print(f"round {number + 1} of {chosen.rounds}", flush=True)
            measuring.round(number, Path(folder))
            rounds = number + 1
            if (time.monotonic() - begun) / rounds * (rounds + 1) > chosen.minutes * 60:
                break
    date = datetime.now(UTC).date().isoformat()
    comparison = Comparison(
        machine(),
        {"rounds": rounds, "timeout": chosen.timeout, "load": load},
        _versions(engines),
        measuring.figures(date),
    )
    comparison.save(LAST)
    print(f"all figures: {LAST}")
    if not (chosen.engine or chosen.case):
        if SAVED.exists():  # large cases are seldom measured
            seldom = {case.name for case in CASES if case.large} - {case.name for case in selected}
            comparison = comparison.keeping(Comparison.load(SAVED), seldom)
        write_pages(comparison, ENGINES)
        print("wrote docs/explanation/performance.* and the table of README.md")


def machine() -> dict[str, str]:
    """Describe this machine."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _versions(engines: Sequence[Engine]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for engine in engines:
        try:
            found[engine.name] = engine.versions()
        except OSError:
            found[engine.name] = {}  # it could not be installed; its figures say so
    return found


if __name__ == "__main__":
    main()
