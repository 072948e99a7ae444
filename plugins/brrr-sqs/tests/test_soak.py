"""kill -9 of worker processes at random moments: the queue in SQS, the store in DynamoDB."""

import asyncio

import pytest

import brrr_core as brrr
from tests.support.aws_servers import dynamo_url, sqs_url
from tests.support.soak import soak_part

ROUNDS = 20
DEPTH = 5  # 63 calls a round: on the emulators each takes milliseconds
PARTS = 2
"""Tests that share the rounds, each with workers of its own, so that they can run side by side."""


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_is_lost_however_workers_are_killed(part: int, urls_of_part: list[str]) -> None:
    await soak_part(urls_of_part, part=part, parts=PARTS, rounds=ROUNDS, depth=DEPTH)


@pytest.fixture
def urls_of_part(part: int, sqs_endpoint: str | None, dynamo_endpoint: str | None, aws_prefix: str) -> list[str]:
    """A queue and a table of this part alone: calls of the same arguments would find each other's values."""
    table = dynamo_url(f"{aws_prefix}soak-{part}", dynamo_endpoint)
    asyncio.run(brrr.open_backend(table).setup())
    # moto goes on with a poll whose client was killed, and hides what it finds: leases are short, and so are polls.
    return [sqs_url(f"{aws_prefix}soak-{part}", sqs_endpoint, lease="3s"), table]
