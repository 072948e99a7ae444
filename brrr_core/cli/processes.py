"""Several worker processes under one: started, replaced when they die, and stopped together."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from brrr_core.cli.exits import ExitCode, killed_by
from brrr_core.cli.logs import LOG
from brrr_core.engine.termination import STOP_SIGNALS, add_handler, remove_handler
from brrr_core.errors import CommandError, WorkersDiedError

__all__ = ["Supervisor"]

POSIX: Final = os.name == "posix"
"""Whether there are process groups, and signals for an event loop to listen to."""

STEADY: Final = 10.0
"""A process that lived for so many seconds did not die of its start."""

MOST_DEATHS: Final = 5
"""So many deaths of its start, one after the other in one place, and the supervisor gives up."""

STOPPED: Final = (ExitCode.OK, *(code for number in STOP_SIGNALS for code in (-number, killed_by(number))))
"""How a process may end that was asked to stop: one that did not listen yet is ended by the signal itself."""

BACKOFF: Final = 0.5
BACKOFF_LIMIT: Final = 30.0
"""Seconds before a dead process is replaced: at first, and the most after doubling."""


class Supervisor:
    """Keeps a number of processes of one command alive.

    They are in process groups of their own, so that Ctrl-C reaches them through the supervisor only, and once. Each
    holds the end of a pipe as its standard input. The supervisor writes the number of each signal that it relays, and
    a process sees at the end of its input that the supervisor has ended.

    Args:
        command: The command of one process.
        count: How many.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._count = count
        self._processes: dict[Process, float] = {}  # by when they were started
        self._stopping = asyncio.Event()
        self._signal: int | None = None
        self._code: int = ExitCode.OK

    async def run(self) -> int:
        """Keep them alive until SIGTERM or SIGINT, and until they have ended. The exit code.

        Raises:
            CommandError: The system is none that this works on.
            WorkersDiedError: They keep dying.
        """
        if not POSIX:
            raise CommandError(
                f"several processes under one command need a POSIX system, and this is {sys.platform}",
                remedy="Leave --processes out, and start the command as many times as you want processes.",
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
        return self._code if self._signal is None else killed_by(self._signal)

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
                if code not in STOPPED:
                    self._code = self._code or ExitCode.FAILURE
                return
            deaths = 1 if time.monotonic() - started >= STEADY else deaths + 1
            if code == ExitCode.USAGE:  # the next one would read the same command line
                self._code = code
                self._stop()
            elif deaths >= MOST_DEATHS and not self._any_steady():
                self._stop()
                raise WorkersDiedError(
                    f"worker process {pid} {_death(code)}: {deaths} deaths in a row, each within {STEADY:g} s",
                    remedy="Look at what it wrote above, or run it with --processes 1.",
                )
            else:
                await self._pause(pid, code, min(BACKOFF * 2 ** (deaths - 1), BACKOFF_LIMIT))

    def _any_steady(self) -> bool:
        """Whether a process shows that the start works: then it is a call that ends the others."""
        return any(time.monotonic() - started >= STEADY for started in self._processes.values())

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
    """Ask a process to stop, in a way that it can tell from a signal that others send to all processes."""
    if process.stdin is not None:
        process.stdin.write(bytes([number]))
    _send(process, signal.SIGTERM)  # it wakes the process, and ends one that does not listen yet


def _send(process: Process, number: int) -> None:
    # Not `process.send_signal`: it polls, and so takes the exit code from the thread in which asyncio waits for it.
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it ended just now
            os.kill(process.pid, number)


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
