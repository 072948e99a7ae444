"""Limits on the cost of calls: requests and units, counted at concurrency 100."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.cost import SHAPES, Shape, bill
from tests.support.redis_servers import Server, valkey_program


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
    "independent": (SHAPES["independent"], Limits(2.01, 1.01, 1.4, 1.5)),
    "fan-out": (SHAPES["fan-out"], Limits(4.1, 2.2, 3.6, 3.0)),
    "tree": (TREE, Limits(4.3, 5.0, 4.0, 3.4)),
}


@pytest.mark.usefixtures("_not_moto")
@pytest.mark.parametrize("name", LIMITS)
async def test_cost_per_call_stays_within_its_limits(queue_url: str, url: str, name: str) -> None:
    shape, limits = LIMITS[name]

    found = await bill([queue_url, url], shape)

    assert found.write_units / found.calls <= limits.write_units
    assert found.read_units / found.calls <= limits.read_units
    assert sum(found.requests.values()) / found.calls <= limits.requests, found.requests
    assert found.dollars <= limits.dollars
