"""Commands as processes: a workflow on one file, pipes, terminals and broken backends."""

import json
import os
import pty
import signal
import subprocess
import sys
from typing import Any

import pytest

Shell = Any


def test_workflow_from_setup_to_result(shell: Shell) -> None:
    made = shell("setup")
    scheduled = shell("schedule", "fib", "--n", "11", "--handlers", "tasks", "--topic", "demo", "--json")
    shell.worker()
    waited = shell("result", "fib", "11", "--timeout", "30s")

    assert made.returncode == 0
    assert made.stdout.endswith("sqlite:///q.db?lease=1s is ready\n")
    assert json.loads(scheduled.stdout)["topic"] == "demo"
    assert (waited.returncode, waited.stdout) == (0, "89\n")
    assert json.loads(shell("queue", "demo", "--json").stdout)["topics"][0]["ready"] == 0


def test_wait_shows_progress_in_plain_lines(shell: Shell) -> None:
    ended = shell("schedule", "fib", "11", "--topic", "demo", "--timeout", "1s")
    silent = shell("schedule", "fib", "11", "--topic", "demo", "--timeout", "1s", "-q")

    assert (ended.returncode, ended.stdout) == (4, "")
    scheduled, waiting, error = ended.stderr.splitlines()
    assert scheduled.startswith("scheduled fib on demo: call ")
    assert waiting == "waiting for fib, 1 s: 1 ready, 0 leased, 0 delayed, 0 dead"
    assert "BRRR-CALL-02" in error
    assert len(silent.stderr.splitlines()) == 1


@pytest.mark.parametrize(("task", "which"), [("fails", "the call "), ("asks", "a call on behalf of the call")])
def test_wait_ends_when_call_or_child_is_dead_lettered(shell: Shell, task: str, which: str) -> None:
    shell.worker("--max-attempts", "1")

    ended = shell("schedule", task, "x", "--topic", "demo", "--wait", "--json")

    assert (ended.returncode, ended.stdout) == (5, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "BRRR-CALL-04"
    assert which in error["what"]
    assert "ValueError: x" in error["what"]
    assert "brrr dead redrive demo" in error["remedy"]


def test_result_of_failed_call_exits_with_its_code(shell: Shell) -> None:
    shell.worker("--max-attempts", "1", "--on-exhausted", "fail")

    refused = shell("schedule", "refuses", "no", "--topic", "demo", "--wait")
    exhausted = shell("schedule", "asks", "x", "--topic", "demo", "--wait", "--json")
    read = shell("result", "refuses", "no")

    assert (refused.returncode, refused.stdout) == (6, "")
    assert "[BRRR-CALL-06]" in refused.stderr
    assert "TerminalError: no" in refused.stderr
    assert (exhausted.returncode, exhausted.stdout) == (6, "")
    assert "of 'fails' did: ValueError: x" in json.loads(exhausted.stderr)["error"]["what"]
    assert read.returncode == 6


def test_interrupted_wait_ends_quietly(shell: Shell) -> None:
    command = [sys.executable, "-m", "brrr_core", "schedule", "fib", "11", "--topic", "demo", "--wait"]
    with subprocess.Popen(command, cwd=shell.folder, env=shell.environ, stderr=subprocess.PIPE, text=True) as waiting:
        try:
            assert waiting.stderr is not None
            waiting.stderr.readline()
            said = waiting.stderr.readline()  # it waits now, so its event loop handles SIGINT
            waiting.send_signal(signal.SIGINT)
            code = waiting.wait(60)
            rest = waiting.stderr.read()
        finally:
            waiting.kill()

    assert said.startswith("waiting for fib")
    assert (code, rest) == (130, "")


def test_earlier_dead_letter_does_not_end_wait(shell: Shell) -> None:
    worker = shell.worker("--max-attempts", "1")
    shell("schedule", "fails", "x", "--topic", "demo", "--wait")
    worker.signal(signal.SIGTERM)
    worker.ended()

    assert shell("schedule", "fails", "x", "--topic", "demo", "--timeout", "1s").returncode == 4


def test_closed_pipe_ends_command_quietly(shell: Shell) -> None:
    shell("setup")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "brrr_core", "queue", "demo"],
            cwd=shell.folder,
            env=shell.environ,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 141
    assert ended.stderr == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_terminal_gets_colours_unless_no_color_is_set(shell: Shell, no_color: str) -> None:
    primary, secondary = pty.openpty()
    environ = {**shell.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    ended = subprocess.run(
        [sys.executable, "-m", "brrr_core", "schedule", "fib", "11", "--topic", "demo", "--timeout", "1600ms"],
        cwd=shell.folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=secondary,
        check=False,
    )
    os.close(secondary)
    said = b""
    while chunk := _read(primary):
        said += chunk
    os.close(primary)

    assert ended.returncode == 4
    assert ended.stdout == b""
    assert b"waiting for fib, 1 s: 1 ready" in said
    assert (b"\x1b[32m" in said) is (not no_color)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed, and everything was read
        return b""


def test_unopenable_backend_is_one_line_without_traceback(shell: Shell) -> None:
    (shell.folder / "q.db").write_text("this is not a database, " * 100)

    for tokens in (("queue", "demo"), ("worker", "tasks", "--topic", "demo"), ("dead", "list", "demo")):
        ended = shell(*tokens)
        assert (ended.returncode, ended.stdout) == (1, "")
        [line] = ended.stderr.splitlines()
        assert line.startswith("brrr: [BRRR-BACKEND-")
    assert "Traceback" in shell("queue", "demo", "-v").stderr


def test_dead_letters_are_listed_without_broken_store(shell: Shell) -> None:
    worker = shell.worker("--max-attempts", "1")
    shell("schedule", "fails", "x", "--topic", "demo")
    worker.says("a dead letter")
    (shell.folder / "bad.db").write_text("this is not a database, " * 100)

    listed = shell("dead", "list", "demo", "--store", "sqlite:///bad.db")

    assert listed.returncode == 0
    assert "without the store: [BRRR-BACKEND-" in listed.stderr
    assert "ValueError: x" in listed.stdout
