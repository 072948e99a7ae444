"""A workflow that uses every step of the engine, its result, and a memory space in virtual time for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import brrr_core as brrr
from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions, forget
from brrr_core.errors import BackendClosedError, BuriedError
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import over
from tests.support.observing import Observer

LEASE = 30.0
TOPIC = "work"
VIRTUAL_BOUND = 24 * 3600.0
"""Virtual seconds after which an unfinished workflow is stuck."""

EPOCH = 1_800_000_000.0
"""Unix seconds at which virtual time begins."""

POLICY = brrr.Policy(backoff=1.0, backoff_limit=10.0, grace=0.0, unavailable_timeout=1e9)

_names = count()


@dataclass
class World:
    """State outside of all workers, which survives them."""

    failed: set[str] = field(default_factory=set)
    ticks: set[str] = field(default_factory=set)


def everything(world: World) -> Mapping[str, Any]:
    """Return handlers for a tree, a diamond, a chain, a call that fails once, and one that outlasts its lease."""

    @brrr.handler
    async def tree(app: brrr.ActiveWorker, depth: int, path: str = "") -> int:
        if not depth:
            return 1
        return 1 + sum(await app.gather(app.call(tree)(depth - 1, path + "l"), app.call(tree)(depth - 1, path + "r")))

    @brrr.handler_no_arg
    async def corner() -> int:
        return 5

    @brrr.handler
    async def side(app: brrr.ActiveWorker, factor: int) -> int:
        return factor * await app.call(corner)()

    @brrr.handler_no_arg
    async def flaky(name: str) -> int:
        if name not in world.failed:
            world.failed.add(name)
            raise ConnectionError(f"{name} fails once")
        return 7

    @brrr.handler_no_arg
    async def slow() -> int:
        await asyncio.sleep(1.5 * LEASE)
        return 11

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        wide = await app.gather(
            app.call(tree)(2), app.call(side)(2), app.call(side)(3), app.call(flaky)("one"), app.call(slow)()
        )
        return sum(wide) + await app.call(side)(4)

    return {"tree": tree, "corner": corner, "side": side, "flaky": flaky, "slow": slow, "top": top}


RESULT = 7 + 10 + 15 + 7 + 11 + 20


def poisoned(world: World) -> Mapping[str, Any]:
    """Return handlers of a workflow three calls deep, in which one call of a fan-out fails until it is mended."""

    @brrr.handler_no_arg(max_attempts=1)
    async def leaf(number: int) -> int:
        if number == 1 and "mended" not in world.failed:
            raise ValueError("poison")
        return number

    @brrr.handler
    async def middle(app: brrr.ActiveWorker) -> int:
        return sum(await app.gather(*(app.call(leaf)(number) for number in range(3))))

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        return 10 + await app.call(middle)()

    return {"leaf": leaf, "middle": middle, "top": top}


class Stage:
    """A memory space in virtual time, its observer, and workers that come and go."""

    def __init__(self, backend: MemoryBackend, observer: Observer, *, steps: bool = True) -> None:
        self.backend = backend
        self.steps = steps
        """Whether workers and clients use steps."""
        self.observer = observer
        self.world = World()
        self.schedules: Sequence[brrr.RecurringSchedule] = ()
        """Recurring schedules of the workers."""
        self.client = self.another_client()

    def another_client(self, instrument: Instrument | None = None) -> brrr.AppConsumer:
        """Return a client."""
        return brrr.AppConsumer(codec="json", connection=self._connection(instrument or Instrument(), POLICY))

    def _connection(self, instrument: Instrument, policy: brrr.Policy) -> brrr.Connection:
        instrument.effect = self.observer
        time = asyncio.get_running_loop().time
        roles = instrument.wrap(self.backend)
        if not self.steps:
            roles = replace(roles, steps=None)
        return over(roles, policy=policy, clock=lambda: EPOCH + time())

    def worker(
        self,
        instrument: Instrument | None = None,
        *,
        handlers: Any = everything,
        concurrency: int = 4,
        policy: brrr.Policy = POLICY,
        topic: str = TOPIC,
    ) -> tuple["asyncio.Task[None]", brrr.Connection]:
        """Start a worker, and return its task and its connection."""
        connection = self._connection(instrument or Instrument(), policy)
        app = brrr.AppWorker(handlers=handlers(self.world), codec="json", connection=connection)
        loop = connection.loop(topic, app.handle, concurrency=concurrency, schedules=self.schedules)
        return asyncio.create_task(loop), connection

    async def kill(self, worker: "asyncio.Task[None]", instrument: Instrument) -> None:
        """End a worker as if its process were killed: its operations no longer have an effect."""
        instrument.dead = True
        while not worker.done():
            worker.cancel()
            await asyncio.sleep(0)
        worker.cancelled() or worker.exception()

    async def stop(self, worker: "asyncio.Task[None]", connection: brrr.Connection) -> None:
        """Stop a worker gracefully."""
        connection.stop()
        await worker
        await connection.close()

    async def idle(self) -> None:
        """Wait until all remaining messages are dead letters. The last one may be a timer that is due in an hour."""
        pause = 1.0
        while True:
            stats = await self.backend.queue.stats(TOPIC)
            if not (stats.ready or stats.leased or stats.delayed):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LEASE + 1)  # 31 s: never the same second of two minutes

    async def verify(self, result: Any, dead: int = 0) -> None:
        """Check the result and the number of dead-lettered calls, that no message is left, and that invariants held."""
        assert await self.client.result("top")() == result
        await self.idle()
        letters = await self.backend.queue.dead(TOPIC, limit=10)
        assert len({letter.body for letter in letters}) == dead  # a repeated message can leave a second letter
        assert self.observer.violations == []


class Mending(brrr.AppConsumer):
    """A client that mends the world when it hears of a dead letter, and schedules the workflow again."""

    def __init__(self, on: Stage) -> None:
        super().__init__(codec="json", connection=on._connection(Instrument(), POLICY))
        self._world = on.world

    def result(self, task: Any, **options: Any) -> Any:
        wait = super().result(task, **options)

        async def found() -> Any:
            while True:
                try:
                    return await wait()
                except BuriedError:
                    self._world.failed.add("mended")
                    await self.schedule(task, topic=TOPIC)()

        return found


def mortal(last: int) -> Instrument:
    """Return an instrument of a process that is killed before its operation number `last`."""

    async def die(operation: Operation) -> None:
        if operation.number == last:
            instrument.dead = True
            raise BackendClosedError("killed")

    instrument = Instrument(before=die)
    return instrument


@asynccontextmanager
async def stage(*, steps: bool = True) -> AsyncIterator[Stage]:
    """Yield a new stage, which must be left within the virtual bound.

    Args:
        steps: Whether workers and clients use the steps of the backend.
    """
    name = f"stage-{next(_names)}"
    clock = asyncio.get_running_loop().time
    backend = MemoryBackend(BackendUrl("memory", path=name), MemoryOptions(Duration(LEASE)), clock=clock)
    try:
        async with backend, asyncio.timeout(VIRTUAL_BOUND):
            yield Stage(backend, Observer(backend.queue._session.space), steps=steps)  # type: ignore[attr-defined]
    finally:
        forget(name)
