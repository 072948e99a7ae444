"""The backends of the soak: their servers with data on disk, and the relays before them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import brrr_core as brrr
from brrr_testkit.faults.relay import Bytes, relayed
from brrr_testkit.processes import ServerProcess
from brrr_testkit.servers import nats, redis
from brrr_testkit.servers.aws import dummy_credentials, dynamo_url, sqs_url
from brrr_testkit.servers.emulators import DynamoLocal, Moto

__all__ = ["PLACES", "Place"]

Restart: TypeAlias = Callable[[], object]


@dataclass(frozen=True)
class Place:
    """An open backend.

    Attributes:
        urls: The URL of everything, or those of queue and store.
        lease: Seconds of its lease.
        relays: The relays through which all programs reach the servers.
        servers: The servers that can be killed, as they keep on disk what they acknowledged, and how each comes back.
        clock_steps: Seconds by which the clock of a worker is set. They are short: a sleep ends later by as much as the
            clocks of the workers that see it differ.
    """

    urls: Sequence[str]
    lease: float
    relays: Sequence[Bytes] = ()
    servers: Sequence[tuple[ServerProcess, Restart]] = ()
    clock_steps: Sequence[float] = (-20, -5, 5, 20)


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncGenerator[Place]:
    yield Place(
        [f"sqlite:///{folder}/brrr.db?synchronous=full&lease=2s"], lease=2, clock_steps=(-5, 5)
    )  # leases use its clock


@asynccontextmanager
async def _redis(folder: Path) -> AsyncGenerator[Place]:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    server = redis.Server(redis.valkey_program(), folder / "redis", *options).start()
    try:
        async with relayed(Bytes(server.port, scheme="redis")) as relay:
            url = f"{relay.url}/0?lease=1s&sweep=100ms&timeout=2s"
            yield Place([url], lease=1, relays=[relay], servers=[(server, server.start)])
    finally:
        server.kill()


@asynccontextmanager
async def _nats(folder: Path) -> AsyncGenerator[Place]:
    server = nats.Server(folder / "nats").start()
    try:
        async with relayed(Bytes(server.port, scheme="nats")) as relay:
            yield Place([f"{relay.url}?lease=1s&timeout=2s"], lease=1, relays=[relay], servers=[(server, server.start)])
    finally:
        server.kill()


@asynccontextmanager
async def _nats_cluster(folder: Path) -> AsyncGenerator[Place]:
    cluster = nats.Cluster(folder / "cluster").start()

    def comes_back(server: nats.Server) -> Restart:
        def restart() -> None:
            server.start(wait=False)
            cluster.ready()

        return restart

    try:
        servers = [(server, comes_back(server)) for server in cluster.servers]
        yield Place([f"{cluster.url}?replicas=3&lease=2s&timeout=3s"], lease=2, servers=servers)
    finally:
        cluster.stop()


@asynccontextmanager
async def _aws(folder: Path) -> AsyncGenerator[Place]:
    """The queue on moto, which keeps everything in memory, and the store on DynamoDB Local, which writes to disk."""
    moto, dynamo = Moto(folder / "moto"), DynamoLocal(folder / "dynamo", data=folder / "dynamo")
    try:
        with dummy_credentials():
            moto.start()
            dynamo.start()
            async with (
                relayed(Bytes(moto.port, scheme="http")) as queue,
                relayed(Bytes(dynamo.port, scheme="http")) as store,
            ):
                urls = [
                    sqs_url("soak", queue.url, lease="3s", timeout="2s"),
                    dynamo_url("soak", store.url, timeout="2s"),
                ]
                await brrr.open_backend(urls[1]).setup()
                yield Place(urls, lease=3, relays=[queue, store], servers=[(dynamo, dynamo.start)])
    finally:
        dynamo.kill()
        moto.kill()


PLACES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Place]]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "nats": _nats,
    "nats-cluster": _nats_cluster,
    "aws": _aws,
}
"""The backends by name. Each is opened with an empty folder."""
