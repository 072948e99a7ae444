"""What calls cost cannot grow unseen: requests, counted, at concurrency 100."""

import pytest

from benchmarks.cost import SHAPES, Shape, bill

TREE = Shape("tree", lambda run: [(6, 1, run)], 2**7 - 1)
MOST = {"independent": (SHAPES["independent"], 0.4), "tree": (TREE, 1.5)}
"""Requests of SQS a call at most, with leeway: how wide batches are varies, and a small tree fills few of them."""


@pytest.mark.parametrize("name", MOST)
async def test_a_call_costs_no_more(url: str, name: str) -> None:
    shape, most = MOST[name]

    found = await bill([url, f"memory:{name}-of-sqs"], shape)

    assert found.messages / found.calls <= most, found.requests
