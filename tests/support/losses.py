"""Workflows whose messages are lost: their records stay, and nothing wakes their calls."""

import asyncio
from dataclasses import replace
from typing import Any

import brrr_core as brrr
from brrr_core.backend import Queue
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, over, working

__all__ = ["Stuck", "chain", "lose_everything", "schedule_and_lose"]


class Stuck:
    """A place at which a call waits until the test opens the gate."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def here(self) -> None:
        """Wait at this place."""
        self.reached.set()
        await self.gate.wait()


def chain(stuck: Stuck) -> Any:
    """Return the handler `deep(n)`, a chain of n calls. The last one is stuck."""

    @brrr.handler
    async def deep(app: brrr.ActiveWorker, n: int) -> int:
        if not n:
            await stuck.here()
            return 0
        return 1 + await app.call(deep)(n - 1)

    return deep


async def lose_everything(queue: Queue, topic: str = TOPIC) -> int:
    """Take and acknowledge all messages that are ready, and return their number."""
    lost = 0
    while deliveries := await queue.receive(topic, limit=100, wait=0):
        await queue.ack(deliveries)
        lost += len(deliveries)
    return lost


async def schedule_and_lose(roles: Any, task: Any, n: int, stuck: Stuck) -> None:
    """Run `task(n)` until all its calls wait for the stuck one. Then stop its worker, and lose the messages."""
    abrupt = over(roles, policy=replace(QUICK, grace=0))
    async with working(abrupt, {task.name: task}) as fleet:
        await fleet.app.schedule(task, topic=TOPIC)(n)
        async with asyncio.timeout(BOUND):
            await stuck.reached.wait()
        await fleet.settled(1)
    await abrupt.close()
    assert await lose_everything(roles.queue) == 1
    stuck.gate.set()
    assert await roles.queue.stats(TOPIC) == (0, 0, 0, 0)
