"""Commands as the first process of a container, which receives only signals that it handles."""

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brrr_testkit.processes import missing

Shell = Any
Until = Callable[[Callable[[], object]], None]
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.name == "posix" and os.getuid() == 0:
            missing(f"cannot create a PID namespace: {error}")
        pytest.skip("only root can create a PID namespace")


@pytest.fixture
def begin(shell: Shell, until: Until) -> Iterator[Callable[..., "tuple[subprocess.Popen[bytes], int]"]]:
    """Start a command as the first process of a PID namespace. Return the process to wait for, and the command's id."""
    began: list[subprocess.Popen[bytes]] = []

    def begin(*tokens: str, stdin: int = subprocess.DEVNULL) -> "tuple[subprocess.Popen[bytes], int]":
        with (shell.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*UNSHARE, shell.program, *tokens],
                cwd=shell.folder,
                env=shell.environ,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        began.append(process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(children.read_text)
        return process, int(children.read_text())

    yield begin
    for process in began:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("schedule", "waits", "a", "--topic", "demo", "--wait"), "waiting for"),
        (("result", "waits", "a", "--wait"), "waiting for"),
        (("worker", "slow", "--topic", "demo"), "importing"),
        (("worker", "slow", "--topic", "demo", "--processes", "2"), "importing"),
        (("dead", "drop", "demo"), "Delete 1 dead letter"),
    ],
    ids=["schedule", "result", "worker", "supervisor", "prompt"],
)
def test_sigterm_ends_waiting_command(shell: Shell, begin: Any, until: Until, tokens: Any, said: str) -> None:
    (shell.folder / "slow.py").write_text(
        "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    if tokens[0] == "dead":
        shell("schedule", "none", "--topic", "demo")
        worker = shell.worker("--max-attempts", "1")
        worker.says("a dead letter on demo")
        worker.signal(signal.SIGKILL)
    terminal, stdin = pty.openpty()
    with os.fdopen(terminal), os.fdopen(stdin):
        process, pid = begin(*tokens, stdin=stdin)
        until(lambda: said in (shell.folder / "log").read_text())

        os.kill(pid, signal.SIGTERM)

        assert process.wait(30) == (0 if "--processes" in tokens else 128 + signal.SIGTERM)
