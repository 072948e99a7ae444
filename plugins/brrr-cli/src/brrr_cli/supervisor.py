"""A supervisor of several worker processes: start them, replace those that die, stop them together."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from brrr_cli.errors import ExitCode, signal_exit_code
from brrr_cli.logs import LOG
from brrr_core.engine.termination import STOP_SIGNALS, add_handler, remove_handler
from brrr_core.errors import CommandError, WorkersDiedError

__all__ = ["Supervisor"]

POSIX: Final = os.name == "posix"
"""Whether the system has process groups, and signals that an event loop can handle."""

STEADY_AFTER: Final = 10.0
"""Seconds after which a process counts as steady: its start worked."""

MAX_EARLY_DEATHS: Final = 5
"""The supervisor gives up after this many early deaths in a row of one process and its replacements."""

STOPPED_CODES: Final = (ExitCode.OK, *(code for number in STOP_SIGNALS for code in (-number, signal_exit_code(number))))
"""Exit codes of a process that stopped on request. The signal itself ends a process that does not listen yet."""

BACKOFF: Final = 0.5
BACKOFF_LIMIT: Final = 30.0
"""Seconds before a dead process is replaced: the first delay, and the limit for doubling it."""


class Supervisor:
    """Keeps a number of processes of one command alive.

    Each process has its own process group, so Ctrl-C reaches it only once, through the supervisor. Its standard input
    is a pipe. The supervisor writes the number of each signal that it relays to the pipe. When the supervisor ends, the
    process reads the end of its input.

    Args:
        command: The command of one process.
        count: The number of processes.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._count = count
        self._processes: dict[Process, float] = {}  # with their start times
        self._stopping = asyncio.Event()
        self._signal: int | None = None
        self._code: int = ExitCode.OK

    async def run(self) -> int:
        """Keep the processes alive until SIGTERM or SIGINT, wait until they end, and return the exit code.

        Raises:
            CommandError: The system is not a POSIX system.
            WorkersDiedError: The processes keep dying.
        """
        if not POSIX:
            raise CommandError(
                f"--processes needs a POSIX system, and this is {sys.platform}",
                remedy="Omit --processes, and start the command once for each process.",
            )
        for number in STOP_SIGNALS:
            add_handler(number, self._on_signal, number)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep())
        finally:
            for number in STOP_SIGNALS:
                remove_handler(number)
        return self._code if self._signal is None else signal_exit_code(self._signal)

    def _on_signal(self, number: int) -> None:
        if not self._stopping.is_set():
            LOG.info("stopping %d worker processes", len(self._processes))
            self._stop(number)
        elif self._signal is None:
            self._signal = number
            self._stop(number)
        else:
            for process in self._processes:
                _send(process, signal.SIGKILL)

    def _stop(self, number: int = signal.SIGTERM) -> None:
        self._stopping.set()
        for process in self._processes:
            _relay(process, number)

    async def _keep(self) -> None:
        """Keep one process alive."""
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            pid, code = await self._run_one()
            if self._stopping.is_set():
                if code not in STOPPED_CODES:
                    self._code = self._code or ExitCode.FAILURE
                return
            deaths = 1 if time.monotonic() - started >= STEADY_AFTER else deaths + 1
            if code == ExitCode.USAGE:  # a replacement would fail on the same command line
                self._code = code
                self._stop()
            elif deaths >= MAX_EARLY_DEATHS and not self._any_steady():
                self._stop()
                raise WorkersDiedError(
                    f"worker process {pid} {_death(code)}: {deaths} deaths in a row, each within {STEADY_AFTER:g} s",
                    remedy="Read its output above, or run it with --processes 1.",
                )
            else:
                await self._pause(pid, code, min(BACKOFF * 2 ** (deaths - 1), BACKOFF_LIMIT))

    def _any_steady(self) -> bool:
        """Whether a process shows that the start works, so that a call must have ended the others."""
        return any(time.monotonic() - started >= STEADY_AFTER for started in self._processes.values())

    async def _run_one(self) -> tuple[int, int]:
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, process_group=0)
        self._processes[process] = time.monotonic()
        try:
            if self._stopping.is_set():
                _relay(process)
            code = await process.wait()
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                _relay(process)
            await process.wait()
            raise
        finally:
            del self._processes[process]
        return process.pid, code

    async def _pause(self, pid: int, code: int, seconds: float) -> None:
        LOG.warning("worker process %d %s; another one starts in %.1f s", pid, _death(code), seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _relay(process: Process, number: int = signal.SIGTERM) -> None:
    """Ask a process to stop. The byte tells it apart from a signal that a service manager sends to all processes."""
    if process.stdin is not None:
        process.stdin.write(bytes([number]))
    _send(process, signal.SIGTERM)  # wakes the process, or ends it if it does not listen yet


def _send(process: Process, number: int) -> None:
    # `process.send_signal` polls, and would take the exit code from the thread in which asyncio waits for it.
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
