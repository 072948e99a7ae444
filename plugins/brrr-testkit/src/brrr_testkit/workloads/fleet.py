"""Workers for a test, on a URL or on given roles. They stop at the end of the block."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import brrr_core as brrr
from brrr_core.backend import Queue, QueueStats
from brrr_testkit.waiting import BOUND, until

__all__ = ["BOUND", "QUICK", "TOPIC", "UNPARKED", "Fleet", "over", "serving", "until_idle", "urls_of", "working"]

TOPIC = "work"
"""Topic of the workers, if the test names no other."""

QUICK = brrr.Policy(backoff=0.01, backoff_limit=0.05, grace=1.0, unavailable_timeout=5.0)
"""A policy for tests, with short backoffs."""

UNPARKED = replace(QUICK, park=0)
"""The same, but each wake-up runs its handler again from the start, for tests that count runs."""


@dataclass(frozen=True)
class Fleet:
    """An application with running workers.

    Attributes:
        app: The application.
        connection: Its connection.
        topics: The topics of its workers.
    """

    app: brrr.AppWorker
    connection: brrr.Connection
    topics: Sequence[str]

    async def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Schedule a call and wait for its result."""
        await self.app.schedule(task, topic=self.topics[0])(*args, **kwargs)
        return await self.app.result(task, timeout=BOUND)(*args, **kwargs)

    async def stats(self) -> QueueStats:
        """Return the sums of the stats of all topics."""
        each = [await self.connection.queue.stats(topic) for topic in self.topics]
        return QueueStats(*map(sum, zip(*each, strict=True)))

    async def idle(self) -> QueueStats:
        """Wait until no message is ready, leased or delayed, and return the stats."""
        return await until_idle(self.connection.queue, self.topics)

    async def settled(self, leased: int) -> None:
        """Wait until no message is ready and at most `leased` are leased, because all other calls wait for these."""

        async def still() -> bool:
            stats = await self.stats()
            return stats.leased <= leased and not stats.ready

        await until(still, f"only {leased} messages are leased and none is ready")

    async def dead(self, number: int) -> list[str]:
        """Wait until `number` messages are dead, and return their reasons."""

        async def there() -> bool:
            return (await self.stats()).dead >= number

        await until(there, f"{number} messages are dead")
        letters = [await self.connection.queue.dead(topic, limit=1_000) for topic in self.topics]
        return [letter.reason for each in letters for letter in each]


async def until_idle(queue: Queue, topics: Iterable[str]) -> QueueStats:
    """Wait until the topics have no ready, leased or delayed message, and return the stats."""
    names = list(topics)

    async def total() -> QueueStats:
        each = [await queue.stats(topic) for topic in names]
        return QueueStats(*map(sum, zip(*each, strict=True)))

    async def idle() -> bool:
        return (await total())[:3] == (0, 0, 0)

    await until(idle, f"{names} are idle")
    return await total()


@asynccontextmanager
async def working(
    connection: brrr.Connection,
    handlers: Mapping[str, Any],
    *,
    topics: Sequence[str] = (TOPIC,),
    codec: Any = "json",
    concurrency: int = 64,
    lifespan: Any = None,
    schedules: Sequence[Any] = (),
) -> AsyncGenerator[Fleet]:
    """Run a worker for each topic inside the block."""
    app = brrr.AppWorker(handlers=handlers, codec=codec, connection=connection, lifespan=lifespan)
    async with asyncio.TaskGroup() as loops:
        for topic in topics:
            loops.create_task(connection.loop(topic, app.handle, concurrency=concurrency, schedules=schedules))
        await asyncio.sleep(0)
        try:
            yield Fleet(app, connection, topics)
        finally:
            connection.stop()


@asynccontextmanager
async def serving(
    url: str | Sequence[str],
    handlers: Mapping[str, Any],
    *,
    policy: brrr.Policy = QUICK,
    hooks: Sequence[object] = (),
    **how: Any,
) -> AsyncGenerator[Fleet]:
    """Run workers as `working` does, on one URL or on separate URLs of queue, store and cache."""
    async with (
        brrr.serve(*urls_of(url), policy=policy, hooks=hooks) as connection,
        working(connection, handlers, **how) as fleet,
    ):
        yield fleet


def urls_of(place: str | Sequence[str]) -> Sequence[str]:
    """Return the URLs as the arguments of `brrr.serve`."""
    return [place] if isinstance(place, str) else place


def over(
    roles: Any,
    *,
    policy: brrr.Policy = QUICK,
    hooks: Sequence[object] = (),
    clock: Callable[[], float] = time.time,
    steps: bool = True,
) -> brrr.Connection:
    """Return a connection over a backend or over roles that the test made, for example instrumented ones.

    Args:
        roles: The backend or the roles.
        policy: The policy.
        hooks: The hooks.
        clock: Returns the time, in unix seconds.
        steps: Whether to use its steps. Without them, each operation of a role can fail by itself.
    """
    return brrr.Connection(
        roles.queue,
        roles.store,
        roles.cache,
        steps=roles.steps if steps else None,
        policy=policy,
        hooks=hooks,
        clock=clock,
    )
