"""Limits on the cost of calls: requests, counted at concurrency 100."""

import pytest

from benchmarks.cost import SHAPES, Shape, bill

TREE = Shape("tree", lambda run: [(6, 1, run)], 2**7 - 1)
LIMITS = {"independent": (SHAPES["independent"], 0.4), "tree": (TREE, 1.5)}
"""Most SQS requests per call, with leeway: the sizes of batches vary, and a small tree fills few batches."""


@pytest.mark.parametrize("name", LIMITS)
async def test_cost_per_call_stays_within_its_limit(url: str, name: str) -> None:
    shape, limit = LIMITS[name]

    found = await bill([url, f"memory:{name}-of-sqs"], shape)

    assert found.messages / found.calls <= limit, found.requests
