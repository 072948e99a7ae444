"""The demo as a user starts it: a process of its own, in a folder of its own, spoken to over a real socket."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BOUND = 30.0
"""Seconds within which whatever is waited for must come."""


class Demo:
    """One running demo. What it prints is in `printed`, line by line, once it was read by `line`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed: list[str] = []
        self.http = httpx.AsyncClient(timeout=BOUND)

    async def line(self, pattern: str) -> str:
        """Read what it prints up to the first line that matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(BOUND):
            while raw := await self.process.stdout.readline():
                self.printed.append(raw.decode().rstrip("\n"))
                if re.search(pattern, self.printed[-1]):
                    return self.printed[-1]
        raise AssertionError(f"it ended before it printed {pattern!r}: {self.printed}, {await self.complaints()}")

    async def complaints(self) -> str:
        """All that it said on stderr, once it has ended."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ready(self) -> None:
        """Wait until it listens."""
        await self.line("^Ctrl-C stops it")
        listens = next(line for line in self.printed if "listens on" in line)
        self.http.base_url = httpx.URL(listens.split()[-1])

    async def result(self, url: str) -> object:
        """Poll for the result of a call."""
        async with asyncio.timeout(BOUND):
            while (response := await self.http.get(url)).status_code == 404:  # noqa: ASYNC110 - it is polled over HTTP
                await asyncio.sleep(0.02)
        assert response.status_code == 200, response.text
        return response.json()["result"]

    async def ended(self, *signals: int) -> tuple[int, str]:
        """Send signals, read what it still prints, and give its exit status and all that it said on stderr."""
        for number in signals:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        async with asyncio.timeout(BOUND):
            rest, complaints = await self.process.communicate()
        self.printed.extend(rest.decode().splitlines())
        assert self.process.returncode is not None
        return self.process.returncode, complaints.decode()


Start = Callable[..., Awaitable[Demo]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts demos in the test's folder, on any free port unless told otherwise; kills what is left."""
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
