"""Rules QUEUE-BATCH: empty and large batches, limits, and arguments out of range."""

from math import inf, nan

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import Context, raised
from brrr_core.backend import QueueStats
from brrr_core.errors import ArgumentError

MANY = 1000


def _bodies(count: int) -> list[bytes]:
    return [b"message %d" % number for number in range(count)]


@rule("QUEUE-BATCH-01")
async def empty_batches(ctx: Context) -> None:
    """An empty batch does nothing and raises no error.

    Why: The engine passes on the operations that it has collected, and sometimes there are none.

    Test: Empty batches are put, acknowledged, released and extended. The topic stays empty.
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
    """A batch of 1,000 messages is put completely. Several receives may be needed to get all of them.

    Why: A gather of a thousand calls is one put.

    Test: 1,000 different bodies are put in one batch and received. Each is delivered once.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(MANY))
    deliveries = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    same_bodies([each.body for each in deliveries], _bodies(MANY), "the messages of a batch of 1,000")


@rule("QUEUE-BATCH-03")
async def limit_kept(ctx: Context) -> None:
    """A receive returns at most `limit` messages, and does not wait until it has that many.

    Why: The limit is the free capacity of a worker. Surplus messages would only be hidden from other workers.

    Test: Ten messages are put. Receives with limits of 1 and 3 return no more than that. A receive with a limit of
    1,000 then returns ready messages without waiting.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(10))
    seen = 0
    for limit in (1, 3):
        found = await ctx.take(queue, topic, limit=limit, wait=ctx.grace)
        check(1 <= len(found) <= limit, f"a receive with limit {limit} returned {len(found)} messages")
        seen += len(found)
    async with ctx.within(ctx.grace, "a receive with limit 1,000 while a few messages are ready"):
        found = await ctx.take(queue, topic, limit=MANY, wait=10 * ctx.grace)
    check(bool(found), "a receive with limit 1,000 returned no message while some were ready")
    await ctx.take_all(queue, topic, 10 - seen - len(found))


@rule("QUEUE-BATCH-04")
async def large_settling(ctx: Context) -> None:
    """1,000 deliveries can be extended, released or acknowledged in one batch.

    Why: A worker that stops releases all its deliveries together.

    Test: 1,000 messages are received, extended and released. All are delivered again and acknowledged, and none is
    left.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(MANY))
    first = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    await queue.extend(first)
    await queue.release(first)
    second = await ctx.take_all(queue, topic, MANY, within=4 * ctx.grace)
    same_bodies([each.body for each in second], _bodies(MANY), "1,000 released messages")
    await queue.ack(second)
    await ctx.none_left(queue, topic, "1,000 messages were acknowledged")


@rule("QUEUE-BATCH-05")
async def stale_among_good(ctx: Context) -> None:
    """A stale receipt in a batch does not prevent the other deliveries from being settled.

    Why: When a worker acknowledges several deliveries, the lease of one may have expired.

    Test: Batches of acknowledgements and releases mix acknowledged deliveries with valid ones.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, _bodies(5))
    first, second, third, fourth, fifth = await ctx.take_all(queue, topic, 5)
    await queue.ack([second, fourth])
    await queue.ack([second, first, fourth, third])
    await queue.release([first, third])  # these were acknowledged, so they have no effect
    await queue.release([fourth, fifth, second])
    again = await ctx.take_all(queue, topic, 1)
    equal([each.body for each in again], [fifth.body], "the messages released between stale receipts")
    await ctx.none_left(queue, topic, "the others were acknowledged")


@rule("QUEUE-BATCH-06")
async def arguments_checked(ctx: Context) -> None:
    """A limit below 1, a negative or NaN wait, and a negative, infinite or NaN delay are refused.

    Why: A mistake must be reported where it is made. With a limit of 0, a worker would never receive a message.

    Test: Each of these arguments must raise `ArgumentError`. Afterwards the topic is empty.
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
