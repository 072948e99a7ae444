"""Rules QUEUE-BATCH: batches of none, one and a thousand, limits, and arguments out of range."""

from math import inf, nan

from brrr_core.backend import QueueStats
from brrr_core.contract.checks import check, equal, refused, same_bodies
from brrr_core.contract.context import Context, raised
from brrr_core.contract.registry import rule
from brrr_core.errors import ArgumentError

MANY = 1000


def _bodies(count: int) -> list[bytes]:
    return [b"message %d" % number for number in range(count)]


@rule("QUEUE-BATCH-01")
async def empty_batches(ctx: Context) -> None:
    """An empty batch does nothing, and is no error.

    Why: The engine hands over what it has gathered, and that may be nothing.

    Test: Empty batches are put, acked, released and extended; the topic stays empty.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [])
    await queue.ack([])
    await queue.release([])
    await queue.extend([])
    await ctx.none_left(queue, topic, "only empty batches were put")
    equal(await queue.stats(topic), QueueStats(0, 0, 0, 0), "the statistics of a topic without messages")


@rule("QUEUE-BATCH-02")
async def large_put(ctx: Context) -> None:
    """A batch of 1,000 messages is put whole, and received in as many receives as it takes.

    Why: A gather of a thousand calls is one put.

    Test: 1,000 different bodies are put at once and received; each comes once.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(MANY))
    deliveries = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    same_bodies([each.body for each in deliveries], _bodies(MANY), "the messages of a batch of 1,000")


@rule("QUEUE-BATCH-03")
async def limit_kept(ctx: Context) -> None:
    """A receive gives at most `limit` messages, and does not wait to fill it.

    Why: The limit is a worker's free capacity; what it cannot run it would only keep from others.

    Test: Of ten messages, limits of 1 and 3 give no more; then a limit of 1,000 gives what is there without waiting.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(10))
    seen = 0
    for limit in (1, 3):
        found = await ctx.take(queue, topic, limit=limit, wait=ctx.grace)
        check(1 <= len(found) <= limit, f"a receive with limit {limit} gave {len(found)} messages")
        seen += len(found)
    async with ctx.within(ctx.grace, "a receive with limit 1,000 while a few messages are ready"):
        found = await ctx.take(queue, topic, limit=MANY, wait=10 * ctx.grace)
    check(bool(found), "a receive with limit 1,000 gave nothing while messages were ready")
    await ctx.take_all(queue, topic, 10 - seen - len(found))


@rule("QUEUE-BATCH-04")
async def large_settling(ctx: Context) -> None:
    """1,000 deliveries are extended, released and acked in one batch each.

    Why: A worker that stops releases all that it holds at once.

    Test: 1,000 messages are received, extended and released; all come again, are acked, and none is left.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(MANY))
    first = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    await queue.extend(first)
    await queue.release(first)
    second = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    same_bodies([each.body for each in second], _bodies(MANY), "1,000 released messages")
    await queue.ack(second)
    await ctx.none_left(queue, topic, "1,000 messages were acked")


@rule("QUEUE-BATCH-05")
async def stale_among_good(ctx: Context) -> None:
    """A stale receipt in a batch does not keep the others from being settled.

    Why: Of what a worker acks together, one lease may have run out.

    Test: Acked deliveries stand between good ones in batches of ack and of release.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(5))
    first, second, third, fourth, fifth = await ctx.take_all(queue, topic, 5)
    await queue.ack([second, fourth])
    await queue.ack([second, first, fourth, third])
    await queue.release([first, third])  # they were acked: nothing is left to be given back
    await queue.release([fourth, fifth, second])
    again = await ctx.take_all(queue, topic, 1)
    equal([each.body for each in again], [fifth.body], "what was released between stale receipts")
    await ctx.none_left(queue, topic, "the others were acked")


@rule("QUEUE-BATCH-06")
async def arguments_checked(ctx: Context) -> None:
    """A limit under 1, a wait that is negative or NaN, and a delay that is negative, infinite or NaN are refused.

    Why: A mistake is told where it is made; a limit of 0 would otherwise be a worker that never gets anything.

    Test: Each is asked for, and must raise `ArgumentError`; then the topic is empty.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    for limit in (0, -1):
        refused(await raised(queue.receive(topic, limit=limit, wait=0)), ArgumentError, f"receive with limit {limit}")
        refused(await raised(queue.dead(topic, limit=limit)), ArgumentError, f"dead with limit {limit}")
        refused(await raised(queue.redrive(topic, limit=limit)), ArgumentError, f"redrive with limit {limit}")
        refused(await raised(queue.drop(topic, limit=limit)), ArgumentError, f"drop with limit {limit}")
    for wait in (-1.0, nan):
        refused(await raised(queue.receive(topic, limit=1, wait=wait)), ArgumentError, f"receive with wait {wait}")
    for delay in (-1.0, nan, inf):
        refused(await raised(queue.put(topic, [b"x"], delay=delay)), ArgumentError, f"put with delay {delay}")
        refused(await raised(queue.release([], delay=delay)), ArgumentError, f"release with delay {delay}")
    await ctx.none_left(queue, topic, "every put was refused")
