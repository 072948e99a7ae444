"""What calls cost cannot grow unseen: requests and units, counted, at concurrency 100."""

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


class Most(NamedTuple):
    """A call's units and requests at most, with leeway: how wide batches are, and how often a parent looks, varies."""

    write_units: float
    read_units: float
    requests: float
    dollars: float


TREE = Shape("tree", lambda run: [(6, 1, run)], 2**7 - 1)
MOST = {
    "independent": (SHAPES["independent"], Most(2.01, 1.01, 1.4, 1.5)),
    "fan-out": (SHAPES["fan-out"], Most(4.1, 2.2, 3.6, 3.0)),
    "tree": (TREE, Most(4.3, 5.0, 4.0, 3.4)),
}


@pytest.mark.usefixtures("_not_moto")
@pytest.mark.parametrize("name", MOST)
async def test_a_call_costs_no_more(queue_url: str, url: str, name: str) -> None:
    shape, most = MOST[name]

    found = await bill([queue_url, url], shape)

    assert found.write_units / found.calls <= most.write_units
    assert found.read_units / found.calls <= most.read_units
    assert sum(found.requests.values()) / found.calls <= most.requests, found.requests
    assert found.dollars <= most.dollars
