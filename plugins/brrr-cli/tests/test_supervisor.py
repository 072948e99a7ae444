"""The supervisor gives up only if its processes keep dying."""

import asyncio
import sys
from pathlib import Path

import pytest

from brrr_cli import supervisor
from brrr_cli.errors import first_error
from brrr_cli.supervisor import Supervisor
from brrr_core.errors import CommandError, WorkersDiedError

FIRST_LIVES = """
import pathlib, sys, time
try:
    pathlib.Path({path!r}).touch(exist_ok=False)
except FileExistsError:
    sys.exit(7)
time.sleep(3600)
"""
"""The first process lives for an hour. The other one and its replacements die."""


def supervised(count: int, program: str) -> int:
    async def run() -> int:
        async with asyncio.timeout(60):
            return await Supervisor([sys.executable, "-c", program], count).run()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF", 0.001)
    monkeypatch.setattr(supervisor, "MAX_EARLY_DEATHS", 3)


def test_supervisor_gives_up_on_processes_that_keep_dying(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        supervised(1, "import os; os.kill(os.getpid(), 9)")

    error = first_error(raised.value)
    assert isinstance(error, WorkersDiedError)
    assert "was killed by SIGKILL: 3 deaths in a row" in error.what
    assert [record.message.rpartition(";")[2] for record in caplog.records] == [
        " another one starts in 0.0 s",
        " another one starts in 0.0 s",
    ]


def test_supervisor_that_gives_up_stops_other_processes(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        supervised(2, FIRST_LIVES.format(path=str(tmp_path / "first")))

    assert isinstance(first_error(raised.value), WorkersDiedError)


def test_dead_process_is_replaced_while_another_is_steady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STEADY_AFTER", 2.0)
    runs: list[int] = []

    async def counted(self: Supervisor, pid: int, code: int, seconds: float) -> None:
        runs.append(pid)
        while not self._any_steady():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.01)
        if len(runs) == 10:
            self._stop()

    monkeypatch.setattr(Supervisor, "_pause", counted)

    supervised(2, FIRST_LIVES.format(path=str(tmp_path / "first")))
    assert len(runs) == 10


@pytest.mark.parametrize("code", [0, 7])
def test_steady_process_that_ends_by_itself_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_AFTER", 0.0)
    runs: list[int] = []
    pause = Supervisor._pause

    async def counted(self: Supervisor, pid: int, code: int, seconds: float) -> None:
        runs.append(pid)
        if len(runs) == 10:
            self._stop()
        await pause(self, pid, code, seconds)

    monkeypatch.setattr(Supervisor, "_pause", counted)

    assert supervised(1, f"raise SystemExit({code})") == 0
    assert len(runs) == 10
    assert f"worker process {runs[0]} ended with code {code}; another one starts in 0.0 s" in caplog.messages


def test_usage_error_of_one_process_ends_all(tmp_path: Path) -> None:
    # One process ends with the usage error. The other ends with a different code when it stops; the usage error wins.
    program = """
import pathlib, signal, sys, time
first, ready = pathlib.Path({first!r}), pathlib.Path({ready!r})
try:
    first.touch(exist_ok=False)
except FileExistsError:
    while not ready.exists():
        time.sleep(0.001)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
ready.touch()
time.sleep(3600)
"""
    paths = {name: str(tmp_path / name) for name in ("first", "ready")}

    assert supervised(2, program.format(**paths)) == 2


def test_system_without_process_groups_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "POSIX", False)

    with pytest.raises(CommandError, match="needs a POSIX system") as refused:
        supervised(2, "")

    assert "--processes" in refused.value.remedy
