"""kill -9 of worker processes at random moments: a queue in Valkey, the store in DynamoDB."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import brrr_core as brrr
from tests.support.redis_servers import Server, valkey_program
from tests.support.soak import soak

ROUNDS = int(os.environ.get("BRRR_SOAK_ROUNDS", "10"))
DEPTH = 5  # 63 calls a round: on the emulator each takes milliseconds
PARTS = 2
"""Tests that share the rounds, each with workers of its own, so that they can run side by side."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_program(), tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_is_lost_however_workers_are_killed(valkey: Server, part: int, url_of_part: str) -> None:
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    rounds = len(range(part, ROUNDS, PARTS))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown where the test fails
    report = await soak([f"{valkey.url}?lease=1s&sweep=100ms", url_of_part], rounds=rounds, seed=seed, depth=DEPTH)
    assert report.rounds == rounds
    assert report.kills >= rounds
    print(f"{report.kills} kills, the longest round {max(report.seconds):.1f} s")  # noqa: T201


@pytest.fixture
def url_of_part(part: int, dynamo_endpoint: str | None, aws_prefix: str) -> str:
    """A table of this part alone: calls of the same arguments would find each other's values."""
    place = "" if dynamo_endpoint is None else f"{dynamo_endpoint.removeprefix('http://')}/"
    url = f"dynamo://{place}{aws_prefix}soak-{part}"
    asyncio.run(brrr.open_backend(url).setup())
    return url
