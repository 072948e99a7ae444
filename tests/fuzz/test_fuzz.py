"""Each target takes its kept inputs and some new ones. `make fuzz` runs more."""

import random
from pathlib import Path

import pytest

from tests.fuzz.driving import Report, drive, read_corpus, write_corpus
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_input_leads_to_a_value_or_a_documented_error(name: str) -> None:
    known, seed = read_corpus(name), random.randrange(10**6)
    report = drive(TARGETS[name], len(known) + (20 if name == "cli" else 200), seed=seed, known=known)
    assert not report.failures, f"seed {seed}: {report.failures}"


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("http", b"POST\n/hello\ngreetee=\xe9\nlocalhost"),
        ("http", b"GET\n/hello/\n\xa8\n[::1]\nhttp://[::1]"),  # a redirect, without the slash
        ("board", b"GET\n/search\ntask=\xe9\nlocalhost"),
    ],
)
def test_query_with_bytes_that_are_not_ascii_is_refused(name: str, request_: bytes) -> None:
    (answer,) = TARGETS[name].run(request_)
    assert answer.startswith("400 ")


def test_corpus_keeps_any_bytes(tmp_path: Path) -> None:
    inputs = [bytes(range(256)), b"", b"\\x00\n", "é".encode()]
    write_corpus("any", inputs, tmp_path)
    assert sorted(read_corpus("any", tmp_path)) == sorted(inputs)


def test_undocumented_error_and_hang_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.driving.HANG", 0.05)

    def run(data: bytes) -> tuple[str, ...]:
        if data == b"raise":
            raise KeyError("x")
        while data == b"hang":
            pass
        return (str(len(data)),)

    report: Report = drive(Target(run, [b"raise", b"hang", b"good"], [b"x"]), 3, seed=1)
    assert report.failures == {"KeyError: 'x'": b"raise", "TimeoutError: the input took longer than 0.05 s": b"hang"}
    assert list(report.corpus.values()) == [b"good"]


def test_run_is_repeated_by_its_seed() -> None:
    first, second = (drive(TARGETS["wire"], 300, seed=7) for _ in range(2))
    assert first.corpus == second.corpus
