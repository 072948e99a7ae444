"""The figures of a comparison: from runs to rates, and to the JSON file that has all of them."""

import json
import math
import re
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["COLD_START", "FORMAT", "Comparison", "Figure", "Run", "percentile", "summary"]

FORMAT: Final = 1
"""The version of the JSON file."""

COLD_START: Final = "cold start"
"""The case that each session measures: from the start of a worker and a client to the first result."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case.

    Attributes:
        seconds: Its duration, measured by the client.
        samples: Seconds of each root; none if all roots run at once.
        worker_cpu: CPU seconds of the worker processes.
        server_cpu: CPU seconds of the server's processes.
        peak_mib: Peak memory of the worker processes in the run, in MiB.
    """

    seconds: float
    samples: Sequence[float]
    worker_cpu: float
    server_cpu: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Figure:
    """An engine in one case: the fastest of its runs.

    Attributes:
        engine: Name of the engine.
        case: Name of the case.
        size: The size that this engine ran.
        calls: The number of calls in a run.
        date: The day of the measurement.
        rate: Calls per second.
        worker_cpu_us: CPU time of the workers per call, in microseconds.
        server_cpu_us: CPU time of the server per call, in microseconds.
        p50_ms: The median time of one root, in milliseconds.
        p99_ms: The 99th percentile of that time.
        peak_mib: Peak memory of the workers, in MiB.
        rates: The rates of all runs, in their order.
        problem: The reason why there are no figures: the case hung, failed, gave a wrong value or is impossible.
    """

    engine: str
    case: str
    size: int
    calls: int
    date: str
    rate: float | None = None
    worker_cpu_us: float | None = None
    server_cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak_mib: float | None = None
    rates: Sequence[float] = ()
    problem: str | None = None

    def with_runs(self, runs: Sequence[Run]) -> Self:
        """Return the figure of one or more runs: the fastest counts."""
        best = min(runs, key=lambda run: sum(run.samples) or run.seconds)  # the pauses between samples do not count
        calls = self.calls
        return replace(
            self,
            rate=calls / best.seconds,
            worker_cpu_us=best.worker_cpu / calls * 1e6,
            server_cpu_us=best.server_cpu / calls * 1e6,
            p50_ms=percentile(best.samples, 50) * 1e3 if best.samples else None,
            p99_ms=percentile(best.samples, 99) * 1e3 if best.samples else None,
            peak_mib=best.peak_mib,
            rates=[calls / run.seconds for run in runs],
        )


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that is at least as large as `percent` % of all."""
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def summary(problem: str) -> str:
    """Return the line of a problem that names it: the last error of a traceback, otherwise the first line."""
    first = problem.partition("\n")[0]
    errors = re.findall(r"^[\w.]*(?:Error|Exception|Timeout)\b.*", problem, re.MULTILINE)
    return errors[-1] if errors and first.startswith("Traceback") else first


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures, with the circumstances under which they were measured.

    Attributes:
        machine: Processor, number of cores, system, Python.
        settings: The settings of the harness.
        versions: For each engine, the versions of its packages.
        figures: One figure for each engine and case.
    """

    machine: dict[str, str]
    settings: dict[str, float]
    versions: dict[str, dict[str, str]]
    figures: list[Figure] = field(default_factory=list)

    def find(self, engine: str, case: str) -> Figure | None:
        """Return the figure of an engine in a case, if there is one."""
        return next((each for each in self.figures if (each.engine, each.case) == (engine, case)), None)

    def keeping(self, earlier: Self, cases: Container[str]) -> Self:
        """Return this comparison with the figures of some cases from an earlier one."""
        return replace(self, figures=[*self.figures, *(each for each in earlier.figures if each.case in cases)])

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a JSON file that `save` wrote."""
        found: dict[str, Any] = json.loads(path.read_text())
        if found.pop("format") != FORMAT:
            raise ValueError(f"{path} has another format; measure again")
        figures = [Figure(**each) for each in found.pop("figures")]
        return cls(**found, figures=figures)
