"""After any event, a process works on or ends soon after its grace period, and loses no message."""

import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

Shell = Any
Worker = Any
Until = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are in /proc")

GRACE = 0.5
LONGEST = GRACE + 20.0
"""The most seconds until a process ends. On a quiet machine it takes three at most."""
TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL

OWN = """
import asyncio, sys
import brrr_core as brrr
import tasks

async def amain():
    async with brrr.serve(policy=brrr.Policy(grace=float(sys.argv[1]))) as conn:
        app = brrr.AppWorker(handlers=dict(waits=tasks.waits, dies=tasks.dies), codec="json", connection=conn)
        worker = asyncio.create_task(conn.loop("demo", app.handle))
        try:
            await app.schedule(tasks.waits, topic="demo")("a")
            print(await app.result(tasks.waits)("a"))
        finally:
            worker.cancel()
            await asyncio.wait([worker])

asyncio.run(amain())
"""

PROGRAMS: dict[str, list[str] | None] = {
    "worker": ["--loop", "uvloop"],
    "worker on asyncio": ["--loop", "asyncio"],
    "fleet": ["--loop", "uvloop", "--processes", "2"],
    "own": None,
}
"""Each program, with its options of `brrr worker`."""
KINDS = ("worker", "fleet", "own")

# The event, and the exit codes of `brrr worker` with one process, with two processes, and of a user's program.
CASES = {
    "SIGTERM": (0, 0, 128 + TERM),
    "SIGTERM to all": (0, 0, 128 + TERM),
    "SIGTERM twice": (128 + TERM, 128 + TERM, 128 + TERM),
    "SIGTERM to all twice": (128 + TERM, 128 + TERM, 128 + TERM),
    "SIGINT": (0, 0, -INT),
    "SIGINT twice": (128 + INT, 128 + INT, -INT),
    "SIGKILL": (-KILL, -KILL, -KILL),
    "poison": (7, None, 7),
}
QUICK = {
    ("own", "SIGTERM"),
    ("fleet", "SIGTERM to all twice"),
    ("worker", "poison"),
    ("worker on asyncio", "SIGTERM twice"),
    ("fleet", "poison"),
}
"""The cases of a quick run: each program, and each kind of event. test_worker.py has more on signals."""

_names = count()


def _cases() -> Iterator[Any]:
    """Yield each case of each program on one backend. Each backend gets all programs and all cases."""
    for row, case in enumerate(CASES):
        for column, program in enumerate(PROGRAMS):
            backend = ("sqlite", "redis", "nats")[(row + column) % 3]
            marks = () if (program, case) in QUICK else (pytest.mark.exhaustive,)
            yield pytest.param(backend, program, case, marks=marks, id=f"{backend}-{program}-{case}")


@pytest.fixture
def backend(request: pytest.FixtureRequest, shell: Shell) -> None:
    """Name the backend in the environment of the commands."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        shell.environ["BRRR_QUEUE"] = f"{url}?lease=1s&prefix=ending-{next(_names)}."
    elif request.param == "nats":
        url, name = request.getfixturevalue("nats_server").url, f"ending-{next(_names)}-"
        shell.environ["BRRR_QUEUE"] = f"{url}?lease=1s&stream={name}&bucket={name}"


@pytest.mark.parametrize(("backend", "program", "case"), list(_cases()), indirect=["backend"])
@pytest.mark.usefixtures("backend")
def test_process_works_on_or_ends(
    shell: Shell, until: Until, gone: Callable[[int], None], program: str, case: str
) -> None:
    worker = _start(shell, program, case)
    handler = shell.started("a")
    processes = [worker.process.pid, *worker.children]
    code = CASES[case][KINDS.index(program.partition(" ")[0])]

    _trigger(shell, until, worker, program, case)

    if code is None:
        until(lambda: set(worker.children) - set(processes))
        assert shell("schedule", "dies", "0", "--topic", "demo", "--timeout", "30s").returncode == 0
        worker.signal(TERM)
        code = 0
    assert worker.process.wait(LONGEST) == code
    gone(handler)
    messages = shell.stats()
    assert sum(messages[:3]) >= 1
    assert messages[3] == 0


def _start(shell: Shell, program: str, case: str) -> Worker:
    options = PROGRAMS[program]
    if options is not None:
        # A second signal cuts the grace short. It must arrive before the grace is over, also on a slow machine.
        worker = shell.worker("--grace", "60s" if "twice" in case else f"{GRACE}s", *options)
        worker.says("working on demo", times=2 if program == "fleet" else 1)
        shell("schedule", "waits", "a", "--topic", "demo")
        return worker
    (shell.folder / "own.py").write_text(OWN)
    return shell.start(sys.executable, "own.py", str(GRACE))


def _trigger(shell: Shell, until: Until, worker: Worker, program: str, case: str) -> None:
    if case == "poison":
        shell("schedule", "dies", "1", "--topic", "demo")
        return
    number = getattr(signal, case.partition(" ")[0])
    send = worker.signal_all if "all" in case else worker.signal
    send(number)
    if "twice" in case:
        # Wait until each process has handled the first signal: two pending signals of one kind are delivered as one.
        heard = {"own": 0, "worker": 1, "fleet": 3}[program.partition(" ")[0]]
        until(lambda: worker.log.count("stopping") >= heard)
        send(number)
