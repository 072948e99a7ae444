"""Run commands and workers as processes, on a SQLite file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from brrr_testkit.servers.nats import nats_server
from brrr_testkit.servers.redis import redis_server

__all__ = ["nats_server", "redis_server"]

BRRR = Path(sys.executable).with_name("brrr")
TIMEOUT = 60.0

TASKS = """
import asyncio, os, pathlib, time
import brrr_core as brrr

@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int, salt=None):
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))

@brrr.handler_no_arg
async def waits(name: str):
    '''Write the process id to a file, then wait for the file that lets it continue.'''
    pathlib.Path(f"started-{name}").write_text(str(os.getpid()))
    while not pathlib.Path(f"go-{name}").exists():
        await asyncio.sleep(0.01)
    return name

@brrr.handler
async def gathers(app: brrr.ActiveWorker, *names: str):
    return list(await app.gather(*(app.call(waits)(name) for name in names)))

@brrr.handler_no_arg
def blocks(name: str):
    pathlib.Path(f"started-{name}").write_text(str(os.getpid()))
    time.sleep(600)

@brrr.handler_no_arg
async def dies(times: int):
    '''End the process `times` times.'''
    for number in range(times):
        died = pathlib.Path(f"died-{number}")
        if not died.exists():
            died.touch()
            os._exit(7)

@brrr.handler_no_arg
async def naps(n: int):
    await asyncio.sleep(0.25)
    return n

@brrr.handler_no_arg
async def kills():
    await asyncio.sleep(0.1)
    os._exit(1)

@brrr.handler_no_arg
async def fails(what: str):
    raise ValueError(what)

@brrr.handler_no_arg
async def refuses(what: str):
    raise brrr.TerminalError(what)

@brrr.handler
async def asks(app: brrr.ActiveWorker, what: str):
    return await app.call(fails)(what)
"""


def until(true: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until a condition is true; fail if it is not true in time."""
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


class Running:
    """A running worker."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    @property
    def children(self) -> list[int]:
        """Return the ids of its running child processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def signal_all(self, number: int) -> None:
        """Send a signal to each process of the control group, as systemd does."""
        for pid in (*self.children, self.process.pid):
            with suppress(ProcessLookupError):  # a child may have ended since it was listed
                os.kill(pid, number)

    def ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def says(self, text: str, *, times: int = 1) -> None:
        until(
            lambda: self.log.count(text) >= times or self.process.poll() is not None,
            lambda: f"{text!r} is not in {self.log}",
        )
        assert self.log.count(text) >= times, self.log

    def ended(self) -> int:
        return self.process.wait(TIMEOUT)


class Shell:
    """Runs commands in a working directory with a module `tasks`."""

    program = BRRR

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tasks.py").write_text(TASKS)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("BRRR_", "PYTEST"))}
        self.environ = {**kept, "BRRR_QUEUE": "sqlite:///q.db?lease=1s"}
        self._workers: list[Running] = []

    def __call__(self, *tokens: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BRRR, *tokens],
            cwd=self.folder,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def worker(self, *tokens: str) -> Running:
        return self.start(BRRR, "worker", "tasks", "--topic", "demo", *tokens)

    def start(self, *command: str | Path) -> Running:
        log = self.folder / f"worker-{len(self._workers)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                text=True,
                start_new_session=True,  # a process group, as a shell creates for each command
            )
        worker = Running(process, log)
        self._workers.append(worker)
        return worker

    def started(self, name: str) -> int:
        """Wait until the named task runs, and return the id of its process."""
        path = self.folder / f"started-{name}"
        until(lambda: path.exists() and path.read_text(), lambda: f"{name} runs")
        return int(path.read_text())

    def go(self, *names: str) -> None:
        for name in names:
            (self.folder / f"go-{name}").touch()

    def stats(self) -> list[int]:
        """Return the counts of ready, leased, delayed and dead messages."""
        return [int(word) for word in self("queue", "demo").stdout.splitlines()[1].split()[1:]]

    def close(self) -> None:
        for worker in self._workers:
            with suppress(OSError):
                worker.signal_all(signal.SIGKILL)
            with suppress(ProcessLookupError):
                worker.signal(signal.SIGKILL)
            worker.process.wait()


@pytest.fixture(scope="session", autouse=True)
def _interrupts() -> Iterator[None]:
    """Let SIGINT reach commands even if the tests run in the background of a shell, whose processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.exhaustive)])
def url(request: pytest.FixtureRequest, shell: Shell) -> str:
    """Return the URL of the shell's backend, with a short lease, since the test kills worker processes."""
    url = f"sqlite:///{shell.folder}/q.db?lease=1s"
    if request.param == "redis":
        url = f"{request.getfixturevalue('redis_server').url}?prefix={shell.folder.name}:&lease=1s"
    shell.environ["BRRR_QUEUE"] = url
    return url


@pytest.fixture
def gone() -> Callable[[int], None]:
    """Wait until a process is gone."""

    def alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        # If its parent was killed and no process reaps orphans, it stays as a zombie.
        with suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return True

    return lambda pid: until(lambda: not alive(pid), lambda: f"process {pid} is gone")


@pytest.fixture(name="until")
def waiting() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition is true."""
    return lambda true: until(true, lambda: "it is so in time")
