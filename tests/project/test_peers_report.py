"""The pages of the comparison: ratios, tables, charts, and the parts of pages that are rewritten."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peers import report
from benchmarks.peers.chart import Bar, Panel, chart
from benchmarks.peers.engines import ENGINES
from benchmarks.peers.figures import Comparison, Figure, Run, summary
from benchmarks.peers.report import introduction, ratios, replace_part, tables

MACHINE = {"cores": "2", "processor": "x", "system": "Linux", "python": "3.11"}


def _figure(engine: str, case: str, seconds: float, *, size: int = 10) -> Figure:
    run = Run(seconds, [seconds], seconds, 0.0, 50.0)
    return Figure(engine, case, size, 100, "2026-01-31").with_runs([run])


def _comparison(*figures: Figure) -> Comparison:
    return Comparison(MACHINE, {"rounds": 3, "load": 0.2}, {}, list(figures))


def test_ratio_of_rates_is_ours_divided_by_the_best_of_the_kind() -> None:
    comparison = _comparison(_figure("brrr redis", "tree", 1), _figure("huey", "tree", 4), _figure("saq", "tree", 2))

    assert ratios(comparison, ENGINES)["calls/s, tree"]["best task queue"] == 2


def test_ratio_of_latencies_is_above_one_if_ours_is_shorter() -> None:
    comparison = _comparison(_figure("brrr redis", "latency", 1), _figure("restate", "latency", 3))

    assert ratios(comparison, ENGINES)["latency p50"]["Restate"] == pytest.approx(3)


def test_ratio_without_a_figure_is_none() -> None:
    hanging = Figure("restate", "tree", 10, 100, "2026-01-31", problem="hang: no result after 30 s")
    comparison = _comparison(_figure("brrr redis", "tree", 1), hanging)

    assert ratios(comparison, ENGINES)["calls/s, tree"]["Restate"] is None


def test_tables_show_rates_smaller_sizes_and_problems() -> None:
    hanging = Figure("saq", "tree", 10, 100, "2026-01-31", problem="hang: no result after 30 s\nworker-0.log: …")
    text = tables(
        _comparison(_figure("brrr redis", "tree", 0.01), _figure("temporal", "tree", 1, size=6), hanging), ENGINES
    )

    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "| 10,000 |" in text
    assert "100*" in text
    assert "- saq, tree: hang: no result after 30 s\n" in text
    assert "huey" not in rows


@pytest.mark.parametrize(("load", "said"), [(0.2, False), (13.0, True)])
def test_page_says_if_other_programs_used_the_machine(load: float, said: bool) -> None:
    comparison = replace(_comparison(_figure("brrr redis", "tree", 1)), settings={"rounds": 1, "load": load})

    assert ("Other programs used the machine" in introduction(comparison)) is said


def test_large_cases_have_a_table_only_if_measured() -> None:
    small = _comparison(_figure("brrr redis", "tree", 1))
    large = _comparison(_figure("brrr redis", "fan-out 10k", 1, size=10_000))

    assert "### Large cases" not in tables(small, ENGINES)
    assert "### Large cases" in tables(large, ENGINES)


def test_every_engine_describes_its_set_up() -> None:
    assert all(len(engine.notes()) > 80 for engine in ENGINES)


def test_chart_is_well_formed_and_its_longest_bar_is_the_largest() -> None:
    bars = [Bar("a & b", "brrr", 10.0), Bar("c", "queue", 5.0), Bar("d", "durable", None)]

    root = ElementTree.fromstring(chart([Panel("one", bars), Panel("two", bars)], "x < y"))

    widths = [float(each.attrib["width"]) for each in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == 2 * widths[1] == max(widths)
    assert widths[2] == 0


def test_chart_has_colours_for_dark_pages() -> None:
    assert "prefers-color-scheme: dark" in chart([Panel("one", [Bar("a", "brrr", 1.0)])], "x")


def test_only_the_named_part_of_a_page_is_replaced() -> None:
    page = "top\n<!-- begin: x -->\nold\n<!-- end: x -->\nbottom\n"

    assert replace_part(page, "x", "new\n") == "top\n<!-- begin: x -->\n\nnew\n\n<!-- end: x -->\nbottom\n"


def test_saved_figures_name_a_problem_without_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Figure("saq", "tree", 10, 100, "2026-01-31", problem="hang: no result after 30 s\n/a/folder/x.log: y")
    for name in ("README.md", "performance.md"):
        (tmp_path / name).write_text("<!-- begin: performance --><!-- end: performance -->")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "SAVED", tmp_path / "performance.json")

    report.write_pages(_comparison(_figure("brrr redis", "tree", 1), hanging), ENGINES)

    assert "/a/folder" not in "".join(each.read_text() for each in tmp_path.iterdir())
    assert Comparison.load(tmp_path / "performance.json").figures[1].problem == "hang: no result after 30 s"


def test_page_without_the_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="begin: x"):
        replace_part("top", "x", "new")


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("hang: no result after 30 s\nTimeoutError: in a log", "hang: no result after 30 s"),
        (
            "Traceback (most recent call last):\n  File x\nredis.exceptions.TimeoutError: slow\n",
            "redis.exceptions.TimeoutError: slow",
        ),
        ("Traceback (most recent call last):\n  File x\na.SomeError: b\n(Background on this error)", "a.SomeError: b"),
    ],
)
def test_summary_of_a_problem_is_the_line_that_names_it(problem: str, line: str) -> None:
    assert summary(problem) == line
