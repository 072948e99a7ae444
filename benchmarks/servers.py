"""Servers that the benchmarks start on free ports: Valkey, NATS, DynamoDB Local, moto."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

import brrr_core as brrr
from brrr_testkit.servers import nats as nats_servers
from brrr_testkit.servers import redis as redis_servers
from brrr_testkit.servers.aws import DUMMY, dynamo_url, sqs_url
from brrr_testkit.servers.emulators import DynamoLocal, Moto

__all__ = ["dynamo", "nats", "sqs", "valkey"]


class _Startable(Protocol):
    def start(self) -> object: ...

    def stop(self) -> None: ...


_Server = TypeVar("_Server", bound=_Startable)


@contextmanager
def valkey(folder: str) -> Iterator[str]:
    """Run a Valkey server without persistence, and yield its URL. Its log is in `folder`."""
    with _running(lambda: redis_servers.Server(redis_servers.valkey_program(), Path(folder, "valkey"))) as server:
        yield server.url


@contextmanager
def nats(folder: str, *, sync: bool) -> Iterator[str]:
    """Run a NATS server, and yield its URL. With `sync` it flushes each write to disk before it answers."""
    with _running(lambda: nats_servers.Server(Path(folder, "nats-sync" if sync else "nats"), sync=sync)) as server:
        yield server.url


@contextmanager
def dynamo(folder: str) -> Iterator[str]:
    """Run DynamoDB Local, set dummy credentials in the environment, and yield the URL of a table."""
    os.environ.update(DUMMY)
    with _running(lambda: DynamoLocal(Path(folder, "dynamo"))) as server:
        url = dynamo_url("brrr-bench", server.endpoint)
        asyncio.run(brrr.open_backend(url).setup())
        yield url


@contextmanager
def sqs(folder: str) -> Iterator[str]:
    """Run moto, set dummy credentials in the environment, and yield the URL of its queues."""
    os.environ.update(DUMMY)
    with _running(lambda: Moto(Path(folder, "moto"))) as server:
        yield sqs_url("bench", server.endpoint)


@contextmanager
def _running(make: Callable[[], _Server]) -> Iterator[_Server]:
    """Run a server inside the block. End the benchmark if the server is missing or does not start."""
    try:
        server = make()
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise SystemExit(f"{error}; try --backend memory") from None
    try:
        _start(server)
        yield server
    finally:
        server.stop()


def _start(server: _Startable) -> None:
    try:
        server.start()
    except AssertionError as error:
        raise SystemExit("\n".join((str(error), *error.__notes__))) from None  # with the end of its log
