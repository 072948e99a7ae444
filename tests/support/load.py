"""Work that goes on while something breaks: workflows, and ledgers of what a backend has said that it took.

Whatever a backend raises meanwhile is counted and tried again, as a caller would; what it returned for must be there in
the end.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_core.errors import BackendUnavailableError
from tests.support.fleet import TOPIC, Fleet, serving

POLICY = brrr.Policy(backoff=0.01, backoff_limit=0.2, grace=1.0, patience=120.0, max_attempts=1000)
BOUND = 90.0
"""Seconds within which all must be over, once what broke is whole again."""

WIDTH = 8
RESULT = sum(range(WIDTH * 3))
LEDGER = "ledger"
COUNTED = Key("value", "counted")
Fault = Callable[[], Awaitable[object]]


@brrr.handler_no_arg
async def leaf(number: int, at: int) -> int:
    """A grandchild."""
    return at


@brrr.handler
async def branch(app: brrr.ActiveWorker, number: int, at: int) -> int:
    """A child, with three of its own."""
    return sum(await app.gather(*(app.call(leaf)(number, 3 * at + which) for which in range(3))))


@brrr.handler
async def fan_out(app: brrr.ActiveWorker, number: int) -> int:
    """A workflow, different by its number."""
    return sum(await app.gather(*(app.call(branch)(number, at) for at in range(WIDTH))))


HANDLERS = {"fan_out": fan_out, "branch": branch, "leaf": leaf}


@dataclass
class Load:
    """What went on.

    Attributes:
        rounds: Workflows that ended, each with the right result.
        put: Messages whose put returned.
        refused: How often an operation raised that it was not done, or may not have been, by operation.
        received: How often each message was received.
        counted: Swaps of one counter that took place.
        tried: Swaps of it that may have.
        stood_still: The longest time, in seconds, in which nothing came through, by operation.
    """

    backend: Backend
    rounds: int = 0
    put: set[bytes] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    received: Counter[bytes] = field(default_factory=Counter)
    counted: int = 0
    tried: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    stood_still: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def came_through(self, name: str) -> None:
        """Something was done: note how long it had not been."""
        now = time.monotonic()
        since = now - self._last.get(name, now)
        self.stood_still[name] = max(self.stood_still.get(name, 0.0), since)
        self._last[name] = now

    async def workflows(self, fleet: Fleet) -> None:
        """Run one after the other, until what breaks is over, and one more."""
        last = False
        while not last:
            last = self.over.is_set()
            number = self.rounds
            await self.until_taken("schedule", lambda number=number: fleet.app.schedule(fan_out, topic=TOPIC)(number))
            result = await self.until_taken("result", lambda number=number: fleet.app.result(fan_out)(number))
            assert result == RESULT, f"round {number}"
            self.rounds += 1

    async def until_taken(self, name: str, operation: Callable[[], Awaitable[object]]) -> object:
        """Do something that may be done twice until it is done."""
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
                self.came_through("put")
            except BackendUnavailableError:
                self.refused["put"] += 1
            await asyncio.sleep(0.005)

    async def consume(self) -> None:
        """Receive and acknowledge, until everything that was put was received."""
        while not self.over.is_set() or self.put - self.received.keys():
            try:
                found = await self.backend.queue.receive(LEDGER, limit=50, wait=1)
                self.received.update(each.body for each in found)
                await self.backend.queue.ack(found)
                if found:
                    self.came_through("receive")
            except BackendUnavailableError:
                self.refused["receive"] += 1

    async def count(self) -> None:
        """Count up in one record, by compare-and-swap."""
        now: bytes | None = None
        while not self.over.is_set():
            self.tried += 1
            try:
                (took,) = await self.backend.store.swap([Swap(COUNTED, now, b"%d" % (int(now or 0) + 1))])
                self.counted += took
                self.came_through("swap")
                if took:
                    self.tried = self.counted
            except BackendUnavailableError:
                self.refused["swap"] += 1
            await asyncio.sleep(0.005)
            (now,) = await self.until_taken("read", lambda: self.backend.store.read([COUNTED]))  # type: ignore[misc]

    def told(self) -> str:
        """What is missing."""
        lost = sorted(self.put - self.received.keys(), key=int)
        return f"{self.rounds} rounds; not received of {len(self.put)}: {lost[:10]} of {len(lost)}; {self.refused}"

    def figures(self) -> str:
        """How much went on, and how long it stood still."""
        still = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.stood_still.items())
        return (
            f"{self.rounds} workflows, {len(self.put)} messages, {self.counted} swaps; "
            f"stood still at most: {still}; refused {dict(self.refused)}"
        )

    async def begun(self) -> None:
        """Wait until everything has been done once."""
        while not (self.rounds and self.put and self.received and self.counted):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def under_load(url: str, fault: Fault, *, workers: int = 2) -> Load:
    """Break something under load, and see that nothing is lost.

    Args:
        url: The backend of all workers and clients; each has connections of its own.
        fault: Breaks it, and ends when it is whole again.
        workers: How many there are.
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
            under_way = [tasks.create_task(work) for work in works]
            async with asyncio.timeout(BOUND):
                await load.begun()
            await fault()
            load.over.set()
            _, late = await asyncio.wait(under_way, timeout=BOUND)
            assert not late, load.told()
        (now,) = await opened.store.read([COUNTED])
        assert load.counted <= int(now or 0)
        async with asyncio.timeout(BOUND):
            await _nothing_left(load)
        print(load.figures())  # noqa: T201 - shown with -s, and where a test fails
        return load


async def _nothing_left(load: Load) -> None:
    for topic in (TOPIC, LEDGER):
        while (stats := await load.backend.queue.stats(topic))[:3] != (0, 0, 0):
            for each in await load.backend.queue.receive(LEDGER, limit=50, wait=0):  # a put that raised was done
                await load.backend.queue.ack([each])
            await asyncio.sleep(0.02)
        assert stats.dead == 0, await load.backend.queue.dead(topic, limit=5)
