"""Run commands in the test's own process, on a memory backend for each test."""

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import brrr_core as brrr
from brrr_cli.program import main
from brrr_core import Task
from brrr_core.backend.memory import forget
from brrr_testkit.sites import site, sites

__all__ = ["command", "site", "sites", "tasks", "url", "work"]

NUMBERS = itertools.count()

TASKS = """
import brrr_core as brrr

@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int, salt=None):
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 2), app.call(fib)(n - 1)))

@brrr.handler_no_arg
async def hello(greetee: str):
    return f"Hello, {greetee}!"

@brrr.handler_no_arg
async def fails(what: str):
    raise ValueError(what)

handlers = {"greet": hello}

def make():
    return {"number": fib}

plain = {"bad": print}
number = 7
"""


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name a memory backend in the environment."""
    name = f"cli-{next(NUMBERS)}"
    for variable in ("BRRR_STORE", "BRRR_CACHE", "BRRR_CODEC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("BRRR_QUEUE", f"memory:{name}")
    yield f"memory:{name}"
    forget(name)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], url: str) -> Callable[..., Ended]:
    """Run a command."""

    def run(*tokens: str) -> Ended:
        code = main(tokens)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create a working directory with a module `tasks`."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("tasks", None)


@pytest.fixture
def work(url: str) -> Callable[[Mapping[str, Task]], None]:
    """Run all calls on the topic `demo`, with one attempt for each."""

    def run(handlers: Mapping[str, Task]) -> None:
        async def until_idle() -> None:
            async with brrr.serve(url, policy=brrr.Policy(max_attempts=1)) as connection:
                app = brrr.AppWorker(handlers=handlers, codec="json", connection=connection)
                loop = asyncio.create_task(connection.loop("demo", app.handle))
                async with asyncio.timeout(30):
                    while sum((await connection.queue.stats("demo"))[:3]):  # noqa: ASYNC110 - backends send no events
                        await asyncio.sleep(0.005)
                connection.stop()
                await loop

        asyncio.run(until_idle())

    return run
