"""The processes of a history: workers and clients that die, freeze and restart, and the backends that they share."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from math import inf
from types import SimpleNamespace
from typing import Any, Final

import brrr_core as brrr
from brrr_core.app import active
from brrr_core.backend import Cache, Queue, Store
from brrr_core.codec import Codec
from brrr_core.engine import roots, scheduling, termination, threads
from brrr_cron import cursor
from brrr_simulation.backend import LATE, Line, parts
from brrr_simulation.faults import Dice
from brrr_simulation.loop import Process, Universe
from brrr_simulation.model import Model
from brrr_simulation.pairs import Pairs
from brrr_simulation.threads import SimulatedPool, run_coroutine_threadsafe

__all__ = ["EPOCH", "LEASE", "Fleet", "Worker", "isolated"]

EPOCH: Final = 1_800_000_000.0
"""Unix seconds at which virtual time begins."""

LEASE: Final = 30.0
RESTART: Final = 5.0
"""The most seconds until a dead process is started again."""

INTERRUPTIONS: Final = 0.3
"""The probability that a process dies after the run of a handler, before the result is stored."""

JUMP: Final = 10.0
"""The most seconds by which a clock is set forward or back."""


def _ignore(*_: object, **__: object) -> None:
    """Do nothing, because a simulated process gets no signals."""


@contextmanager
def isolated(seed: int, *, returns_limit: int = 1_000) -> Generator[None, None, None]:
    """Inside the block, seed all randomness of the engine, simulate its threads, and install no signal handlers.

    Args:
        seed: The seed.
        returns_limit: The most parents in one pending record. A simulation does not reach the engine's own limit.
    """
    own = random.Random(seed)  # noqa: S311 - a simulation
    before, secrets, limit = random.getstate(), roots.__dict__["secrets"], scheduling.__dict__["RETURNS_LIMIT"]
    scheduling.__dict__["RETURNS_LIMIT"] = returns_limit
    stop, unregister = termination.stop_on_sigterm, termination.unregister
    pool = threads.__dict__["ThreadPoolExecutor"]
    random.seed(seed)
    threads.__dict__["ThreadPoolExecutor"] = SimulatedPool
    active.__dict__["asyncio"] = SimpleNamespace(
        **{**vars(asyncio), run_coroutine_threadsafe.__name__: run_coroutine_threadsafe}
    )
    roots.__dict__["secrets"] = SimpleNamespace(token_bytes=own.randbytes)
    token_hex = cursor.__dict__["token_hex"]
    termination.__dict__.update(stop_on_sigterm=_ignore, unregister=_ignore)

    def random_hex(size: int) -> str:
        return own.randbytes(size).hex()

    cursor.__dict__["token_hex"] = random_hex
    try:
        yield
    finally:
        random.setstate(before)
        threads.__dict__["ThreadPoolExecutor"] = pool
        active.__dict__["asyncio"] = asyncio
        scheduling.__dict__["RETURNS_LIMIT"] = limit
        roots.__dict__["secrets"] = secrets
        cursor.__dict__["token_hex"] = token_hex
        termination.__dict__.update(stop_on_sigterm=stop, unregister=unregister)


Foreign = Callable[[Queue, Store, Cache], Coroutine[Any, Any, None]]
"""The program of a worker of another SDK. It gets the backends as it sees them."""


class Worker:
    """A worker that is started again when it dies.

    Attributes:
        name: Its name.
        topic: Its topic.
        skew: Seconds by which its clock differs.
        foreign: The program of a worker of another SDK; None for one of brrr.
    """

    def __init__(self, name: str, topic: str, foreign: Foreign | None = None) -> None:
        self.name = name
        self.topic = topic
        self.foreign = foreign
        self.skew = 0.0
        self.process: Process | None = None
        self.connection: brrr.Connection | None = None


class Fleet:
    """The processes and the backends of one history.

    Args:
        dice: Decides which faults strike.
        steps: Whether the backends offer steps.
        policy: The policy of all processes.
        handlers: The handlers of all workers.
        place: An object that handlers find as the attribute `place` of their event loop.
        concurrency: The most calls that one worker runs concurrently.
        hooks: The hooks of all processes.
        lifespan: The lifespan of the applications, as `AppWorker` takes it.
        app: Makes the applications.
        codec: The codec. All processes share it, so that it inspects the signature of each handler only once.
        schedules: The recurring schedules of all workers.
        trace: Called with the time, the process, the name and the items of each operation.
        pairs: Counts the pairs of operations.

    Attributes:
        awake_until: Virtual time until which no polls are skipped.
    """

    def __init__(
        self,
        dice: Dice,
        *,
        steps: bool,
        policy: brrr.Policy,
        handlers: Mapping[str, Any],
        place: object = None,
        concurrency: int,
        hooks: Sequence[object] = (),
        lifespan: Any = None,
        codec: Codec,
        app: Callable[..., brrr.AppWorker] = brrr.AppWorker,
        schedules: Sequence[brrr.RecurringSchedule] = (),
        hints: bool = False,
        trace: Callable[[float, str, str, Sequence[Any]], None] | None = None,
        pairs: Pairs | None = None,
    ) -> None:
        self.universe = Universe()
        self.dice = dice
        self.model = Model(lambda: self.universe.now, self.universe.at, LEASE)
        self.workers: list[Worker] = []
        self.lost_queue = False
        self.awake_until = 0.0
        self._planned: list[float] = []
        """A heap with the times of planned events that have not happened yet."""
        self._clients = 0
        self._steps = steps
        self._policy = policy
        self._handlers = handlers
        self._place = place
        self._concurrency = concurrency
        self._hooks = hooks
        self._lifespan = lifespan
        self._app = app
        self._schedules = schedules
        self._hints = hints
        self._codec = codec
        self._trace = trace
        self._pairs = pairs
        self._in_flight = [0]
        self._away_until = [0.0]
        self._starts = 0
        self.universe.quiet = self._quiet

    def plan(self, when: float, action: Callable[[], object]) -> None:
        """Call a function at a virtual time. The history does not end before."""
        when = max(when, self.universe.now)
        heappush(self._planned, when)

        def now() -> None:
            heappop(self._planned)
            action()

        self.universe.at(when, now)

    def start(self, worker: Worker) -> None:
        """Start the process of a worker."""
        self._starts += 1
        process = worker.process = self.universe.process(worker.name)
        process.place, process.clock = self._place, lambda: self.clock(worker)

        async def work() -> None:
            if worker.foreign is not None:
                await worker.foreign(*parts(self._line(process))[:3])
                return
            connection = worker.connection = self._connect(process, worker)
            app = self._app(handlers=self._handlers, codec=self._codec, connection=connection, lifespan=self._lifespan)
            concurrency, schedules = self._concurrency, self._schedules
            await connection.loop(worker.topic, app.handle, concurrency=concurrency, schedules=schedules)
            await connection.close()

        task = process.start(work())
        task.add_done_callback(lambda _: self._ended(worker, process))

    def client(self, name: str, work: Callable[[brrr.AppConsumer], Coroutine[Any, Any, None]]) -> None:
        """Run a program that uses a client. It is repeated until it ends without an error."""
        self._clients += 1
        process = self.universe.process(name)

        async def run() -> None:
            connection = self._connect(process, None)
            await work(brrr.AppConsumer(codec=self._codec, connection=connection))
            await connection.close()

        task = process.start(run())

        def ended(_: Any) -> None:
            self._clients -= 1
            if process.dead or task.cancelled() or task.exception() is not None:
                process.kill()
                self.plan(self.universe.now + self.dice.random.uniform(0, RESTART), lambda: self.client(name, work))

        task.add_done_callback(ended)
        process.died = lambda: ended(None)

    def deploy(self, handlers: Mapping[str, Any], seconds: float) -> None:
        """Restart all workers within some seconds, and give them more handlers."""
        self._handlers = {**self._handlers, **handlers}

        def stop(worker: Worker) -> None:
            if worker.connection is not None:
                worker.connection.stop()

        for worker in self.workers:
            self.plan(self.universe.now + self.dice.random.uniform(0, seconds), partial(stop, worker))

    def clock(self, worker: Worker | None) -> float:
        """Return the unix time on the machine of a worker."""
        return EPOCH + self.universe.now + (0.0 if worker is None else worker.skew)

    def _line(self, process: Process) -> Line:
        trace = self._trace
        return Line(
            self.universe,
            self.model,
            self.dice,
            process,
            in_flight=self._in_flight,
            away_until=self._away_until,
            killed=self._killed,
            trace=None if trace is None else (lambda who, name, items: trace(self.universe.now, who, name, items)),
            pairs=self._pairs,
        )

    def _connect(self, process: Process, worker: Worker | None) -> brrr.Connection:
        queue, store, cache, steps = parts(self._line(process), hints=self._hints)
        return brrr.Connection(
            queue,
            store,
            cache,
            steps=steps if self._steps else None,
            policy=self._policy,
            hooks=self._hooks,
            clock=lambda: self.clock(worker),
        )

    def _killed(self, process: Process) -> None:
        process.kill()
        if process.died is not None:
            process.died()
            return
        for worker in self.workers:
            if worker.process is process:
                self._start_later(worker)

    def _ended(self, worker: Worker, process: Process) -> None:
        if worker.process is process and not process.dead:
            process.kill()
            self._start_later(worker)

    def _start_later(self, worker: Worker) -> None:
        self.plan(self.universe.now + self.dice.random.uniform(0, RESTART), lambda: self.start(worker))

    def disturb(self, seconds: float) -> None:
        """Plan faults of the next `seconds`: those that strike at a time, and not at an operation."""
        dice, draw, now = self.dice, self.dice.random, self.universe.now
        often = {"crash": 3, "freeze": 2, "stop": 2, "jump": 2, "away": 1}
        for kind in sorted(dice.kinds & often.keys()):
            for _ in range(draw.randint(1, often[kind])):
                self.plan(now + draw.uniform(0, seconds), lambda kind=kind: self._strike(kind))  # type: ignore[misc]

    def _strike(self, kind: str) -> None:
        dice, draw, now = self.dice, self.dice.random, self.universe.now
        worker = draw.choice(self.workers)
        process, seconds = worker.process, self.model.lease * draw.uniform(*LATE)
        if process is None or process.dead:
            return
        if kind == "away" and dice.strike(kind, "all", f"for {seconds / 2:.0f} s", now):
            self._away_until[0] = now + seconds / 2
        elif kind == "crash" and dice.strike(kind, worker.name, "between two operations", now):
            self._killed(process)
        elif kind == "freeze" and dice.strike(kind, worker.name, f"for {seconds:.0f} s", now):
            process.frozen_until = now + seconds
        elif kind == "stop" and worker.connection is not None and dice.strike(kind, worker.name, "gracefully", now):
            worker.connection.stop()
        elif kind == "jump":
            skew = draw.uniform(-JUMP, JUMP)
            if dice.strike(kind, worker.name, f"to {skew:+.1f} s", now):
                worker.skew = skew

    def change_spawn_limit(self, spawn_limit: int) -> None:
        """Restart all workers with another spawn limit."""
        self._policy = replace(self._policy, spawn_limit=spawn_limit)
        for worker in self.workers:
            if worker.connection is not None:
                worker.connection.stop()

    def interrupts(self, process: Process, what: str) -> bool:
        """Whether a fault kills a process now, after a handler has run and before its result is stored."""
        dice = self.dice
        if "crash" not in dice.kinds or dice.calm or dice.random.random() >= INTERRUPTIONS:
            return False
        if not dice.strike("crash", process.name, what, self.universe.now):
            return False
        self._killed(process)
        return True

    def lose_queue(self) -> bool:
        """Let the queue lose all its messages. Return whether it did."""
        if "forgotten" not in self.dice.kinds or not self.dice.strike("forgotten", "queue", "", self.universe.now):
            return False
        self.model.lose_all()
        self.lost_queue = True
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing is planned or running, and no message is left."""
        return (
            self.universe.now >= self.awake_until
            and not self._planned
            and not self._clients
            and not self._in_flight[0]
            and not any(topic.ready or topic.leased or topic.delayed for topic in self.model.topics.values())
        )

    def _quiet(self) -> float | None:
        if self._clients or self._in_flight[0] or self.universe.now < self.awake_until:
            return None
        due = self.model.next_due()
        if due is not None and self._planned:
            due = min(due, self._planned[0])
        return None if due == inf else due
