"""`brrr worker --schedules` as processes."""

import signal
from typing import Any

import pytest

Shell = Any

TASKS = """
import pathlib

import brrr_core as brrr
import brrr_cron

@brrr.handler
def note(app: brrr.ActiveWorker, tick: str):
    with pathlib.Path("notes").open("a") as file:
        file.write(f"{tick}\\n")

@brrr.handler_no_arg
async def other(tick: str): ...

schedules = [brrr_cron.every("* * * * * *", note)]
twice = [*schedules, brrr_cron.every("* * * * * *", note)]

def elsewhere():
    return [brrr_cron.every("* * * * * *", note, topic="elsewhere")]
"""


@pytest.fixture(autouse=True)
def _scheduled(shell: Shell) -> None:
    (shell.folder / "tasks.py").write_text(TASKS)


def notes(shell: Shell) -> list[str]:
    path = shell.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_processes_run_each_tick_once(shell: Shell, until: Any) -> None:
    worker = shell.worker("--schedules", "tasks:schedules", "--processes", "3", "--topic", "second")
    until(lambda: len(notes(shell)) >= 4)

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0
    ticks = notes(shell)
    assert len(ticks) == len(set(ticks))
    assert shell("queue", "second").stdout.splitlines()[1].split()[1:] == ["0", "0", "0", "0"]


def test_schedule_of_another_topic(shell: Shell, until: Any) -> None:
    shell.worker("--schedules", "tasks:elsewhere")
    until(lambda: shell("queue", "elsewhere").stdout.splitlines()[1].split()[1] != "0")

    assert notes(shell) == []


@pytest.mark.parametrize(
    ("handlers", "named", "said"),
    [
        ("tasks", "tasks:nosuch", "has no 'nosuch'"),
        ("tasks", "tasks:note", "has a Handler, not a recurring schedule"),
        ("tasks", "tasks:twice", "two schedules have the name 'note * * * * * * UTC'"),
        ("tasks:other", "tasks:schedules", "'note' is not registered"),
    ],
)
def test_wrong_schedules_end_the_worker_before_it_receives(shell: Shell, handlers: str, named: str, said: str) -> None:
    ended = shell("worker", handlers, "--topic", "demo", "--schedules", named)

    assert ended.returncode == 2
    assert said in ended.stderr
    assert "working on demo" not in ended.stderr
    assert "Traceback" not in ended.stderr
