"""The cost of a call, counted: an engine that costs more fails here, on any machine, busy or not."""

import asyncio
import selectors
from typing import Any, Final, NamedTuple

import pytest

import brrr_core as brrr
from benchmarks import counting
from benchmarks.counting import CountingBackend
from benchmarks.workloads import HANDLERS, WORKLOADS, Workload
from brrr_core.backend import Roles
from brrr_core.engine import worker
from brrr_core.engine.run import Run
from brrr_core.hooks import CallReturned, hookimpl
from brrr_core.wire import Call
from brrr_testkit.workloads.fleet import BOUND, TOPIC


class Price(NamedTuple):
    """Average cost of a call for its worker, or the most that it may be. The part of the client is not in it."""

    round_trips: float
    items: float
    handler_runs: float
    loop_turns: float


BOUNDS: Final = {
    # workload, backend:   round trips, items, handler runs, turns of the event loop
    ("independent", "memory"): Price(0.04, 9.9, 1.0, 0.17),
    ("independent", "sqlite"): Price(0.06, 9.9, 1.0, 0.4),
    ("independent", "redis"): Price(0.06, 9.9, 1.0, 0.45),
    ("independent", "nats"): Price(0.11, 7.7, 1.0, 2.0),
    ("fan-out", "memory"): Price(0.14, 16.2, 1.1, 0.31),
    ("fan-out", "sqlite"): Price(0.16, 16.2, 1.1, 0.7),
    ("fan-out", "redis"): Price(0.16, 16.2, 1.1, 0.7),
    ("fan-out", "nats"): Price(0.32, 15.0, 1.1, 4.0),
    ("chain", "memory"): Price(2.3, 19.7, 1.1, 2.9),
    ("chain", "sqlite"): Price(2.3, 19.7, 1.1, 8.5),
    ("chain", "redis"): Price(2.3, 19.7, 1.1, 7.9),
    ("chain", "nats"): Price(19.5, 21.5, 1.1, 105.0),  # composed: no steps, so nothing is handed over
    ("steps", "memory"): Price(2.3, 19.7, 1.1, 2.9),
    ("steps", "sqlite"): Price(2.3, 19.7, 1.1, 8.5),
    ("steps", "redis"): Price(2.3, 19.7, 1.1, 7.9),
    ("steps", "nats"): Price(19.5, 21.5, 1.1, 105.0),
    ("tree", "memory"): Price(0.17, 20.3, 1.4, 0.36),
    ("tree", "sqlite"): Price(0.25, 20.3, 1.4, 0.8),
    ("tree", "redis"): Price(0.25, 20.3, 1.4, 1.1),
    ("tree", "nats"): Price(0.95, 16.6, 1.5, 9.0),
    ("shared-child", "memory"): Price(0.7, 42.0, 2.2, 1.1),
    ("shared-child", "sqlite"): Price(0.75, 42.0, 2.2, 2.5),
    ("shared-child", "redis"): Price(0.75, 42.0, 2.2, 2.3),
    ("shared-child", "nats"): Price(0.8, 21.5, 2.2, 9.0),
}
"""The most per call: what was measured, plus at most 15 %. Sequential work repeats to the digit; the sizes of batches,
and so the counts of wide work, vary by some percent with the speed of a server. A busy machine delivers the answers of
NATS in more pieces, each of which takes a turn, so its wide work may take twice the turns. It also fills the batches of
independent calls by a third less: they may take 0.06 round trips in place of 0.035, and turns in proportion.
Fan-outs on memory may take 0.14 in place of 0.1, and trees 0.25 in place of 0.18. Fan-outs on NATS take 12.3 to 13.8
items: more calls end before their mark."""


class CountingSelector(selectors.DefaultSelector):
    """Counts the turns of an event loop, which selects once in each."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


class Meter:
    """Reads the counts in the turn in which the last call of the workload's task has returned."""

    def __init__(self, workload: Workload, backend: CountingBackend, selector: CountingSelector) -> None:
        self.runs = 0
        self.price: asyncio.Future[Price] = asyncio.get_running_loop().create_future()
        self._task = workload.task
        self._calls = workload.calls_of(workload.small)
        # A recursive task has all calls of its workload.
        recursive = workload.task in {"chain", "tree"}
        self._left = self._calls if recursive else len(workload.arguments_of(workload.small, ""))
        self._counts = backend.counts
        self._selector = selector

    @hookimpl
    def brrr_call_returned(self, event: CallReturned) -> None:
        self._left -= event.task_name == self._task
        if self._left == 0 and not self.price.done():
            spent = Price(self._counts.round_trips, self._counts.items, self.runs, self._selector.turns)
            self.price.set_result(Price(*(each / self._calls for each in spent)))


async def price(url: str, workload: Workload, selector: CountingSelector, policy: brrr.Policy) -> Price:
    """Run a small workload with one worker, and return what a call cost it."""
    backend = CountingBackend(brrr.open_backend(url))
    meter = Meter(workload, backend, selector)
    async with asyncio.timeout(BOUND), backend, brrr.serve(backend, hooks=[meter], policy=policy) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)

        async def handle(run: Run, call: Call) -> bytes:
            meter.runs += 1  # a parked handler that continues is not run again
            return await app.handle(run, call)

        arguments = workload.arguments_of(workload.small, "counted")
        await asyncio.gather(*(app.schedule(workload.task, topic=TOPIC)(*each) for each in arguments))
        backend.counts.clear()
        selector.turns = 0
        loop = asyncio.create_task(connection.loop(TOPIC, handle))
        spent = await meter.price
        loop.cancel()
        await asyncio.wait({loop})
    return spent


def exceeded(url: str, name: str, **policy: Any) -> list[str]:
    """Return a line for each count of a workload that is above its bound."""
    # A busy machine does not abort a parked handler, and a park of 0 stays 0.
    policy = {"park": 100 * brrr.Policy().park, **policy}
    selector = CountingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        spent = runner.run(price(url, WORKLOADS[name], selector, brrr.Policy(**policy)))
    kind = url.partition(":")[0]
    bounds = BOUNDS[name, kind]
    return [
        f"{name} on {kind}: {measured:.3f} {count.replace('_', ' ')} per call, and {most} are allowed"
        for count, measured, most in zip(Price._fields, spent, bounds, strict=True)
        if measured > most
    ]


@pytest.mark.parametrize("name", WORKLOADS)
def test_call_costs_at_most_its_bounds(url: str, name: str) -> None:
    more_expensive = "\n".join(exceeded(url, name))
    assert not more_expensive, (
        f"{more_expensive}\nA change takes more operations, items or turns than before; `make bench` shows its cost. "
        "Undo it, or raise the bound in BOUNDS and give the reason in the commit."
    )


def without_parking(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"park": 0}


def without_handing_over(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(worker, "HAND_OVER_LIMIT", 0)
    return {}


def without_steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(counting, "Roles", lambda steps, **others: Roles(**others))
    return {}


@pytest.mark.parametrize("name", ["chain", "steps"])
@pytest.mark.parametrize(
    ("without", "counts"),
    [
        (without_parking, ["round trips", "handler runs", "loop turns"]),
        (without_handing_over, ["round trips", "loop turns"]),
        (without_steps, ["round trips", "loop turns"]),
    ],
)
def test_bounds_notice_that_a_mechanism_is_off(
    memory: str, monkeypatch: pytest.MonkeyPatch, without: Any, counts: list[str], name: str
) -> None:
    more_expensive = exceeded(memory, name, **without(monkeypatch))
    assert [each for each in counts if each not in " ".join(more_expensive)] == [], more_expensive
