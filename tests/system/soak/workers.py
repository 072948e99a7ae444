"""The worker processes of the soak. One that ends is replaced."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system.soak.worker import FOLDER

__all__ = ["Worker", "Workers", "working"]

HOME: Final = Path(__file__).parents[3]


def _faketime() -> Path | None:
    """Return libfaketime, which changes the clock of one process; None if this machine cannot run it."""
    spec = importlib.util.find_spec("libfaketime")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(folder).glob("vendor/libfaketime/src/libfaketime.so.1"):
            return found
    return None


@dataclass(frozen=True)
class Worker:
    """A worker process.

    Attributes:
        process: The process.
        log: Path of the file with its output.
        clock: Path of the file with the offset of its clock.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    clock: Path

    def set_clock(self, seconds: float) -> None:
        """Set its clock to this number of seconds after the correct time."""
        self.clock.write_text(f"{seconds:+.1f}\n")


class Workers:
    """A number of worker processes.

    Attributes:
        running: The processes.
        clocks: Whether their clocks can be set.
        ends: How often processes ended, by the reason.
    """

    def __init__(self, urls: Sequence[str], number: int, folder: Path) -> None:
        self.ends: Counter[str] = Counter()
        self._urls = urls
        self._folder = folder
        self._faketime = _faketime()
        self.clocks = self._faketime is not None
        self._number = 0
        self.running = [self._start() for _ in range(number)]

    async def replace(self) -> None:
        """Replace processes that have ended, until cancelled."""
        while True:
            for at, worker in enumerate(self.running):
                code = worker.process.poll()
                if code is not None:
                    self.ends["killed" if code == -signal.SIGKILL else _last_line(worker.log)] += 1
                    self.running[at] = self._start()
            await asyncio.sleep(0.1)

    def stop(self) -> None:
        """Kill all processes."""
        for worker in self.running:
            with suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGCONT)
            worker.process.kill()
            worker.process.wait()

    def _start(self) -> Worker:
        self._number += 1
        log, clock = (self._folder / f"worker-{self._number}.{kind}" for kind in ("log", "clock"))
        clock.write_text("+0\n")
        environ = {**os.environ, FOLDER: str(self._folder)}
        if self._faketime is not None:
            environ |= {
                "LD_PRELOAD": str(self._faketime),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_RESET": "1",
            }
        command = [sys.executable, "-m", "tests.system.soak.worker", *self._urls]
        with log.open("wb") as output:
            return Worker(subprocess.Popen(command, cwd=HOME, env=environ, stdout=output, stderr=output), log, clock)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "ended without a word"


@asynccontextmanager
async def working(urls: Sequence[str], number: int, folder: Path) -> AsyncGenerator[Workers]:
    """Run workers inside the block."""
    workers = Workers(urls, number, folder)
    replacing = asyncio.create_task(workers.replace())
    try:
        yield workers
    finally:
        replacing.cancel()
        await asyncio.wait({replacing})
        workers.stop()
