"""A session: one engine with its server, workers and client, each in processes of its own."""

import json
import os
import secrets
import select
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

from benchmarks.peers.cases import Case
from benchmarks.peers.driver import Answer
from benchmarks.peers.engines import Engine
from benchmarks.peers.environments import ROOT
from benchmarks.peers.figures import Run
from benchmarks.peers.processes import cpu_seconds, descendants, peak_mib, reset_peak, started

__all__ = ["EngineError", "Session"]

OPENING: Final = 60.0
"""Seconds within which a fresh worker must complete its first call."""

WARMING: Final = 50
"""Calls before the first case, so that connections and caches exist."""


class EngineError(Exception):
    """An engine hung, ended or gave a wrong value. The session cannot continue."""


class Session:
    """An engine that runs. Use it as a context manager.

    Args:
        engine: The engine.
        folder: A folder for its data and logs.
        timeout: Seconds after which a case counts as hanging.

    Attributes:
        cold_start: Seconds from the start of a worker and a client to the first result.
    """

    cold_start = 0.0

    def __init__(self, engine: Engine, folder: Path, *, timeout: float) -> None:
        self._engine = engine
        self._folder = folder
        self._timeout = timeout
        self._servers = ExitStack()
        self._running = ExitStack()
        self._environment: dict[str, str] = {}
        self._client: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            _ = self._engine.python  # makes its environment, which may have the server too
            self._environment = {
                "PYTHONPATH": str(ROOT),
                **self._servers.enter_context(self._engine.server(self._folder)),
            }
            self._start(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
        self._servers.close()

    def run(self, case: Case, size: int) -> Run:
        """Run a case once.

        Raises:
            EngineError: It hung or failed, or its value is wrong.
        """
        if self._started != case.workers:
            self._start(case.workers)
        workers, servers = self.processes()
        reset_peak(workers)
        before = cpu_seconds(workers), cpu_seconds(servers)
        timeout = self._timeout * (10 if case.large else 1)
        answer = self._ask(case.kind, case.task, case.arguments(size), timeout, case.repeat)
        workers, servers = self.processes()
        expected = case.value(size) * case.repeat
        if answer["value"] != expected:
            raise EngineError(f"wrong value: {answer['value']} instead of {expected}")
        return Run(
            answer["seconds"],
            answer["samples"],
            cpu_seconds(workers) - before[0],
            cpu_seconds(servers) - before[1],
            peak_mib(workers),
        )

    def _start(self, workers: int) -> None:
        """Start so many workers and a client, in place of those that run, and wait for their first call."""
        self._running.close()
        commands = self._engine.workers(self._environment, workers)
        self._started = workers
        begun = time.perf_counter()
        self._workers = [self._process(command, f"worker-{index}") for index, command in enumerate(commands)]
        self._client = self._process(self._engine.client(), "client", piped=True)
        self._ask("call", "leaf", [1], OPENING)
        self.cold_start = self.cold_start or time.perf_counter() - begun
        if workers > 1:
            time.sleep(2)  # the first answered; the others have no sign of being ready
        self._ask("independent", "leaf", [WARMING], OPENING)

    def _process(self, command: list[str], name: str, *, piped: bool = False) -> "subprocess.Popen[bytes]":
        log = self._folder / f"{name}.log"
        return self._running.enter_context(started(command, log, self._environment, piped=piped))

    def processes(self) -> tuple[set[int], set[int]]:
        """Return the processes of the workers, and those of the server."""
        assert self._client is not None, "the session is open"
        workers = descendants(*(worker.pid for worker in self._workers))
        return workers, descendants(os.getpid()) - {os.getpid()} - workers - descendants(self._client.pid)

    def _ask(self, kind: str, task: str, arguments: list[Any], timeout: float, repeat: int = 1) -> Answer:
        client = self._client
        assert client is not None, "the session is open"
        assert client.stdin is not None, "it is a pipe"
        assert client.stdout is not None, "it is a pipe"
        run = secrets.token_hex(4)
        request = {"kind": kind, "task": task, "arguments": arguments, "repeat": repeat, "run": run}
        try:
            client.stdin.write(json.dumps(request).encode() + b"\n")
            client.stdin.flush()
        except BrokenPipeError:
            raise EngineError(f"the client ended\n{self._log()}") from None
        answer: Answer = json.loads(self._line(client.stdout, time.monotonic() + timeout, timeout))
        if error := answer.get("error"):
            raise EngineError(error)
        return answer

    def _line(self, output: IO[bytes], end: float, timeout: float) -> bytes:
        """Return the next line of the client. Raise if it takes too long, or if a process ended."""
        while not select.select([output], [], [], 0.5)[0]:
            if any(worker.poll() is not None for worker in self._workers):
                raise EngineError(f"a worker ended\n{self._log()}")
            if time.monotonic() > end:
                raise EngineError(f"hang: no result after {timeout:.0f} s\n{self._log()}")
        line = output.readline()
        if not line:
            raise EngineError(f"the client ended\n{self._log()}")
        return line

    def _log(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(self._folder.glob("*.log"))
        )
