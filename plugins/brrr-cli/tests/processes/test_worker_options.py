"""`brrr worker --lifespan`, `--hooks` and `--topic NAME:CONCURRENCY` as processes."""

import json
import signal
from typing import Any

import pytest

Shell = Any

STATEFUL = """
import asyncio, os, pathlib
from contextlib import asynccontextmanager

import brrr_core as brrr

@asynccontextmanager
async def lifespan(app):
    pathlib.Path(f"opened-{os.getpid()}").touch()
    yield os.getpid()
    pathlib.Path(f"closed-{os.getpid()}").touch()

@asynccontextmanager
async def fails(app):
    raise OSError("no database")
    yield

@asynccontextmanager
async def leaves(app):
    yield 0
    raise OSError("the pool is stuck")

@asynccontextmanager
async def hangs(app):
    print("entering", flush=True)
    try:
        await asyncio.Event().wait()
        yield
    finally:
        print("cleaned up", flush=True)

@brrr.handler_no_arg
async def loop():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

@brrr.handler_no_arg
def state():
    return brrr.current().state == os.getpid()

@brrr.handler_no_arg
async def waits(name):
    pathlib.Path(f"started-{name}").write_text(str(os.getpid()))
    while not pathlib.Path(f"go-{name}").exists():
        await asyncio.sleep(0.01)

class Counts:
    @brrr.hookimpl
    def brrr_worker_started(self, event):
        print(f"{event.topic} has {event.concurrency}", flush=True)

class Names:
    @brrr.hookimpl
    def brrr_call_returned(self, event):
        print(f"{event.task_name} returned", flush=True)
"""


@pytest.fixture(autouse=True)
def _stateful(shell: Shell) -> None:
    (shell.folder / "tasks.py").write_text(STATEFUL)


def test_each_process_has_its_own_state_and_closes_it(shell: Shell) -> None:
    worker = shell.worker("--lifespan", "tasks:lifespan", "--processes", "2")
    worker.says("working on demo", times=2)
    assert len(list(shell.folder.glob("opened-*"))) == 2
    assert shell("schedule", "state", "--topic", "demo", "--timeout", "30s").stdout == "true\n"
    assert not list(shell.folder.glob("closed-*"))

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0
    assert len(list(shell.folder.glob("closed-*"))) == 2


def test_lifespan_that_fails_ends_the_worker_before_it_receives(shell: Shell) -> None:
    shell("schedule", "state", "--topic", "demo")

    ended = shell("worker", "tasks", "--topic", "demo", "--lifespan", "tasks:fails")

    assert ended.returncode == 1
    assert "[BRRR-APP-06] the lifespan 'fails' failed before its `yield`" in ended.stderr
    assert "OSError: no database" in ended.stderr
    assert "working on demo" not in ended.stderr
    assert shell.stats() == [1, 0, 0, 0]


def test_failure_at_the_end_is_reported_after_a_graceful_stop(shell: Shell) -> None:
    shell("schedule", "waits", "a", "--topic", "demo")
    worker = shell.worker("--lifespan", "tasks:leaves")
    shell.started("a")

    worker.signal(signal.SIGTERM)
    worker.says("stopping")
    shell.go("a")

    assert worker.ended() == 1
    worker.says("'leaves' failed after its `yield`: OSError: the pool is stuck")
    assert shell.stats() == [0, 0, 0, 0]


@pytest.mark.parametrize("more", [[], ["--processes", "2"]], ids=["one", "two"])
def test_sigterm_ends_worker_that_makes_its_state(shell: Shell, more: list[str]) -> None:
    shell("schedule", "state", "--topic", "demo")
    worker = shell.worker("--lifespan", "tasks:hangs", *more)
    worker.says("entering", times=2 if more else 1)

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0
    worker.says("cleaned up", times=2 if more else 1)
    assert shell.stats() == [1, 0, 0, 0]


def test_topics_have_their_own_concurrency_and_hooks_are_called(shell: Shell) -> None:
    worker = shell.start(
        *(shell.program, "worker", "tasks", "--concurrency", "9", "--lifespan", "tasks:lifespan"),
        *("--topic", "fast", "--topic", "slow:4", "--topic", "shard:7:64"),
        *("--hooks", "tasks:Counts", "--hooks", "tasks:Names"),
    )
    for said in ("fast has 9", "slow has 4", "shard:7 has 64"):
        worker.says(said)

    assert shell("schedule", "state", "--topic", "shard:7", "--timeout", "30s").stdout == "true\n"
    worker.says("state returned")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--topic", "slow:0"], "concurrency is 0"),
        (["--topic", "slow", "--hooks", "tasks:waits"], "tasks:waits has no hook"),
        (["--topic", "slow", "--lifespan", "tasks:nosuch"], "has no 'nosuch'"),
    ],
)
def test_wrong_option_ends_the_worker_with_code_2(shell: Shell, tokens: list[str], said: str) -> None:
    ended = shell("worker", "tasks", *tokens)

    assert ended.returncode == 2
    assert said in ended.stderr


NO_UVLOOP = "raise ImportError('uvloop is not installed')"


@pytest.mark.parametrize(
    ("options", "installed", "used"),
    [
        ((), True, "uvloop"),
        ((), False, "asyncio"),
        (("--loop", "asyncio"), True, "asyncio"),
        (("--loop", "uvloop", "--processes", "2"), True, "uvloop"),
    ],
)
def test_worker_uses_uvloop_if_it_is_installed(shell: Shell, options: Any, installed: bool, used: str) -> None:
    if not installed:
        (shell.folder / "uvloop.py").write_text(NO_UVLOOP)
        shell.environ["PYTHONPATH"] = str(shell.folder)
    shell.worker(*options)

    assert shell("schedule", "loop", "--topic", "demo", "--timeout", "30s").stdout == f'"{used}"\n'


def test_loop_that_is_not_installed_is_refused(shell: Shell) -> None:
    (shell.folder / "uvloop.py").write_text(NO_UVLOOP)
    shell.environ["PYTHONPATH"] = str(shell.folder)

    ended = shell("worker", "tasks", "--topic", "demo", "--loop", "uvloop")

    assert ended.returncode == 2
    assert "BRRR-PLUGIN-02" in ended.stderr
    assert 'pip install "brrr-cli[uvloop]"' in ended.stderr


def test_log_can_be_json_in_each_process(shell: Shell) -> None:
    worker = shell.worker("--log", "json", "--processes", "2")
    worker.says("worker_started", times=2)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert {line["event"] for line in lines if "event" in line} == {"worker_started", "worker_stopped"}
    assert len({line["process"] for line in lines if "event" in line}) == 2
