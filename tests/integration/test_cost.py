"""Limits on the cost of calls on AWS: requests and units, counted at concurrency 100."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.cost import SHAPES, Shape, bill
from brrr_testkit.servers.aws import is_moto, sqs_url
from brrr_testkit.servers.redis import Server, valkey_program


@pytest.fixture
def queue_url(tmp_path: Path) -> Iterator[str]:
    server = Server(valkey_program(), tmp_path / "valkey").start()
    yield server.url
    server.stop()


class Limits(NamedTuple):
    """Most units and requests per call, with leeway: the sizes of batches and the re-runs of parents vary."""

    write_units: float
    read_units: float
    requests: float
    dollars: float


TREE = Shape("tree", lambda run: [(6, 1, run)], 2**7 - 1)
LIMITS = {
    # A schedule marks its call, so that the next one puts nothing, and the outcome deletes the mark: two writes and a
    # read more than without marks. If a worker is faster than the schedule, the mark of a call that has ended is looked
    # at and deleted once more: on a busy machine, for a sixth of the calls of a fan-out.
    "independent": (SHAPES["independent"], Limits(4.01, 2.01, 3.4, 2.8)),
    "fan-out": (SHAPES["fan-out"], Limits(4.1, 2.5, 3.6, 3.0)),
    "tree": (TREE, Limits(4.3, 5.0, 4.0, 3.4)),
}


SQS_LIMITS = {"independent": (SHAPES["independent"], 0.4), "tree": (TREE, 1.5)}
"""Most SQS requests per call, with leeway: the sizes of batches vary, and a small tree fills few batches."""


def quickly(names: Iterable[str], quick: str) -> list[Any]:
    """Return the names as parameters, of which a quick run takes one."""
    return [pytest.param(name, marks=() if name == quick else pytest.mark.exhaustive) for name in names]


@pytest.mark.parametrize("name", quickly(LIMITS, "fan-out"))
async def test_cost_per_call_on_dynamodb_stays_within_its_limits(
    queue_url: str, dynamo_url: str, dynamo_endpoint: str | None, name: str
) -> None:
    if dynamo_endpoint is not None and is_moto(dynamo_endpoint):
        pytest.skip("moto counts other units than DynamoDB")
    shape, limits = LIMITS[name]

    found = await bill([queue_url, dynamo_url], shape)

    assert found.write_units / found.calls <= limits.write_units
    assert found.read_units / found.calls <= limits.read_units
    assert sum(found.requests.values()) / found.calls <= limits.requests, found.requests
    assert found.dollars <= limits.dollars


async def test_schedules_without_marks_cost_two_writes_and_a_read_less(
    queue_url: str, dynamo_url: str, dynamo_endpoint: str | None
) -> None:
    if dynamo_endpoint is not None and is_moto(dynamo_endpoint):
        pytest.skip("moto counts other units than DynamoDB")

    found = await bill([queue_url, dynamo_url], SHAPES["independent"], resend_after=None)

    assert found.write_units / found.calls <= 2.01
    assert found.read_units / found.calls <= 2.01
    assert found.dollars <= 1.6


@pytest.mark.parametrize("name", quickly(SQS_LIMITS, "tree"))
async def test_requests_per_call_on_sqs_stay_within_their_limit(
    sqs_endpoint: str | None, aws_prefix: str, name: str
) -> None:
    shape, limit = SQS_LIMITS[name]

    found = await bill([sqs_url(f"{aws_prefix}cost", sqs_endpoint), f"memory:{name}-of-sqs"], shape)

    assert found.messages / found.calls <= limit, found.requests
