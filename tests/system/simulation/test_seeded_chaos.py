"""Seeded chaos in virtual time: workers that die, stall past their leases and lose answers, and messages that are
delivered twice and in any order. Every workflow ends correctly, and the invariants hold after each effect.

`BRRR_SEED=17 pytest tests/system/simulation` runs one seed again; `BRRR_SEEDS=5000` runs more of them.
"""

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.scenarios import LEASE, POLICY, TOPIC, Stage, World, stage
from tests.support.virtual import run_virtually

SEEDS = int(os.environ.get("BRRR_SEEDS", "300"))
PARTS = 6
"""Tests that share the seeds, so that several processes can take them."""

PATIENT = replace(POLICY, max_attempts=10_000, max_deliveries=100_000, max_crashes=100_000, spawn_limit=100_000)


class Chaos:
    """The faults of one simulation, decided by one seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.calm = False
        self.steps = seed % 3 > 0
        self.trouble = self.dice.choice([0.02, 0.1, 0.3])
        self.workers = self.dice.randint(1, 4)
        self.concurrency = self.dice.choice([1, 3, 10])
        self.returns_limit = self.dice.choice([1, 2, 1_000])

    async def before(self, operation: Operation) -> None:
        """Delay an operation, stall its worker for longer than a lease, or refuse it."""
        await self._disturb("refused")

    async def after(self, operation: Operation) -> None:
        """The same, once it has taken effect."""
        await self._disturb("the answer is lost")

    async def _disturb(self, what: str) -> None:
        if self.calm or self.dice.random() > self.trouble:
            return
        match self.dice.randrange(10):
            case 0:
                await asyncio.sleep(LEASE * self.dice.uniform(1, 3))
            case 1 | 2:
                raise BackendUnavailableError(what)
            case _:
                await asyncio.sleep(self.dice.uniform(0, 2))

    async def reign(self, on: Stage, handlers: Any) -> None:
        """Start and kill workers, repeat messages and mix their order, for some time."""
        workers = [self._start(on, handlers) for _ in range(self.workers)]
        for _ in range(self.dice.randint(5, 30)):
            await asyncio.sleep(self.dice.uniform(0, LEASE / 2))
            topic = on.observer._space.topics.get(TOPIC)
            match self.dice.randrange(4):
                case 0:
                    at = self.dice.randrange(len(workers))
                    await on.kill(*workers[at])
                    workers[at] = self._start(on, handlers)
                case 1 if topic is not None:
                    self.dice.shuffle(topic.ready)
                case 2 if topic is not None and topic.ready:
                    await on.backend.queue.put(TOPIC, [self.dice.choice(topic.ready).body] * 2)
                case _:
                    pass
        self.calm = True
        for worker in workers[1:]:
            await on.kill(*worker)

    def _start(self, on: Stage, handlers: Any) -> tuple["asyncio.Task[None]", Instrument]:
        instrument = Instrument(before=self.before, after=self.after)
        worker, _ = on.worker(instrument, handlers=handlers, concurrency=self.concurrency, policy=PATIENT)
        return worker, instrument


def grown(seed: int) -> tuple[Any, int]:
    """A random call graph: its handlers, and its result. Calls are shared, chained, gathered and fail at times."""
    dice = random.Random(seed)
    size = dice.randint(3, 14)
    children = {n: sorted(dice.sample(range(n), min(n, dice.randint(0, 3)))) for n in range(size)}
    one_by_one = {n for n in range(size) if dice.random() < 0.3}
    fails = {n for n in range(size) if dice.random() < 0.15}
    long = {n for n in range(size) if dice.random() < 0.1}
    value: dict[int, int] = {}
    for n in range(size):
        value[n] = 1 + n + sum(value[child] for child in children[n])

    def handlers(world: World) -> Mapping[str, Any]:
        @brrr.handler
        async def node(app: brrr.ActiveWorker, n: int) -> int:
            if n in one_by_one:
                total = sum([await app.call(node)(child) for child in children[n]])
            else:
                total = sum(await app.gather(*(app.call(node)(child) for child in children[n])))
            if n in long:
                await asyncio.sleep(1.2 * LEASE)
            if n in fails and str(n) not in world.failed:
                world.failed.add(str(n))
                raise ConnectionError("once")
            return 1 + n + total

        @brrr.handler
        async def top(app: brrr.ActiveWorker) -> int:
            return sum(await app.gather(*(app.call(node)(n) for n in (size - 1, size - 2, 0))))

        return {"node": node, "top": top}

    return handlers, value[size - 1] + value[size - 2] + value[0]


async def simulate(seed: int) -> None:
    """One workflow under the chaos of one seed."""
    chaos = Chaos(seed)
    handlers, result = grown(seed)
    async with stage(steps=chaos.steps) as on:
        await on.client.schedule("top", topic=TOPIC)()
        await chaos.reign(on, handlers)
        await on.verify(result)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait({task})


@pytest.mark.parametrize("part", range(PARTS))
def test_every_workflow_ends_correctly(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import brrr_core.engine.scheduling as module

    only = os.environ.get("BRRR_SEED")
    seeds = range(part, SEEDS, PARTS) if only is None else [int(only)] if not part else []
    for seed in seeds:
        monkeypatch.setattr(module, "RETURNS_LIMIT", Chaos(seed).returns_limit)
        random.seed(seed)
        try:
            run_virtually(simulate(seed))
        except (Exception, asyncio.CancelledError) as error:
            raise AssertionError(f"BRRR_SEED={seed}: {type(error).__name__} {error}") from error
