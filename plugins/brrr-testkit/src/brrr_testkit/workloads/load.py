"""Load on a backend while a test breaks it. It runs workflows, and records which operations have returned.

Operations that raise are counted and retried, as a caller would do. Operations that return must have taken effect.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.workloads.fleet import TOPIC, Fleet, serving

POLICY = brrr.Policy(backoff=0.01, backoff_limit=0.2, grace=1.0, unavailable_timeout=120.0, max_attempts=1000)
BOUND = 90.0
"""Seconds within which the load must end after the fault is over."""

WIDTH = 8
RESULT = sum(range(WIDTH * 3))
LEDGER = "ledger"
COUNTED = Key("value", "counted")
T = TypeVar("T")
Fault = Callable[[], Awaitable[object]]


@brrr.handler_no_arg
async def leaf(number: int, at: int) -> int:
    """Return a number, as a grandchild."""
    return at


@brrr.handler
async def branch(app: brrr.ActiveWorker, number: int, at: int) -> int:
    """Call three leaves, as a child."""
    return sum(await app.gather(*(app.call(leaf)(number, 3 * at + which) for which in range(3))))


@brrr.handler
async def fan_out(app: brrr.ActiveWorker, number: int) -> int:
    """Call the branches of a workflow; `number` makes its calls unique."""
    return sum(await app.gather(*(app.call(branch)(number, at) for at in range(WIDTH))))


HANDLERS = {"fan_out": fan_out, "branch": branch, "leaf": leaf}


@dataclass
class Load:
    """The load and its counts.

    Attributes:
        rounds: Number of finished workflows. Each had the right result.
        put: Messages whose `put` has returned.
        refused: Number of operations that raised, by name.
        received: Number of deliveries of each message.
        counted: Swaps of one counter that succeeded.
        tried: Swaps of that counter that may have succeeded.
        longest_gaps: The longest time in seconds between two successes of an operation, by name.
    """

    backend: Backend
    rounds: int = 0
    put: set[bytes] = field(default_factory=set[bytes])
    refused: Counter[str] = field(default_factory=Counter[str])
    received: Counter[bytes] = field(default_factory=Counter[bytes])
    counted: int = 0
    tried: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    longest_gaps: dict[str, float] = field(default_factory=dict[str, float])
    _last: dict[str, float] = field(default_factory=dict[str, float])

    def record_success(self, name: str) -> None:
        """Record a success of an operation, and the time since the last one."""
        now = time.monotonic()
        since = now - self._last.get(name, now)
        self.longest_gaps[name] = max(self.longest_gaps.get(name, 0.0), since)
        self._last[name] = now

    async def workflows(self, fleet: Fleet) -> None:
        """Run workflows one after another until the fault is over, and then one more."""
        last = False
        while not last:
            last = self.over.is_set()
            number = self.rounds
            await self.until_success("schedule", partial(fleet.app.schedule(fan_out, topic=TOPIC), number))
            result = await self.until_success("result", partial(fleet.app.result(fan_out), number))
            assert result == RESULT, f"round {number}"
            self.rounds += 1

    async def until_success(self, name: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Retry an idempotent operation until it succeeds."""
        while True:
            try:
                return await operation()
            except BackendUnavailableError:
                self.refused[name] += 1

    async def produce(self) -> None:
        """Put numbered messages, a few at a time."""
        number = 0
        while not self.over.is_set():
            bodies = [b"%d" % each for each in range(number, number + 5)]
            number += 5
            try:
                await self.backend.queue.put(LEDGER, bodies)
                self.put.update(bodies)
                self.record_success("put")
            except BackendUnavailableError:
                self.refused["put"] += 1
            await asyncio.sleep(0.005)

    async def consume(self) -> None:
        """Receive and acknowledge until every message that was put is received."""
        while not self.over.is_set() or self.put - self.received.keys():
            try:
                found = await self.backend.queue.receive(LEDGER, limit=50, wait=1)
                self.received.update(each.body for each in found)
                await self.backend.queue.ack(found)
                if found:
                    self.record_success("receive")
            except BackendUnavailableError:
                self.refused["receive"] += 1

    async def count(self) -> None:
        """Count up one record by compare-and-swap."""
        now: bytes | None = None
        while not self.over.is_set():
            self.tried += 1
            try:
                (took,) = await self.backend.store.swap([Swap(COUNTED, now, b"%d" % (int(now or 0) + 1))])
                self.counted += took
                self.record_success("swap")
                if took:
                    self.tried = self.counted
            except BackendUnavailableError:
                self.refused["swap"] += 1
            await asyncio.sleep(0.005)
            (now,) = await self.until_success("read", lambda: self.backend.store.read([COUNTED]))

    def missing(self) -> str:
        """Describe the missing messages, for the failure of the test."""
        lost = sorted(self.put - self.received.keys(), key=int)
        return f"{self.rounds} rounds; not received of {len(self.put)}: {lost[:10]} of {len(lost)}; {self.refused}"

    def figures(self) -> str:
        """Return the counts of the load and its longest pauses."""
        still = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.longest_gaps.items())
        return (
            f"{self.rounds} workflows, {len(self.put)} messages, {self.counted} swaps; "
            f"longest gaps: {still}; refused {dict(self.refused)}"
        )

    async def begun(self) -> None:
        """Wait until each kind of work has succeeded once."""
        while not (self.rounds and self.put and self.received and self.counted):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def under_load(url: str, fault: Fault, *, workers: int = 2) -> Load:
    """Break a backend under load, and check that nothing is lost.

    Args:
        url: The backend of all workers and clients; each opens its own connections.
        fault: Breaks the backend, and returns when it works again.
        workers: The number of workers.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(brrr.open_backend(url))
        fleets = [
            await stack.enter_async_context(serving(url, HANDLERS, policy=POLICY, concurrency=16))
            for _ in range(workers)
        ]
        load = Load(opened)
        async with asyncio.TaskGroup() as tasks:
            works = (load.workflows(fleets[0]), load.produce(), load.consume(), load.count())
            running = [tasks.create_task(work) for work in works]
            async with asyncio.timeout(BOUND):
                await load.begun()
            await fault()
            load.over.set()
            _, late = await asyncio.wait(running, timeout=BOUND)
            assert not late, load.missing()
        (now,) = await opened.store.read([COUNTED])
        assert load.counted <= int(now or 0)
        async with asyncio.timeout(BOUND):
            await _nothing_left(load)
        print(load.figures())  # noqa: T201 - shown with -s and if a test fails
        return load


async def _nothing_left(load: Load) -> None:
    for topic in (TOPIC, LEDGER):
        while (stats := await load.backend.queue.stats(topic))[:3] != (0, 0, 0):
            for each in await load.backend.queue.receive(
                LEDGER, limit=50, wait=0
            ):  # a put that raised may have been executed
                await load.backend.queue.ack([each])
            await asyncio.sleep(0.02)
        assert stats.dead == 0, await load.backend.queue.dead(topic, limit=5)
