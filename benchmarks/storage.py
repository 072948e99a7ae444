"""Measure the bytes that finished calls keep in each store: `python -m benchmarks.storage --calls 10000`.

One parent makes the calls. Each has an argument and a result of a few bytes. The figures include the messages and
counters that stay, and the parent.
"""

import argparse
import asyncio
import gc
import json
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
import nats
import redis

import brrr_core as brrr
from benchmarks.measure import TOPIC
from benchmarks.servers import dynamo, valkey
from benchmarks.servers import nats as nats_server
from benchmarks.workloads import HANDLERS

__all__ = ["run_calls"]

_Size: TypeAlias = Callable[[], int]
_Place: TypeAlias = Callable[[str], Any]


async def run_calls(urls: Sequence[str], calls: int, size: _Size) -> float:
    """Run so many calls on backends, and return the bytes that they keep for each."""
    async with brrr.serve(*urls, policy=brrr.Policy(cache_bytes=0)) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle))
        before = await asyncio.to_thread(size)
        await app.schedule("fan_out", topic=TOPIC)(calls, "storage")
        await app.result("fan_out")(calls, "storage")
        loop.cancel()
        await asyncio.wait({loop})
        after = await asyncio.to_thread(size)
    return (after - before) / calls


@contextmanager
def _memory(folder: str) -> Iterator[tuple[Sequence[str], _Size]]:
    del folder
    tracemalloc.start()

    def size() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    yield ["memory:"], size
    tracemalloc.stop()


@contextmanager
def _sqlite(folder: str) -> Iterator[tuple[Sequence[str], _Size]]:
    path = Path(folder, "storage.db")

    def size() -> int:
        with sqlite3.connect(path) as connection:
            pages = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")]
            return int(connection.execute("PRAGMA page_size").fetchone()[0] * (pages[0] - pages[1]))

    yield [f"sqlite:///{path}"], size


@contextmanager
def _redis(folder: str) -> Iterator[tuple[Sequence[str], _Size]]:
    with valkey(folder) as url:
        client = redis.Redis.from_url(url)
        yield [url], lambda: int(client.info("memory")["used_memory"])
        client.close()


@contextmanager
def _nats(folder: str) -> Iterator[tuple[Sequence[str], _Size]]:
    async def size(url: str) -> int:
        connection = await nats.connect(url)
        try:
            return int((await connection.jetstream().account_info()).storage)
        finally:
            await connection.close()

    with nats_server(folder, sync=False) as url:
        yield [url], lambda: asyncio.run(size(url))


@contextmanager
def _dynamo(folder: str) -> Iterator[tuple[Sequence[str], _Size]]:
    with dynamo(folder) as url:
        endpoint = f"http://{urlsplit(url).netloc}"

        def size() -> int:
            client = boto3.client("dynamodb", endpoint_url=endpoint, region_name="us-east-1")
            pages = client.get_paginator("scan").paginate(TableName="brrr-bench")
            return sum(_item_size(item) for page in pages for item in page["Items"])

        yield ["memory:", url, "memory:"], size


def _item_size(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the bytes that DynamoDB counts: names and values, and 100 bytes for an item that it stores.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return 100 + sum(len(name) + len(next(iter(value.values()))) for name, value in item.items())


PLACES: Final[Mapping[str, _Place]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "nats": _nats,
    "dynamo": _dynamo,
}


def main() -> None:
    """Print the bytes for each call on each backend, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--backend", nargs="*", default=list(PLACES))
    options = parser.parse_args()
    for name in options.backend:
        with tempfile.TemporaryDirectory() as folder, PLACES[name](folder) as (urls, size):
            print(json.dumps({name: round(asyncio.run(run_calls(urls, options.calls, size)))}), flush=True)


if __name__ == "__main__":
    main()
