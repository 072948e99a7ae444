"""Workers with clocks that differ run a schedule for hours and die at random moments: each tick is one call."""

import asyncio
import os
import random
from datetime import UTC, datetime

import pytest

import brrr_core as brrr
import brrr_cron
from brrr_cron.times import text_of
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import over
from tests.support.scenarios import EPOCH, POLICY, TOPIC, Stage, stage
from tests.support.virtual import run_virtually

WORKERS = 5
KILLS = 60
MINUTES = 120
SKEW = 4.0
"""The most seconds by which a clock is ahead or behind."""


class Member:
    """A worker that can be killed at any of its operations, and its clock."""

    def __init__(self, on: Stage, ticks: set[str], dice: random.Random) -> None:
        time, skew = asyncio.get_running_loop().time, dice.uniform(-SKEW, SKEW)
        self.doomed = False
        self.died = asyncio.Event()
        self.instrument = Instrument(before=self.maybe_die, after=self.maybe_die, effect=on.observer)
        connection = over(self.instrument.wrap(on.backend), policy=POLICY, clock=lambda: EPOCH + time() + skew)

        @brrr.handler_no_arg
        async def minutely(tick: str) -> None:
            ticks.add(tick)

        app = brrr.AppWorker(handlers={"minutely": minutely}, codec="json", connection=connection)
        schedule = brrr_cron.every("* * * * *", minutely, name="minutely")
        self.task = asyncio.create_task(connection.loop(TOPIC, app.handle, schedules=[schedule]))

    async def maybe_die(self, operation: Operation) -> None:
        if self.doomed and operation.name != "queue.receive":
            self.instrument.dead = True
            self.died.set()


async def hours(seed: int) -> tuple[set[str], list[str], int]:
    """Run the workers. Return the ticks that ran, the violated invariants, and the number of calls."""
    dice = random.Random(seed)
    random.seed(seed)
    ticks: set[str] = set()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # the futures of killed workers keep errors that no task retrieves
    time = loop.time
    async with stage() as on:
        members = [Member(on, ticks, dice) for _ in range(WORKERS)]
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0, 2 * 60 * MINUTES / KILLS))
            at = dice.randrange(WORKERS)
            members[at].doomed = True  # it dies at its next operation, most often in a tick
            await members[at].died.wait()
            await on.kill(members[at].task, members[at].instrument)
            members[at] = Member(on, ticks, dice)
        await asyncio.sleep(max(60.0 * MINUTES - time(), 120))
        end = text_of(datetime.fromtimestamp(EPOCH + time() - 60, UTC))
        await asyncio.sleep(60)
        for member in members:
            await on.kill(member.task, member.instrument)
        calls = {key.call_hash for key in on.backend.queue._session.space.records if key.kind == "call"}  # type: ignore[attr-defined]
        return {tick for tick in ticks if tick <= end}, on.observer.violations, len(calls) - len(ticks)


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 2))])
def test_each_tick_is_one_call_even_if_workers_die(number: int) -> None:
    seed = int(os.environ.get("BRRR_SEED", random.randrange(10**6)))
    print(f"BRRR_SEED={seed}")  # noqa: T201 - shown if the test fails
    ticks, violations, extra = run_virtually(hours(seed))

    begin = min(datetime.fromisoformat(tick) for tick in ticks).timestamp()
    wanted = {text_of(datetime.fromtimestamp(begin + 60 * minute, UTC)) for minute in range(len(ticks))}
    assert len(ticks) > MINUTES / 2
    assert ticks == wanted
    assert violations == []
    assert extra in (0, 1)  # the last call may not have run yet
