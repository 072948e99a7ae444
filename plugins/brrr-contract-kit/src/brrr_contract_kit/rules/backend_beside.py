"""Rules BACKEND-BESIDE: a backend that is set up, opened, used and closed does not affect others on its URL."""

from asyncio import Task, create_task, gather, wait
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, get_args

from brrr_contract_kit.registry import LONG, declares, rule
from brrr_contract_kit.target import DATA
from brrr_contract_kit.testbed.checks import check, equal, same_bodies
from brrr_contract_kit.testbed.context import IN_TIME, Context, NotApplicableError, StalledError
from brrr_contract_kit.testbed.operations import delays_end, leave_delayed
from brrr_contract_kit.testbed.processes import Agent
from brrr_core.backend import Backend, DeadLetter, Delivery, Key, Kind

DELAY: Final = 1.0
LIVES: Final = 3
"""A delay lasts for this many lives of another backend, so that it ends after the last of them."""

REASON: Final = "kept"


@dataclass
class _Work:
    """Work of an open backend: leased, delayed and dead-lettered messages, a waiting receive, records and a counter."""

    ctx: Context
    backend: Backend
    records: dict[Key, bytes] = field(default_factory=dict[Key, bytes])
    counter: str = ""
    topics: list[str] = field(default_factory=list[str])
    held: list[Delivery] = field(default_factory=list[Delivery])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    leased_at: float = 0
    delayed_at: float = 0
    delay: float = 0
    waiting: Task[list[Delivery]] | None = None

    async def begin(self) -> None:
        """Begin the work in all roles that the backend offers."""
        ctx, roles = self.ctx, self.backend.roles
        self.records = {ctx.key(kind): kind.encode() for kind in get_args(Kind)}
        self.counter, self.topics = ctx.counter(), [ctx.topic() for _ in range(3)]
        if roles.store is not None:
            await roles.store.write([*self.records.items()])
        if roles.cache is not None:
            await roles.cache.increment({self.counter: 5})
        if roles.queue is not None:
            await roles.queue.put(self.topics[0], [b"%d" % number for number in range(4)])
            self.leased_at = ctx.now()
            *self.held, dead = await ctx.take_all(roles.queue, self.topics[0], 4)
            await roles.queue.bury(dead, REASON)
            self.letters = await roles.queue.dead(self.topics[0], limit=10)
            self.waiting = create_task(ctx.take(roles.queue, self.topics[1], wait=600))

    async def begin_delays(self, delay: float) -> None:
        """Put one message with a delay, and release one with it, if the manifest declares delays."""
        queue, topic = self.backend.roles.queue, self.topics[2]
        if queue is not None and declares(self.ctx.target.manifest, "queue.delay"):
            self.delay, self.delayed_at = delay, self.ctx.now()
            await leave_delayed(self.ctx, queue, topic, delay)

    async def unchanged(self, after: str) -> None:
        """Check that everything is as before."""
        ctx, roles = self.ctx, self.backend.roles
        if roles.store is not None:
            equal(await roles.store.read([*self.records]), [*self.records.values()], f"the records after {after}")
        if roles.cache is not None:
            equal(await roles.cache.increment({self.counter: 0}), {self.counter: 5}, f"the counter after {after}")
        if roles.queue is not None:
            equal(await roles.queue.dead(self.topics[0], limit=10), self.letters, f"the dead letters after {after}")
            found = [await ctx.take(roles.queue, topic, limit=10) for topic in (self.topics[0], self.topics[2])]
            ctx.in_time(roles.queue, self.leased_at)
            if self.delay and ctx.now() >= self.delayed_at + IN_TIME * self.delay:
                raise StalledError
            equal([each.body for each in found[0]], [], f"the ready messages after {after}, when all are leased")
            equal([each.body for each in found[1]], [], f"the ready messages after {after}, when all are delayed")
            ended = self.waiting is None or self.waiting.done()
            check(not ended, f"a receive that waited on an empty topic ended after {after}")

    async def end(self) -> None:
        """Check that every receipt works, that the waiting receive is woken, and that the delayed messages arrive."""
        queue, ctx = self.backend.roles.queue, self.ctx
        if queue is None or self.waiting is None:
            return
        acked, released, extended = self.held
        await queue.extend([extended])
        await queue.ack([acked])
        await queue.release([released])
        again = await ctx.take_one(queue, self.topics[0])
        equal((again.body, again.attempt), (released.body, 2), "body and attempt of the released message")
        await queue.release([extended])
        again = await ctx.take_one(queue, self.topics[0])
        equal((again.body, again.attempt), (extended.body, 2), "body and attempt of the extended message")
        await queue.put(self.topics[1], [b"awaited"])
        async with ctx.within(ctx.grace, "a put reaches a receive that has waited beside other backends"):
            equal([each.body for each in await self.waiting], [b"awaited"], "the messages of the waiting receive")
        if self.delay:
            await delays_end(ctx, queue, self.topics[2], self.delay)


@asynccontextmanager
async def _with_work(ctx: Context) -> AsyncGenerator[_Work]:
    """Begin the work of a new backend, and end its waiting receive."""
    work = _Work(ctx, await ctx.backend())
    try:
        await work.begin()
        yield work
    finally:
        if work.waiting is not None:
            work.waiting.cancel()
            await wait({work.waiting})


async def _use(ctx: Context, other: Backend) -> None:
    """Use another backend under other names, with every operation that removes something."""
    if other.roles.queue is not None:
        queue, topic = other.queue, ctx.topic()
        await queue.put(topic, [b"one", b"two"])
        one, two = await ctx.take_all(queue, topic, 2)
        await queue.ack([one])
        await queue.bury(two, "why")
        equal(await queue.redrive(topic, limit=10), 1, "the redriven dead letters")
        await queue.bury(await ctx.take_one(queue, topic), "why")
        equal(await queue.drop(topic, limit=10), 1, "the dropped dead letters")
    if other.roles.store is not None:
        await other.store.write([(ctx.key(), b"x")])
    if other.roles.cache is not None:
        await other.cache.increment({ctx.counter(): 1})


async def _use_elsewhere(ctx: Context, agent: Agent) -> None:
    """Use the backend of another process on other names."""
    if ctx.target.shared("queue"):
        topic = ctx.topic()
        await agent.do("put", topic=topic, bodies=["x", "y"])
        await agent.do("consume", topic=topic, idle=0, slowly=False)
    if ctx.target.shared("store"):
        await agent.do("write", call_hash=ctx.key().call_hash, value="x")
    if ctx.target.shared("cache"):
        await agent.do("increment", name=ctx.counter(), times=1, at=0)


@rule("BACKEND-BESIDE-01", pair=True, limit=LONG)
async def opens_beside(ctx: Context) -> None:
    """Setting up, opening, using and closing a backend does not affect another one that is open on its URL.

    Why: Workers start and stop all the time, and `brrr` commands run beside them. Work of a live worker must not run
    twice because another one starts, and must not vanish because another one stops.

    Test: A backend holds leases and dead letters, waits on an empty topic, and has records and a counter. Others are
    set up, opened, used and closed, and once more when there are also delayed messages. Nothing changes: leased
    messages stay hidden, receipts work, and delays end in time.
    """
    async with _with_work(ctx) as work:
        begun = ctx.now()
        await ctx.target.backend().setup()
        await work.unchanged("another backend was set up")
        async with ctx.target.backend() as other:
            await work.unchanged("another backend was opened")
            await _use(ctx, other)
        await work.unchanged("another backend was used and closed")
        await work.begin_delays(max(DELAY, LIVES * (ctx.now() - begun)))
        await ctx.target.backend().setup()
        async with ctx.target.backend() as other:
            await _use(ctx, other)
        await work.unchanged("another backend was set up, opened, used and closed")
        await work.end()


@rule("BACKEND-BESIDE-02", pair=True, processes=True, limit=LONG)
async def processes_beside(ctx: Context) -> None:
    """A process that opens the URL, works, and ends or is killed does not affect a backend of another process.

    Why: A backend may clean up after dead processes when it opens or closes. It must not mistake a live one for dead.

    Test: As BACKEND-BESIDE-01, with two other processes. One opens the URL before the delays begin, and one
    afterwards. Both work. One closes its backend and ends, the other one is killed. The rule applies if the manifest
    declares a role as `shared`.
    """
    if not any(ctx.target.shared(role) for role in DATA):
        raise NotApplicableError("the manifest declares no `shared`")
    async with _with_work(ctx) as work:
        begun = ctx.now()
        first = await ctx.agent()
        await work.unchanged("another process opened the URL")
        await work.begin_delays(max(DELAY, LIVES * (ctx.now() - begun)))
        second = await ctx.agent()
        await gather(*(_use_elsewhere(ctx, agent) for agent in (first, second)))
        await gather(first.end(), second.kill())
        await work.unchanged("one process closed its backend, and another one was killed")
        await work.end()


@rule("BACKEND-BESIDE-03", pair=True, limit=LONG)
async def leaves_messages(ctx: Context) -> None:
    """When a backend is closed, its messages stay: ready, leased, delayed and dead-lettered ones.

    Why: Messages belong to the topic. A client puts a message and ends. A worker that stops leaves delayed messages.

    Test: A backend puts messages with and without a delay, releases one with a delay, holds one, dead-letters one, and
    is closed. Another backend gets the ready one immediately, and the delayed ones when they are due. It gets the
    leased one at the latest when its lease has expired, and sees the dead letter.
    """
    if not ctx.target.offers("queue"):
        raise NotApplicableError("the manifest offers no queue")
    queue, topic, later = await ctx.queue(short_lease=True), ctx.topic(), ctx.topic()
    async with ctx.target.backend(short_lease=True) as other:
        await other.queue.put(topic, [b"one", b"two", b"three"])
        dead, _ = await ctx.take_all(other.queue, topic, 2)
        await other.queue.bury(dead, REASON)
        if declares(ctx.target.manifest, "queue.delay"):
            await leave_delayed(ctx, other.queue, later, DELAY)
    left = await ctx.take_all(queue, topic, 2, within=queue.lease + ctx.grace, ack=True)
    same_bodies([dead.body, *(each.body for each in left)], [b"one", b"two", b"three"], "the messages left by another")
    letters = await queue.dead(topic, limit=10)
    equal([(each.body, each.reason) for each in letters], [(dead.body, REASON)], "the dead letters left by another")
    if declares(ctx.target.manifest, "queue.delay"):
        await delays_end(ctx, queue, later, DELAY)
