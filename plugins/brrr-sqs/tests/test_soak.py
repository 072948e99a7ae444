"""kill -9 of worker processes at random moments, with the queue in SQS and the store in DynamoDB."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_testkit.servers.aws import dynamo_url, sqs_url
from brrr_testkit.workloads.soak import soak_part

ROUNDS = 8
DEPTH = 5  # 63 calls per round; each takes milliseconds on the emulators
PARTS = 2
"""Tests that share the rounds. Each has its own workers, so that they can run in parallel."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_call_is_lost_if_workers_are_killed(part: int, urls_of_part: list[str]) -> None:
    await soak_part(urls_of_part, part=part, parts=PARTS, rounds=ROUNDS, depth=DEPTH)


@pytest.fixture
def urls_of_part(part: int, sqs_endpoint: str | None, dynamo_endpoint: str | None, aws_prefix: str) -> list[str]:
    """A queue and a table for each part, as calls with equal arguments would find each other's values."""
    table = dynamo_url(f"{aws_prefix}soak-{part}", dynamo_endpoint)
    asyncio.run(brrr.open_backend(table).setup())
    # moto continues the poll of a killed client and hides the messages it finds, so leases and polls are short.
    return [sqs_url(f"{aws_prefix}soak-{part}", sqs_endpoint, lease="3s"), table]
