"""The pages with the figures of a comparison: the tables, and where they go."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.peers.cases import CASES
from benchmarks.peers.chart import NONE, Bar, Panel, chart
from benchmarks.peers.engines import Engine
from benchmarks.peers.environments import ROOT
from benchmarks.peers.figures import COLD_START, Comparison, Figure, summary

__all__ = ["SAVED", "introduction", "ratios", "replace_part", "tables", "write_pages"]

FOLDER: Final = ROOT / "docs" / "explanation"
SAVED: Final = FOLDER / "performance.json"
"""The figures that the pages show."""

BUSY: Final = 1.5
"""The load average at the start from which the page says that the machine was in use."""

RATES: Final = ("independent", "fan-out", "tree", "chain", "steps", "shared-child", "tree, 2 workers")
RATIOS: Final = {
    "best task queue": ("brrr redis", "queue"),
    "Restate": ("brrr redis", "restate"),
    "DBOS on PostgreSQL": ("brrr redis", "dbos postgres"),
    "DBOS on SQLite": ("brrr sqlite", "dbos sqlite"),
    "Temporal": ("brrr redis", "temporal"),
}
"""For each column, the engine of ours, and a peer or the kind whose best engine is taken."""


RATIO_NOTE: Final = """\
Rates are ours divided by theirs; latency and CPU are theirs divided by ours. Above 1, brrr is faster, or uses less CPU.
The figures are for brrr on Redis; compared with DBOS on SQLite, for brrr on SQLite.
"""


def ratios(comparison: Comparison, engines: Iterable[Engine]) -> dict[str, dict[str, float | None]]:
    """Return ours ÷ theirs, by measure and peer. Above 1, brrr is faster or uses less.

    The ratio is None if one of both has no figure. "Best" is the best in each measure.
    """
    names: dict[str, list[str]] = {}
    for engine in engines:
        names.setdefault(engine.kind, []).append(engine.name)
        names[engine.name] = [engine.name]
    found: dict[str, dict[str, float | None]] = {}
    for measure, (case, speed) in _measures().items():
        found[measure] = {}
        for title, (mine, theirs) in RATIOS.items():
            ours = _speeds(comparison, [mine], case, speed)
            peers = _speeds(comparison, names.get(theirs, []), case, speed)
            found[measure][title] = max(ours) / max(peers) if ours and peers else None
    return found


def _measures() -> dict[str, tuple[str, Callable[[Figure], float | None]]]:
    """Return the measures as speeds: higher is better."""
    rates = {f"calls/s, {case}": (case, _rate) for case in RATES}
    return {**rates, "latency p50": ("latency", _inverse_latency), "CPU of workers, tree": ("tree", _inverse_cpu)}


def _rate(figure: Figure) -> float | None:
    return figure.rate


def _inverse_latency(figure: Figure) -> float | None:
    return 1 / figure.p50_ms if figure.p50_ms else None


def _inverse_cpu(figure: Figure) -> float | None:
    return 1 / figure.worker_cpu_us if figure.worker_cpu_us else None


def _speeds(
    comparison: Comparison, engines: Sequence[str], case: str, speed: Callable[[Figure], float | None]
) -> list[float]:
    figures = (comparison.find(engine, case) for engine in engines)
    return [value for figure in figures if figure and (value := speed(figure))]


def tables(comparison: Comparison, engines: Sequence[Engine]) -> str:
    """Return the generated part of the page, in Markdown."""
    measured = [engine for engine in engines if any(figure.engine == engine.name for figure in comparison.figures)]
    parts = [
        introduction(comparison),
        "![Calls per second of each engine](performance-rates.svg)\n",
        "![Latency of one call on an idle fleet, and CPU time](performance-latency.svg)\n",
        "### Calls per second\n",
        _table(comparison, measured, {case: (case, _show_rate) for case in RATES}),
        "\\* a smaller size, because the engine is slow: `performance.json` has the sizes.\n",
        "### Time, CPU and memory\n",
        _table(comparison, measured, DETAILS),
        "### brrr compared\n",
        _ratio_table(comparison, engines, list(_measures())),
        RATIO_NOTE,
    ]
    large = {case.name: (case.name, _show_large) for case in CASES if case.large}
    if any(figure.case in large for figure in comparison.figures):
        parts += ["### Large cases\n", "Calls per second; CPU of the workers per call; their peak memory.\n"]
        parts.append(_table(comparison, measured, large))
    parts += ["### Without a figure\n", *_problems(comparison), ""]
    parts += ["### Set-up of each engine\n", *_set_up(comparison, measured)]
    return "\n".join(parts)


def introduction(comparison: Comparison) -> str:
    """Say when and where the figures were measured, and whether other programs used the machine."""
    machine, settings = comparison.machine, comparison.settings
    date = max((figure.date for figure in comparison.figures), default="")
    busy = (
        "Other programs used the machine at the same time (its load average was "
        f"{settings['load']:.0f} at the start), so only ratios mean something.\n"
    )
    return (
        f"Measured on {date} on a machine with {machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"Python {machine['python']}. Rounds: {settings['rounds']:.0f}; the fastest counts.\n"
        f"{busy if settings['load'] >= BUSY else ''}"
    )


def _table(
    comparison: Comparison, engines: Sequence[Engine], columns: Mapping[str, tuple[str, Callable[[Figure], str]]]
) -> str:
    lines = ["| engine | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for engine in engines:
        cells = []
        for case, show in columns.values():
            figure = comparison.find(engine.name, case)
            missing = figure is None or figure.rate is None
            cells.append(NONE if figure is None or missing else show(figure))
        lines.append(f"| {engine.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _show_rate(figure: Figure) -> str:
    full = next(case.size for case in CASES if case.name == figure.case)
    return f"{figure.rate:,.0f}" + ("*" if figure.size < full else "")


def _show_large(figure: Figure) -> str:
    return f"{figure.rate:,.0f}; {figure.worker_cpu_us:,.0f} µs; {figure.peak_mib:,.0f} MiB"


DETAILS: Final[dict[str, tuple[str, Callable[[Figure], str]]]] = {
    "latency p50, ms": ("latency", lambda figure: f"{figure.p50_ms:.1f}"),
    "p99, ms": ("latency", lambda figure: f"{figure.p99_ms:.1f}"),
    "cold start, s": (COLD_START, lambda figure: f"{(figure.p50_ms or 0) / 1e3:.1f}"),
    "CPU of workers, µs a call of the tree": ("tree", lambda figure: f"{figure.worker_cpu_us:,.0f}"),
    "CPU of the server, µs": ("tree", lambda figure: f"{figure.server_cpu_us:,.0f}"),
    "CPU of workers, µs a step": ("steps", lambda figure: f"{figure.worker_cpu_us:,.0f}"),
    "memory of workers, MiB, fan-out": ("fan-out", lambda figure: f"{figure.peak_mib:,.0f}"),
}


def _ratio_table(comparison: Comparison, engines: Sequence[Engine], measures: Sequence[str]) -> str:
    found = ratios(comparison, engines)
    lines = ["| measure | " + " | ".join(RATIOS) + " |", "| --- |" + " ---: |" * len(RATIOS)]
    for measure in measures:
        cells = (
            NONE if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"
            for value in found[measure].values()
        )
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _problems(comparison: Comparison) -> list[str]:
    lines = [f"- {each.engine}, {each.case}: {summary(each.problem)}" for each in comparison.figures if each.problem]
    return lines or ["Each engine ran each case."]


def _set_up(comparison: Comparison, engines: Iterable[Engine]) -> list[str]:
    """Return a paragraph for each program, with the engines that it serves."""
    names: dict[str, list[str]] = {}
    for engine in engines:
        versions = (" ".join(each) for each in comparison.versions.get(engine.name, {}).items())
        names.setdefault(engine.notes(), []).append(f"**{engine.name}** ({', '.join(versions)})")
    return [f"{', '.join(each)}: {' '.join(notes.split())}\n" for notes, each in names.items()]


def replace_part(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`.

    Raises:
        ValueError: The text has no such part.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"no part {name!r}; put {begin} and {end} there")
    return f"{before}{begin}\n\n{content.strip()}\n\n{end}{after}"


def write_pages(comparison: Comparison, engines: Sequence[Engine]) -> None:
    """Write the JSON file, the charts, and the generated parts of the page and of the README."""
    brief = [replace(each, problem=each.problem and summary(each.problem)) for each in comparison.figures]
    comparison = replace(comparison, figures=brief)  # logs name folders of the machine
    comparison.save(SAVED)
    rates = [_panel(comparison, engines, case, f"{case}: calls/s", _rate) for case in RATES]
    latency = [
        _panel(comparison, engines, "latency", "one call: p50, ms", lambda figure: figure.p50_ms),
        _panel(comparison, engines, "latency", "one call: p99, ms", lambda figure: figure.p99_ms),
        _panel(comparison, engines, "tree", "tree: µs CPU of workers a call", lambda figure: figure.worker_cpu_us),
    ]
    (FOLDER / "performance-rates.svg").write_text(chart(rates, "Calls per second"))
    (FOLDER / "performance-latency.svg").write_text(chart(latency, "Latency and CPU time"))
    _rewrite(FOLDER / "performance.md", tables(comparison, engines))
    short = [measure for measure in _measures() if measure not in {"calls/s, shared-child", "calls/s, tree, 2 workers"}]
    _rewrite(ROOT / "README.md", f"{_ratio_table(comparison, engines, short)}\n{introduction(comparison)}")


def _panel(
    comparison: Comparison,
    engines: Iterable[Engine],
    case: str,
    title: str,
    value: Callable[[Figure], float | None],
) -> Panel:
    bars = []
    for engine in engines:
        figure = comparison.find(engine.name, case)
        bars.append(Bar(engine.name, engine.kind, value(figure) if figure else None))
    return Panel(title, bars)


def _rewrite(path: Path, content: str) -> None:
    path.write_text(replace_part(path.read_text(), "performance", content))
