"""Rules QUEUE-CANCEL: a cancelled operation loses nothing and does not affect others."""

from asyncio import TaskGroup, create_task, gather, sleep
from functools import partial
from itertools import product

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import check, equal, same_bodies
from brrr_contract_kit.testbed.context import CANCELLED, Context
from brrr_core.backend import Queue


async def _come_back(ctx: Context, queue: Queue, topics: list[str], what: str) -> None:
    """Check that each topic delivers its one message, at the latest when a lease has expired."""
    for topic in topics:
        found = await ctx.take(queue, topic, wait=queue.lease + ctx.grace)
        equal([each.body for each in found], [b"kept"], f"the messages after {what}")
        await queue.ack(found)


@rule("QUEUE-CANCEL-01", limit=LONG)
async def receive_ready(ctx: Context) -> None:
    """Cancelling a receive while it takes a message loses nothing, at any await.

    Why: A worker that stops cancels its receives. Messages that they had taken but not yet returned must not get lost.

    Test: Receives of a ready message are cancelled after 0, 1, 2 … turns of the loop, up to the turns of a complete
    receive. A message that was not returned must be delivered again, at the latest when its lease has expired.
    """
    queue = await ctx.queue(short_lease=True)

    async def prepared() -> str:
        topic = ctx.topic()
        await queue.put(topic, [b"kept"])
        return topic

    turns = await ctx.turns_of(partial(ctx.take, queue, await prepared(), wait=1))
    pending: list[str] = []
    for point in ctx.points(turns):
        topic = await prepared()
        ended = await ctx.cancelled(partial(ctx.take, queue, topic, wait=1), point)
        if ended.result is CANCELLED:
            pending.append(topic)
    await _come_back(ctx, queue, pending, "a cancelled receive")


@rule("QUEUE-CANCEL-02", limit=LONG)
async def receive_waiting(ctx: Context) -> None:
    """Cancelling a waiting receive just as a message arrives loses nothing.

    Why: The receive may already have the message when the cancellation reaches it.

    Test: A receive waits on an empty topic. A message is put, and the receive is cancelled 0, 1, 2 … turns later. If
    the receive did not return the message, another must get it.
    """
    queue = await ctx.queue(short_lease=True)
    pending: list[str] = []
    for point in (*range(12), 20, 50, 200):
        topic = ctx.topic()
        receiving = create_task(ctx.take(queue, topic, wait=600))
        await sleep(0)
        await queue.put(topic, [b"kept"])
        if (await ctx.cancel(receiving, point)).result is CANCELLED:
            pending.append(topic)
    await _come_back(ctx, queue, pending, "a cancelled waiting receive")


@rule("QUEUE-CANCEL-03", limit=LONG)
async def wake_up_kept(ctx: Context) -> None:
    """If a cancelled receive has been woken, it passes the wake-up on: another waiting receive gets the message.

    Why: Otherwise a ready message waits while a worker is idle.

    Test: Two receives wait. One message is put, and the first receive is cancelled 0, 1, 2 … turns later. If the first
    did not return the message, the second must, within a lease and the grace.
    """
    queue = await ctx.queue(short_lease=True)
    for point in (0, 1, 2, 3, 5, 8, 20, 100):
        topic = ctx.topic()
        first = create_task(ctx.take(queue, topic, wait=600))
        await sleep(0.01)  # usually enough to be first in line
        async with TaskGroup() as tasks:
            second = tasks.create_task(ctx.take(queue, topic, wait=600))
            await sleep(0.01)  # usually enough to be second
            await queue.put(topic, [b"kept"])
            if (await ctx.cancel(first, point)).result is not CANCELLED:
                second.cancel()
                continue
            async with ctx.within(queue.lease + ctx.grace, "the message reaches the receiver that still waits"):
                found = await second
        equal([each.body for each in found], [b"kept"], "the messages of the receive that still waits")
        await queue.ack(found)


@rule("QUEUE-CANCEL-04")
async def put_cancelled(ctx: Context) -> None:
    """A cancelled put has put all its messages or none of them, and the queue still works.

    Why: The caller may repeat a cancelled put. A duplicate message is harmless; half a message is not.

    Test: Puts are cancelled after 0, 1, 2 … turns. Each topic then delivers its message at most once, and accepts
    another.
    """
    queue = await ctx.queue()
    turns = await ctx.turns_of(partial(queue.put, ctx.topic(), [b"kept"]))
    topics = [ctx.topic() for _ in ctx.points(turns)]
    for topic, point in zip(topics, ctx.points(turns), strict=False):
        await ctx.cancelled(partial(queue.put, topic, [b"kept"]), point)
    for topic in topics:
        async with ctx.within(ctx.grace, "a put after a cancelled one"):
            await queue.put(topic, [b"after"])
        bodies: list[bytes] = []
        while b"after" not in bodies:
            found = await ctx.take(queue, topic, limit=10, wait=ctx.grace)
            check(bool(found), "a message that was put after a cancelled put did not arrive")
            bodies += [each.body for each in found]
        bodies += [each.body for each in await ctx.take(queue, topic, limit=10)]
        check(
            sorted(bodies) in ([b"after"], [b"after", b"kept"]),
            f"the topic delivers {bodies!r} after a cancelled put of b'kept' and a put of b'after'",
        )


@rule("QUEUE-CANCEL-05")
async def settling_cancelled(ctx: Context) -> None:
    """A cancelled acknowledgement or release can be repeated, and then takes effect.

    Why: If a worker is stopped while it settles, it settles the remaining deliveries during its shutdown.

    Test: Acknowledgements and releases are cancelled after 0, 1, 2 … turns and repeated. No acknowledged message is
    delivered again, and every released message is.
    """
    queue = await ctx.queue()
    topic = ctx.topic()
    await queue.put(topic, [b"measured", b"measured"])
    first, second = await ctx.take_all(queue, topic, 2)
    turns = await ctx.turns_of(partial(queue.ack, [first]))
    for point in ctx.points(turns):
        acked, released = ctx.topic(), ctx.topic()
        async with ctx.within(ctx.grace, "puts after a cancelled operation"):
            await queue.put(acked, [b"kept"])
            await queue.put(released, [b"kept"])
        mine, theirs = await ctx.take_one(queue, acked), await ctx.take_one(queue, released)
        await ctx.cancelled(partial(queue.ack, [mine]), point)
        await queue.ack([mine])
        await ctx.none_left(queue, acked, "an acknowledgement was cancelled and repeated")
        await ctx.cancelled(partial(queue.release, [theirs]), point)
        await queue.release([theirs])
        equal((await ctx.take_one(queue, released)).body, b"kept", "the body of the released message")
    await queue.ack([second])


@rule("QUEUE-CANCEL-06")
async def neighbours_unharmed(ctx: Context) -> None:
    """Cancelling one operation does not affect concurrent operations.

    Why: The calls of one process share a backend, and often one batch, and one of them may be cancelled.

    Test: Eight puts run concurrently. The first, a middle one or the last is cancelled after 0, 1, 2 … turns. The
    others return, and their messages are delivered.
    """
    queue = await ctx.queue()
    for place, point in product((0, 3, 7), (0, 1, 2, 3, 5, 8, 20, 50)):
        topic, other = ctx.topic(), ctx.topic()
        bodies = [b"%d" % number for number in range(7)]
        puts = [(topic, body) for body in bodies]
        puts.insert(place, (other, b"cancelled"))  # the first of a batch may be the one that sends the batch
        async with ctx.within(2 * ctx.grace, "puts return while another one is cancelled"):
            others = [create_task(queue.put(name, [body])) for name, body in puts]
            await ctx.cancel(others.pop(place), point)
            await gather(*others)
        found = await ctx.take_all(queue, topic, len(bodies))
        same_bodies([each.body for each in found], bodies, "the messages put while another put is cancelled")
