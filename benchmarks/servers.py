"""Servers that the benchmarks start for themselves, on free ports: Valkey, NATS, DynamoDB Local, moto."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

import brrr_core as brrr
from tests.support import nats_servers, redis_servers
from tests.support.aws_servers import DUMMY, DynamoLocal, Moto, dynamo_url, sqs_url

__all__ = ["dynamo", "nats", "sqs", "valkey"]


class _Startable(Protocol):
    def start(self) -> object: ...

    def stop(self) -> None: ...


_Server = TypeVar("_Server", bound=_Startable)


@contextmanager
def valkey(folder: str) -> Iterator[str]:
    """A running Valkey server's URL; it keeps no data on the disk. `folder` is its own, with its log."""
    with _running(lambda: redis_servers.Server(redis_servers.valkey_program(), Path(folder, "valkey"))) as server:
        yield server.url


@contextmanager
def nats(folder: str, *, sync: bool) -> Iterator[str]:
    """The URL of one NATS server. `sync` has it flush each write to the disk before it answers."""
    with _running(lambda: nats_servers.Server(Path(folder, "nats-sync" if sync else "nats"), sync=sync)) as server:
        yield server.url


@contextmanager
def dynamo(folder: str) -> Iterator[str]:
    """The URL of a table in DynamoDB Local, and dummy credentials for it in the environment."""
    os.environ.update(DUMMY)
    with _running(lambda: DynamoLocal(Path(folder, "dynamo"))) as server:
        url = dynamo_url("brrr-bench", server.endpoint)
        asyncio.run(brrr.open_backend(url).setup())
        yield url


@contextmanager
def sqs(folder: str) -> Iterator[str]:
    """The URL of queues in moto, and dummy credentials for them in the environment."""
    os.environ.update(DUMMY)
    with _running(lambda: Moto(Path(folder, "moto"))) as server:
        yield sqs_url("bench", server.endpoint)


@contextmanager
def _running(make: Callable[[], _Server]) -> Iterator[_Server]:
    """The server, running, until the block ends. One that is missing, or does not start, ends the benchmark."""
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
