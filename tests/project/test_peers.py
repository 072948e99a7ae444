"""The comparison with peers runs our own engines, checks each value, and names what hangs or fails."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import engines
from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.engines import ENGINES, Engine
from benchmarks.peers.environments import ROOT
from benchmarks.peers.figures import Comparison, Figure, Run, percentile
from benchmarks.peers.processes import descendants
from benchmarks.peers.session import EngineError, Session

OURS = [engine for engine in ENGINES if engine.kind == "brrr"]
SQLITE = next(engine for engine in OURS if engine.name == "brrr sqlite")
TINY = {"independent": 5, "fan-out": 5, "tree": 2, "chain": 3, "steps": 3, "shared-child": 4, "latency": 2}
INDEPENDENT = CASES[0]


@pytest.mark.parametrize("engine", OURS, ids=lambda engine: engine.name)
def test_engine_of_ours_runs_each_default_case(engine: Engine, tmp_path: Path) -> None:
    with Session(engine, tmp_path, timeout=60) as session:
        runs = [session.run(case, TINY[case.name]) for case in CASES if case.name in TINY]

    assert session.cold_start > 0
    assert len(runs) == len(TINY)
    assert all(run.seconds > 0 for run in runs)


def test_case_with_two_workers_starts_two(tmp_path: Path) -> None:
    with Session(SQLITE, tmp_path, timeout=60) as session:
        session.run(replace(INDEPENDENT, workers=2), 2)

        workers, _ = session.processes()
        assert len(workers) == 2


def test_session_leaves_no_process(tmp_path: Path) -> None:
    before = descendants(os.getpid())  # with servers of other tests
    with Session(next(iter(OURS)), tmp_path, timeout=60) as session:
        workers, servers = session.processes()
        assert workers
        assert servers - before

    assert not descendants(*workers, *(servers - before))


def test_program_that_prints_does_not_disturb_the_answers() -> None:
    program = "from benchmarks.peers.driver import drive\nasync def call(*_): print('x'); return 1\ndrive(call, call)"
    request = {"kind": "call", "task": "leaf", "arguments": [1], "repeat": 2, "run": "r"}

    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(request), capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert json.loads(done.stdout)["value"] == 2


def test_wrong_value_is_reported(tmp_path: Path) -> None:
    with Session(SQLITE, tmp_path, timeout=60) as session, pytest.raises(EngineError, match="wrong value: 1 instead"):
        session.run(replace(INDEPENDENT, value=lambda _: 7), 2)


def test_case_that_never_ends_is_reported_as_a_hang(tmp_path: Path) -> None:
    with Session(SQLITE, tmp_path, timeout=1) as session, pytest.raises(EngineError, match="hang: no result after 1 s"):
        session.run(replace(_case("fan-out"), task="unknown"), 2)


def test_worker_that_ends_is_reported(tmp_path: Path) -> None:
    broken = replace(SQLITE, command=("{bin}/brrr", "worker", "no.such.module", "--topic", "bench"))
    with (
        pytest.raises(EngineError, match=r"a worker ended(.|\n)*no module 'no'"),
        Session(broken, tmp_path, timeout=9),
    ):
        pass


def test_environment_is_made_before_the_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of DBOS is a package of its environment."""
    made: list[str] = []

    def refuse(name: str, requirements: object) -> Path:
        made.append(name)
        raise ChildProcessError("no network")

    monkeypatch.setattr(engines, "python_of", refuse)
    (engine,) = (each for each in ENGINES if each.name == "dbos postgres")
    with pytest.raises(ChildProcessError), Session(engine, tmp_path, timeout=1):
        pass
    assert made == ["dbos"]


def test_figure_is_of_the_fastest_run() -> None:
    empty = Figure("brrr", "chain", 99, 100, "2026-01-31")
    slow, fast = Run(2.0, [2.0], 4.0, 1.0, 9.0), Run(1.0, [1.0], 0.5, 0.1, 8.0)

    figure = empty.with_runs([slow, fast])

    assert (figure.rate, figure.worker_cpu_us, figure.rates) == (100, 5_000, [50, 100])


def test_percentile_is_a_sample() -> None:
    assert [percentile([3, 1, 2], percent) for percent in (0, 50, 99)] == [1, 2, 3]


def test_comparison_survives_its_file(tmp_path: Path) -> None:
    figure = Figure("brrr", "chain", 99, 100, "2026-01-31").with_runs([Run(1.0, [1.0], 0.5, 0.1, 8.0)])
    comparison = Comparison({"cores": "2"}, {"rounds": 3, "load": 0.2}, {"brrr": {"brrr-core": "0.1"}}, [figure])

    comparison.save(tmp_path / "x.json")

    assert Comparison.load(tmp_path / "x.json") == comparison


def test_figures_of_rare_cases_are_kept() -> None:
    old, seldom = Figure("brrr", "tree", 1, 1, "2026-01-30"), Figure("brrr", "fan-out 10k", 1, 1, "2026-01-30")
    new = Figure("brrr", "tree", 1, 1, "2026-01-31")

    kept = Comparison({}, {}, {}, [new]).keeping(Comparison({}, {}, {}, [old, seldom]), {"fan-out 10k"})

    assert kept.figures == [new, seldom]


def test_pauses_between_samples_do_not_decide_which_run_is_the_fastest() -> None:
    paused, slow = Run(9.0, [0.1, 0.1], 0, 0, 0), Run(5.0, [0.3, 0.3], 0, 0, 0)

    assert Figure("brrr", "latency", 2, 2, "2026-01-31").with_runs([slow, paused]).p50_ms == pytest.approx(100)


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)
