"""Rules on many receivers that wait at the same time."""

from asyncio import TaskGroup, gather, sleep
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.stepped import stepped_backend
from brrr_core.backend import Backend, Step

CROWD: Final = 64
TOPICS: Final = 16
CLIENTS: Final = 8


async def _use(ctx: Context, backend: Backend, topic: str) -> None:
    """Use every role of the backend."""
    queue = backend.queue
    await queue.put(topic, [b"beside"])
    delivery = await ctx.take_one(queue, topic)
    await queue.extend([delivery])
    await queue.stats(topic)
    await queue.release([delivery])
    await queue.ack([await ctx.take_one(queue, topic)])
    if backend.roles.store is not None:
        key = ctx.key()
        await backend.store.write([(key, b"beside")])
        equal(await backend.store.read([key]), [b"beside"], "a record that was just written")
    if backend.roles.cache is not None:
        counter = ctx.counter()
        equal(await backend.cache.increment({counter: 1}), {counter: 1}, "a new counter")


@rule("QUEUE-WAIT-06")
async def crowd_waits(ctx: Context) -> None:
    """While 64 receives wait, all other operations of the backend still work, and each receive gets its message.

    Why: A worker waits on many topics, and handlers that use the queue wait too. If each wait took a connection of a
    pool, the acknowledgement of the next call would wait for one forever.

    Test: 64 receives wait on sixteen topics for up to ten minutes. Eight clients at the same time put, receive, extend,
    release, acknowledge, count, read and write, all within the grace. Then each receive gets a message.
    """
    backend = await ctx.backend()
    queue, topics = backend.queue, [ctx.topic() for _ in range(TOPICS)]
    async with TaskGroup() as tasks:
        waiting = [tasks.create_task(ctx.take(queue, topic, wait=600)) for topic in topics * (CROWD // TOPICS)]
        await sleep(0.1)  # usually enough to be waiting; the result is the same if not
        async with ctx.within(2 * ctx.grace, f"operations while {CROWD} receives wait"):
            await gather(*(_use(ctx, backend, ctx.topic()) for _ in range(CLIENTS)))
        check(not any(task.done() for task in waiting), "a receive on an empty topic returned early")
        async with ctx.within(2 * ctx.grace, f"{CROWD} waiting receives return when their messages are put"):
            await gather(*(queue.put(topic, [topic.encode()] * (CROWD // TOPICS)) for topic in topics))
            found = await gather(*waiting)
    bodies = [[each.body for each in each_found] for each_found in found]
    equal(
        bodies, [[topic.encode()] for topic in topics * (CROWD // TOPICS)], f"the messages of {CROWD} waiting receives"
    )


@rule("STEPS-RECEIVE-06")
async def crowd_waits_by_steps(ctx: Context) -> None:
    """While 64 receives of steps wait, all other operations of the backend still work, commits included.

    Why: Workers receive by steps.

    Test: As QUEUE-WAIT-06, where the receives are those of steps, and a commit acknowledges.
    """
    at, topics = await stepped_backend(ctx), [ctx.topic() for _ in range(TOPICS)]

    async def commit(topic: str) -> None:
        await at.queue.put(topic, [b"beside"])
        received = await at.one(topic)
        key = ctx.key()
        await at.applied(Step([(key, None)], writes=[(key, b"x")], acks=[received.delivery]))
        equal(await at.store.read([key]), [b"x"], "a record that was just written")

    async with TaskGroup() as tasks:
        waiting = [tasks.create_task(at.receive(topic, wait=600)) for topic in topics * (CROWD // TOPICS)]
        await sleep(0.1)  # usually enough to be waiting; the result is the same if not
        async with ctx.within(2 * ctx.grace, f"operations while {CROWD} receives wait"):
            await gather(*(commit(ctx.topic()) for _ in range(CLIENTS)))
        check(not any(task.done() for task in waiting), "a receive on an empty topic returned early")
        async with ctx.within(2 * ctx.grace, f"{CROWD} waiting receives return when their messages are put"):
            await gather(*(at.queue.put(topic, [topic.encode()] * (CROWD // TOPICS)) for topic in topics))
            found = await gather(*waiting)
    bodies = [[each.delivery.body for each in each_found] for each_found in found]
    equal(
        bodies, [[topic.encode()] for topic in topics * (CROWD // TOPICS)], f"the messages of {CROWD} waiting receives"
    )
