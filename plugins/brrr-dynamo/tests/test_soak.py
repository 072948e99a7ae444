"""kill -9 of worker processes at random moments, with the queue in Valkey and the store in DynamoDB."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_testkit.servers.aws import dynamo_url
from brrr_testkit.servers.redis import Server, valkey_program
from brrr_testkit.workloads.soak import soak_part

ROUNDS = 4
DEPTH = 5  # 63 calls per round; each takes milliseconds on the emulator
PARTS = 2
"""Tests that share the rounds. Each has its own workers, so that they can run in parallel."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_program(), tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_call_is_lost_if_workers_are_killed(valkey: Server, part: int, url_of_part: str) -> None:
    queue = f"{valkey.url}?lease=1s&sweep=100ms"
    await soak_part([queue, url_of_part], part=part, parts=PARTS, rounds=ROUNDS, depth=DEPTH)


@pytest.fixture
def url_of_part(part: int, dynamo_endpoint: str | None, aws_prefix: str) -> str:
    """A table for each part, as calls with equal arguments would find each other's values."""
    url = dynamo_url(f"{aws_prefix}soak-{part}", dynamo_endpoint)
    asyncio.run(brrr.open_backend(url).setup())
    return url
