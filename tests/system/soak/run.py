"""Run workflows on a backend while faults happen, then check that nothing was lost, and report."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import brrr_core as brrr
from brrr_core.errors import BackendError
from brrr_testkit.workloads.fleet import until_idle
from tests.system.soak.faults import faults_of
from tests.system.soak.places import PLACES, Place
from tests.system.soak.worker import CALLS, TOPIC, names_of, order, value_of
from tests.system.soak.workers import Workers, working

__all__ = ["Report", "soak"]

IN_FLIGHT: Final = 6
"""Workflows that run at a time."""

RECOVERY_SECONDS: Final = 180.0
"""Seconds without faults within which every workflow must end, and the queue be empty."""

T = TypeVar("T")


@dataclass
class Report:
    """Counts and times of a soak.

    Attributes:
        backend: The name of the backend.
        seed: Chose the faults.
        seconds: The duration with faults.
        faults: How often each kind of fault happened.
        workflows: The number of workflows. Each ended with the correct result.
        longest: Seconds of the longest workflow.
        runs: The number of runs of leaves.
        leaves: The number of leaves.
        most_runs: The most runs of one leaf.
        ends: How often worker processes ended, by the reason.
        repeated: How often the client repeated an operation because a backend failed.
    """

    backend: str
    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter[str])
    workflows: int = 0
    longest: float = 0.0
    runs: int = 0
    leaves: int = 0
    most_runs: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    repeated: int = 0

    def text(self) -> str:
        """Return the report for people."""
        lines = [
            f"{self.backend}, seed {self.seed}, {self.seconds:.0f} s: {sum(self.faults.values())} faults",
            f"  {self.workflows} workflows of {CALLS} calls with the right result, the longest in {self.longest:.1f} s",
            f"  {self.leaves} leaves ran {self.runs} times, one of them {self.most_runs} times",
            f"  {self.repeated} operations of the client repeated",
        ]
        lines += [f"  {count:5d} x {name}" for name, count in self.faults.most_common()]
        return "\n".join(lines + [f"  {count:5d} workers ended: {reason}" for reason, count in self.ends.most_common()])


async def soak(backend: str, folder: Path, *, seconds: float, seed: int, workers: int = 3) -> Report:
    """Run workflows for some seconds with faults, and until they end without faults.

    Raises:
        AssertionError: A workflow has a wrong result or none, a leaf did not run, or messages or dead letters are left.
    """
    report, dice = Report(backend, seed, seconds), random.Random(seed)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(PLACES[backend](folder))
        crew = await stack.enter_async_context(working(place.urls, workers, folder))
        connection = await stack.enter_async_context(brrr.connect(*place.urls))
        client = Client(connection, report)
        numbers = iter(range(1_000_000))
        over = asyncio.Event()
        flights = [asyncio.create_task(client.fly(numbers, over)) for _ in range(IN_FLIGHT)]
        try:
            await _disturb(place, crew, dice, report)
            over.set()
            async with asyncio.timeout(RECOVERY_SECONDS):
                await asyncio.gather(*flights)
                await client.check_nothing_is_left()
        finally:
            for flight in flights:
                flight.cancel()
            await asyncio.wait(flights)
        report.ends = crew.ends
    _count_runs(folder / "runs", report)
    return report


class Client:
    """Starts workflows, and checks their results."""

    def __init__(self, connection: brrr.Connection, report: Report) -> None:
        self._connection = connection
        self._app = brrr.AppConsumer(codec="json", connection=connection)
        self._report = report

    async def fly(self, numbers: Iterator[int], over: asyncio.Event) -> None:
        """Run one workflow after another until it is over."""
        while not over.is_set():
            number, begin = next(numbers), time.monotonic()
            await self._repeated(lambda number=number: self._app.schedule(order, topic=TOPIC)(number))
            result = await self._repeated(lambda number=number: self._app.result(order)(number))
            assert result == sum(map(value_of, names_of(number))), f"workflow {number} has the result {result}"
            self._report.workflows += 1
            self._report.longest = max(self._report.longest, time.monotonic() - begin)

    async def check_nothing_is_left(self) -> None:
        """Wait until the queue is empty, and check that no message was dead-lettered."""
        stats = await until_idle(self._connection.queue, [TOPIC])
        letters = await self._connection.queue.dead(TOPIC, limit=5)
        assert stats.dead == 0, f"{stats.dead} dead letters: {letters}"

    async def _repeated(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat an operation until a backend does it."""
        while True:
            try:
                return await operation()
            except BackendError:
                self._report.repeated += 1
                await asyncio.sleep(0.2)  # the client's own pause


async def _disturb(place: Place, crew: Workers, dice: random.Random, report: Report) -> None:
    """Let faults happen, one or two at a time. Return after the last one is over."""
    faults = faults_of(place, crew, dice)
    end = time.monotonic() + report.seconds

    async def one_after_another() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(dice.uniform(0.1, 1.0))
            name = dice.choice(list(faults))
            await faults[name]()
            report.faults[name] += 1

    if place.servers:  # two that restart one server would meet
        await one_after_another()
    else:
        await asyncio.gather(one_after_another(), one_after_another())


def _count_runs(path: Path, report: Report) -> None:
    runs = Counter(path.read_text().split())
    wanted = {name for number in range(report.workflows) for name in names_of(number)}
    assert not wanted - set(runs), f"leaves that never ran: {sorted(wanted - set(runs))[:5]}"
    report.runs, report.leaves, report.most_runs = sum(runs.values()), len(runs), max(runs.values())
