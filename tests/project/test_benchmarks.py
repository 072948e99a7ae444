"""The benchmarks start their servers, show the log of one that does not start, and count round trips."""

import sys
from pathlib import Path

import pytest

import brrr_core as brrr
from benchmarks import servers
from benchmarks.counting import CountingBackend
from benchmarks.growth import exponents, sample_many_calls
from benchmarks.measure import Measured
from brrr_core.backend import Count, Key, Message, Reading, Step
from brrr_testkit.servers import redis as redis_servers


def test_benchmark_shows_the_log_of_a_server_that_did_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Python has no option --port.
    monkeypatch.setattr(redis_servers, "valkey_program", lambda: Path(sys.executable))

    with (
        pytest.raises(SystemExit, match=r"ended unexpectedly\s+(?i:unknown) option:? --port"),
        servers.valkey(str(tmp_path)),
    ):
        pass


def test_benchmark_starts_a_server(tmp_path: Path) -> None:
    redis_servers.valkey_program()
    with servers.valkey(str(tmp_path)) as url:
        assert url.startswith("redis://127.0.0.1:")


async def test_exponents_say_how_costs_grow(tmp_path: Path) -> None:
    measured = [Measured(n, 1.0, n * n, 7, 5 * n, 1.0) for n in (100, 1_000, 30_000)]
    assert exponents(measured) == pytest.approx({"items": 1, "round_trips": 0, "cpu_seconds": 2})
    assert exponents(measured[:1]) == {}
    samples = [sample async for sample in sample_many_calls(f"sqlite:///{tmp_path}/b.db", 2_000, every=1_000)]
    assert [sample.calls for sample in samples] == [1_000, 2_000]


async def test_benchmark_counts_a_commit_as_one_round_trip_with_all_its_items() -> None:
    key = Key("value", "hash")
    async with CountingBackend(brrr.open_backend("memory:")) as backend:
        assert backend.steps is not None
        readings = (Reading("value"), Reading("call"))
        leased = Message("topic", b"li2e4:root4:hashe", leased=True)
        step = Step([(key, None)], [Count("counter", 1, 1)], [(key, b"value")], [leased], [(key, None)])
        (done,) = await backend.steps.commit([step], readings=readings)
        assert (backend.counts.round_trips, backend.counts.items) == (1, 7)  # two of them were read
        assert done is not None
        await backend.steps.commit([Step((), acks=[done[0].delivery])])
        assert await backend.steps.receive("topic", limit=1, wait=0, readings=readings) == []
        assert (backend.counts.round_trips, backend.counts.items) == (2, 8)


async def test_benchmark_offers_no_steps_for_two_backends() -> None:
    async with CountingBackend(brrr.open_backend("memory:"), brrr.open_backend("memory:")) as backend:
        assert backend.steps is None
