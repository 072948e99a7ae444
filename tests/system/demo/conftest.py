"""Start the demo as a user does: a separate process in its own folder, with a real socket."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]
BOUND = 30.0
"""The longest wait in a test, in seconds."""


class Demo:
    """One running demo. `printed` holds the lines that `line` has read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed: list[str] = []
        self.http = httpx.AsyncClient(timeout=BOUND)

    async def line(self, pattern: str) -> str:
        """Read the output up to the first line that matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(BOUND):
            while raw := await self.process.stdout.readline():
                self.printed.append(raw.decode().rstrip("\n"))
                if re.search(pattern, self.printed[-1]):
                    return self.printed[-1]
        raise AssertionError(f"the demo ended before it printed {pattern!r}: {self.printed}, {await self.errors()}")

    async def errors(self) -> str:
        """Return its stderr after it has ended."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ready(self) -> None:
        """Wait until the demo listens."""
        await self.line("^Ctrl-C stops it")
        listens = next(line for line in self.printed if "listens on" in line)
        self.http.base_url = httpx.URL(listens.split()[-1])

    async def result(self, url: str) -> object:
        """Poll for the result of a call."""
        async with asyncio.timeout(BOUND):
            while (response := await self.http.get(url)).status_code == 404:  # noqa: ASYNC110 - polling over HTTP
                await asyncio.sleep(0.02)
        assert response.status_code == 200, response.text
        return response.json()["result"]

    async def ended(self, *signals: int) -> tuple[int, str]:
        """Send signals, read the rest of the output, and return the exit status and stderr."""
        for number in signals:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        async with asyncio.timeout(BOUND):
            rest, errors = await self.process.communicate()
        self.printed.extend(rest.decode().splitlines())
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


Start = Callable[..., Awaitable[Demo]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start demos in the test's folder, by default on a free port. Kill those that still run at the end."""
    demos: list[Demo] = []

    async def started(*arguments: str, ready: bool = True) -> Demo:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "examples.demo",
            *(arguments or ("--port", "0")),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        demo = Demo(process)
        demos.append(demo)
        if ready:
            await demo.ready()
        return demo

    yield started
    for demo in demos:
        await demo.http.aclose()
        if demo.process.returncode is None:
            await demo.ended(signal.SIGKILL)


@pytest.fixture
async def demo(start: Start) -> Demo:
    return await start()
