"""Servers that the benchmarks start for themselves, on free ports: Valkey, NATS, DynamoDB Local."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import brrr_core as brrr
from tests.support import nats_servers, redis_servers
from tests.support.aws_servers import DUMMY, DynamoLocal, dynamo_url

__all__ = ["dynamo", "nats", "valkey"]


@contextmanager
def valkey(folder: str) -> Iterator[str]:
    """A running Valkey server's URL; it keeps no data on the disk. `folder` is its own, with its log."""
    with _said():
        server = redis_servers.Server(redis_servers.valkey_program(), Path(folder, "valkey"))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def nats(folder: str, *, sync: bool) -> Iterator[str]:
    """The URL of one NATS server. `sync` has it flush each write to the disk before it answers."""
    with _said():
        server = nats_servers.Server(Path(folder, "nats-sync" if sync else "nats"), sync=sync)
    server.start()
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
        url = dynamo_url("brrr-bench", server.endpoint)
        asyncio.run(brrr.open_backend(url).setup())
        yield url
    finally:
        server.stop()


@contextmanager
def _said() -> Iterator[None]:
    """Say which server is missing, where a test would be skipped."""
    try:
        yield
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise SystemExit(f"{error}; try --backend memory") from None
