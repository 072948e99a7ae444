"""`brrr worker` as a process: how it ends, and that no message is lost."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brrr_testkit.servers.redis import Server, valkey_program

Shell = Any
NOTHING = [0, 0, 0, 0]

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc"
)

LOOPS = pytest.mark.parametrize("loop", [pytest.param("asyncio", marks=pytest.mark.exhaustive), "uvloop"])

LEAKY = """
from dataclasses import replace

import brrr_core as brrr
from brrr_core.backend import Roles
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.backend.options import BackendUrl
from brrr_core.errors import BackendUnavailableError
from brrr_core.plugins.builtin import MEMORY

class Queue:
    lease = 30.0

    def __init__(self, password):
        self.password = password

    async def receive(self, topic, *, limit, wait):
        raise BackendUnavailableError("no answer", remedy="Wait.") from RuntimeError(f"AUTH {self.password} failed")

    put = ack = receive

class Leaky(MemoryBackend):
    def __init__(self, url, options):
        super().__init__(BackendUrl("memory", path="leaky"), MemoryOptions())
        self.password = url.password.reveal()

    async def start(self):
        roles = await super().start()
        return Roles(queue=Queue(self.password), store=roles.store, cache=roles.cache)

brrr.register(replace(MEMORY, schemes=("leaky",), backend="leaky:Leaky"))

@brrr.handler_no_arg
async def echo(text: str):
    return text
"""


def test_log_masks_secrets_of_urls(shell: Shell) -> None:
    (shell.folder / "leaky.py").write_text(LEAKY)

    ended = shell(
        "worker", "leaky", "-v", "--topic", "demo", "--queue", "leaky://u:hun%74er2@h", "--unavailable-timeout", "100ms"
    )

    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert ended.stderr.count("RuntimeError: AUTH **** failed") >= 2  # in the log and in the report
    assert "hunter2" not in ended.stderr
    assert "hun%74er2" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
@LOOPS
def test_first_signal_lets_running_handler_finish(shell: Shell, number: int, loop: str) -> None:
    shell("schedule", "waits", "a", "--topic", "demo")
    worker = shell.worker("--loop", loop)
    shell.started("a")

    worker.signal(number)
    worker.says("stopping")
    shell.go("a")

    assert worker.ended() == 0
    assert shell("result", "waits", "a").stdout == '"a"\n'
    assert shell.stats() == NOTHING
    assert "stopped working on demo; 0 unfinished calls" in worker.log


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
@LOOPS
def test_second_signal_ends_worker_at_once_and_releases_message(shell: Shell, number: int, loop: str) -> None:
    shell("schedule", "waits", "a", "--topic", "demo")
    worker = shell.worker("--grace", "1h", "--loop", loop)
    shell.started("a")

    worker.signal(number)
    worker.says("stopping")
    worker.signal(number)

    assert worker.ended() == 128 + number
    assert "stopped working on demo" in worker.log
    assert shell.stats() == [1, 0, 0, 0]

    shell.go("a")
    shell.worker()
    assert shell("result", "waits", "a", "--timeout", "30s").stdout == '"a"\n'


def test_thread_that_outlives_grace_does_not_keep_process(shell: Shell) -> None:
    shell("schedule", "blocks", "a", "--topic", "demo")
    worker = shell.worker("--grace", "10ms")
    shell.started("a")

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0
    assert shell.stats() == [1, 0, 0, 0]


def test_worker_works_on_several_topics(shell: Shell) -> None:
    shell.worker("--topic", "other")

    assert shell("schedule", "fib", "5", "--topic", "other", "--timeout", "30s").stdout == "5\n"
    assert shell("schedule", "fib", "6", "--topic", "demo", "--timeout", "30s").stdout == "8\n"


def test_each_failure_is_logged_once_in_one_line(shell: Shell) -> None:
    worker = shell.worker("--max-attempts", "2", "--backoff", "1ms")
    shell("schedule", "fails", "two\nlines", "--topic", "demo")
    worker.says("a dead letter on demo")

    assert "WARNING" in worker.log
    assert "fails failed in attempt 1, and runs again in 0.0 s: ValueError: two lines (call" in worker.log
    assert "fails failed in attempt 2 and is dead-lettered: ValueError: two lines (call" in worker.log
    assert worker.log.count("ValueError: two lines") == 2  # once for each attempt, not again for the dead letter
    assert "Traceback" not in worker.log


def test_failure_that_is_an_outcome_is_not_logged_as_dead_letter(shell: Shell) -> None:
    worker = shell.worker()
    shell("schedule", "refuses", "no such customer", "--topic", "demo", "--wait")

    worker.says("refuses failed for good in attempt 1: no such customer (call")
    assert "dead" not in worker.log


def test_verbose_logs_each_call_and_tracebacks(shell: Shell) -> None:
    worker = shell.worker("--max-attempts", "1", "-v")
    shell("schedule", "asks", "x", "--topic", "demo")
    worker.says("a dead letter on demo")

    for text in ("running asks, attempt 1", "asks waits for 1 calls", "Traceback", "ValueError: x"):
        assert text in worker.log


def test_quiet_logs_only_failures(shell: Shell) -> None:
    worker = shell.worker("--max-attempts", "1", "-q")
    shell("schedule", "fails", "x", "--topic", "demo")
    worker.says("a dead letter on demo")
    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0
    assert "working on" not in worker.log
    assert "stopping" not in worker.log


def test_killed_process_is_replaced_and_its_call_finishes(shell: Shell, gone: Callable[[int], None]) -> None:
    worker = shell.worker("--processes", "2")
    worker.says("working on demo", times=2)
    shell("schedule", "gathers", "a", "b", "c", "--topic", "demo")
    victim = shell.started("a")
    shell.started("b")
    (shell.folder / "started-a").unlink()

    os.kill(victim, signal.SIGKILL)
    worker.says(f"worker process {victim} was killed by SIGKILL; another one starts")
    worker.says("working on demo", times=3)
    second = shell.started("a")
    shell.go("a", "b", "c")

    assert second != victim
    assert shell("result", "gathers", "a", "b", "c", "--timeout", "40s").stdout == '["a", "b", "c"]\n'
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    gone(second)
    assert shell.stats() == NOTHING


def test_first_signal_lets_handlers_of_all_processes_finish(shell: Shell) -> None:
    worker = shell.worker("--processes", "2")
    worker.says("working on demo", times=2)
    shell("schedule", "waits", "a", "--topic", "demo")
    shell.started("a")

    worker.ctrl_c()
    worker.says("stopping 2 worker processes")
    worker.says("stopping; a second", times=2)
    shell.go("a")

    assert worker.ended() == 0
    assert shell("result", "waits", "a").stdout == '"a"\n'
    assert shell.stats() == NOTHING


@pytest.mark.exhaustive
def test_second_signal_ends_all_processes_at_once(shell: Shell, gone: Callable[[int], None]) -> None:
    worker = shell.worker("--processes", "2", "--grace", "1h")
    worker.says("working on demo", times=2)  # before that, a signal ends a process at once
    shell("schedule", "waits", "a", "--topic", "demo")
    child = shell.started("a")

    worker.signal(signal.SIGTERM)
    worker.says("stopping; a second", times=2)
    worker.signal(signal.SIGTERM)

    assert worker.ended() == 128 + signal.SIGTERM
    gone(child)
    assert shell.stats() == [1, 0, 0, 0]


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
def test_signal_to_all_processes_counts_once(shell: Shell, number: int) -> None:
    worker = shell.worker("--processes", "2", "--grace", "1h")
    worker.says("working on demo", times=2)
    shell("schedule", "waits", "a", "--topic", "demo")
    shell.started("a")

    worker.signal_all(number)
    worker.says("stopping 2 worker processes")
    worker.says("stopping; a second", times=2)
    worker.says("stopped working on demo")  # the process without a running handler
    assert worker.process.poll() is None
    shell.go("a")

    assert worker.ended() == 0
    assert shell("result", "waits", "a").stdout == '"a"\n'
    assert shell.stats() == NOTHING


@needs_proc
@pytest.mark.exhaustive  # test_ending.py has it too
def test_second_signal_to_all_processes_ends_them_at_once(shell: Shell) -> None:
    worker = shell.worker("--processes", "2", "--grace", "1h")
    worker.says("working on demo", times=2)
    for name in "abc":
        shell("schedule", "waits", name, "--topic", "demo")
        shell.started(name)

    worker.signal_all(signal.SIGTERM)
    worker.says("stopping; a second", times=2)
    worker.signal_all(signal.SIGTERM)

    assert worker.ended() == 128 + signal.SIGTERM
    assert shell.stats() == [3, 0, 0, 0]


def test_first_signal_ends_processes_that_still_import(
    shell: Shell, until: Callable[[Callable[[], object]], None]
) -> None:
    (shell.folder / "tasks.py").write_text(
        "import os, pathlib, time\npathlib.Path(f'begun-{os.getpid()}').touch()\ntime.sleep(600)\n"
    )
    worker = shell.worker("--processes", "2")
    until(lambda: len(list(shell.folder.glob("begun-*"))) == 2)

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0


def test_process_that_dies_during_stop_is_failure(shell: Shell) -> None:
    worker = shell.worker("--processes", "2", "--grace", "1h")
    worker.says("working on demo", times=2)
    shell("schedule", "waits", "a", "--topic", "demo")
    child = shell.started("a")

    worker.signal(signal.SIGTERM)
    worker.says("stopping; a second", times=2)
    os.kill(child, signal.SIGKILL)

    assert worker.ended() == 1


def test_process_that_ends_by_itself_is_replaced(shell: Shell) -> None:
    worker = shell.worker("--processes", "2")
    worker.says("working on demo", times=2)
    shell("schedule", "waits", "a", "--topic", "demo")
    child = shell.started("a")
    shell.go("a")

    os.kill(child, signal.SIGTERM)
    worker.says(f"worker process {child} ended with code 0; another one starts")
    worker.says("working on demo", times=3)
    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0


def test_processes_stop_when_supervisor_is_killed(
    shell: Shell, gone: Callable[[int], None], until: Callable[[Callable[[], object]], None]
) -> None:
    worker = shell.worker("--processes", "2")
    worker.says("working on demo", times=2)
    shell("schedule", "waits", "a", "--topic", "demo")
    child = shell.started("a")
    shell.go("a")
    assert shell("result", "waits", "a", "--timeout", "30s").returncode == 0

    worker.signal(signal.SIGKILL)

    worker.process.wait()
    gone(child)
    until(lambda: worker.log.count("stopped working on demo") == 2)
    assert worker.log.count("stopping, because the supervisor has ended") == 2


def test_processes_with_usage_error_are_not_replaced(shell: Shell) -> None:
    worker = shell.worker("--processes", "2", "--queue", "sqlit:///q.db")

    assert worker.ended() == 2
    assert "Did you mean 'sqlite'?" in worker.log
    assert "another one starts" not in worker.log


@pytest.fixture
def late(shell: Shell, tmp_path: Path) -> Iterator[Server]:
    """Name a Redis server that is not started yet in the environment of the commands."""
    server = Server(valkey_program(), tmp_path / "redis")
    shell.environ["BRRR_QUEUE"] = f"{server.url}?retry_for=1h"
    yield server
    server.stop()


def test_worker_logs_that_it_waits_for_its_server(shell: Shell, late: Server) -> None:
    worker = shell.worker()
    worker.says("cannot be reached")
    assert "WARNING" in worker.log
    assert "Waiting for it, for up to 3600 s." in worker.log

    late.start()

    worker.says("working on demo")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--processes", "2"], marks=pytest.mark.exhaustive)], ids=["one", "two"]
)
def test_sigterm_ends_worker_that_waits_for_its_server(shell: Shell, late: Server, more: list[str]) -> None:
    worker = shell.worker(*more)
    worker.says("Waiting for it", times=int(more[1]) if more else 1)

    worker.signal(signal.SIGTERM)

    assert worker.ended() == 0


@pytest.mark.parametrize(
    "command",
    [
        ["queue", "demo"],
        *(pytest.param(each, marks=pytest.mark.exhaustive) for each in (["setup"], ["dead", "list", "demo"])),
    ],
    ids=lambda words: words[0],
)
def test_command_says_that_it_waits_for_its_server(shell: Shell, late: Server, command: list[str]) -> None:
    shell.environ["BRRR_QUEUE"] = f"{late.url}?retry_for=300ms"

    ended = shell(*command)

    assert ended.returncode == 1
    assert ended.stderr.count("Waiting for it, for up to 0.3 s.") == 1
    assert re.search(r"cannot be reached .* in \d+ attempts within \d\.\d s", ended.stderr)
