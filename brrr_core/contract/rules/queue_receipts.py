"""Rules QUEUE-ACK and QUEUE-RELEASE: settling a delivery, once and by its own receipt only."""

from asyncio import TaskGroup, sleep

from brrr_core.backend import Delivery, Queue
from brrr_core.contract.checks import check, equal
from brrr_core.contract.context import Context
from brrr_core.contract.registry import rule

LONG = 300.0


async def _stale(ctx: Context, queue: Queue, topic: str) -> tuple[Delivery, Delivery]:
    """A receipt that was settled by a release, and the receipt by which somebody else has the message now."""
    await queue.put(topic, [b"handed on"])
    stale = await ctx.take_one(queue, topic)
    await queue.release([stale])
    return stale, await ctx.take_one(queue, topic)


async def _run_out(ctx: Context, queue: Queue, topic: str) -> tuple[Delivery, Delivery]:
    """A receipt whose lease has run out, and the receipt by which somebody else has the message now."""
    await queue.put(topic, [b"taken over"])
    stale = await ctx.take_one(queue, topic)
    return stale, await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)


async def _still_held(ctx: Context, queue: Queue, topic: str, held: Delivery, what: str) -> None:
    """The message is hidden by the lease of `held`, and can be given back by it."""
    await ctx.none_left(queue, topic, f"a message is leased by another receiver, and {what} makes it ready")
    await queue.release([held])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [held.body], f"what is there after {what}")
    await queue.ack(again)


@rule("QUEUE-ACK-01", limit=LONG)
async def final(ctx: Context) -> None:
    """An acked message never comes again.

    Why: It is how a finished call stays finished.

    Test: Five of six messages that were received together are acked; when the sixth's lease has run out, it alone
    comes again.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, [b"%d" % number for number in range(6)])
    begun = ctx.now()
    deliveries = await ctx.take_all(queue, topic, 6)
    await queue.ack(deliveries[:-1])
    ctx.in_time(queue, begun)
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    equal(again.body, deliveries[-1].body, "the body of what comes again")
    await ctx.none_left(queue, topic, "all others were acked")


@rule("QUEUE-ACK-02")
async def idempotent(ctx: Context) -> None:
    """Acking a second time, and acking what was buried, does nothing.

    Why: A worker whose ack was answered too late acks again.

    Test: Two messages are acked, one of them twice, and a third is buried and acked; the dead letter stays.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"one", b"two", b"three"])
    one, two, three = await ctx.take_all(queue, topic, 3)
    await queue.ack([one])
    await queue.ack([one, two, two])
    await queue.bury(three, "kept")
    await queue.ack([three])
    equal(len(await queue.dead(topic, limit=10)), 1, "how many dead letters are left by an ack of a buried message")
    await ctx.none_left(queue, topic, "every message was settled")


@rule("QUEUE-ACK-03", limit=LONG)
async def stale_after_lease(ctx: Context) -> None:
    """An ack by a receipt whose lease has run out does not remove the message from who has it now.

    Why: A worker that was paused for longer than its lease wakes up and acks; another runs the call, and may fail.

    Test: A message's lease runs out, another receive takes it, the first receipt is acked, the second released: the
    message must come again.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    stale, held = await _run_out(ctx, queue, topic)
    await queue.extend([held])
    await queue.ack([stale])
    await queue.release([held])
    again = await ctx.take(queue, topic, wait=queue.lease + ctx.grace)
    equal([each.body for each in again], [held.body], "what is there after an ack by a stale receipt")


@rule("QUEUE-ACK-04")
async def stale_after_release(ctx: Context) -> None:
    """An ack by a receipt that was released does not remove the message from who has it now.

    Why: A worker that gave a message back has no say in it any more.

    Test: A message is released, and received again; the first receipt is acked.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    stale, held = await _stale(ctx, queue, topic)
    await queue.ack([stale])
    await _still_held(ctx, queue, topic, held, "an ack by a stale receipt")


@rule("QUEUE-ACK-05")
async def stale_ready(ctx: Context) -> None:
    """An ack by a receipt that was released does not remove the message while nobody has it.

    Why: What was released is to be run by somebody.

    Test: A message is released and then acked; it must come.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    await queue.ack([delivery])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [b"given back"], "what is there after a release and an ack")


@rule("QUEUE-RELEASE-01")
async def released(ctx: Context) -> None:
    """A released message is ready at once, as the next attempt.

    Why: A worker that stops hands its work over without waiting for the lease.

    Test: A message is received, released and received.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    again = await ctx.take_one(queue, topic)
    equal((again.topic, again.body, again.attempt), (topic, b"given back", 2), "topic, body and attempt")


@rule("QUEUE-RELEASE-02")
async def release_wakes(ctx: Context) -> None:
    """A release wakes a receive that waits.

    Why: Otherwise a handed-over call waits as long as the receiver would have.

    Test: A receive waits for ten minutes on a topic whose only message is leased; the message is released.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    async with ctx.within(ctx.grace, "a waiting receive returns when a message is released"), TaskGroup() as tasks:
        receiving = tasks.create_task(ctx.take(queue, topic, wait=600))
        await sleep(0.05)  # whether it waits by now makes no difference to what must come
        await queue.release([delivery])
    equal([each.body for each in receiving.result()], [b"given back"], "what the waiting receive gave")


@rule("QUEUE-RELEASE-03")
async def stale_release(ctx: Context) -> None:
    """A release by a stale receipt does not take the message from who has it now, nor add a second one.

    Why: Two workers would run one call at once.

    Test: A message is released twice by one receipt, with another receive between; then nothing is ready.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    stale, held = await _stale(ctx, queue, topic)
    await queue.release([stale])
    await _still_held(ctx, queue, topic, held, "a release by a stale receipt")
    await ctx.none_left(queue, topic, "one message was put, and it was acked")


@rule("QUEUE-RELEASE-04")
async def stale_extend(ctx: Context) -> None:
    """An extend by a stale receipt does nothing: it neither fails nor hides a message that was given back.

    Why: A worker extends all that it held a moment ago; one of them may be settled by now.

    Test: A message is released and then extended by the same receipt; it must come at once. After an ack, an extend
    does not bring it back.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    await queue.extend([delivery])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [b"given back"], "what is there after a release and an extend")
    await queue.ack(again)
    await queue.extend(again)
    await ctx.none_left(queue, topic, "the message was acked, and then extended")


@rule("QUEUE-RELEASE-05")
async def release_after_ack(ctx: Context) -> None:
    """A release of what was acked or buried does not bring it back.

    Why: A worker that stops releases all that it holds, and some of it may have been settled the moment before.

    Test: One message is acked, one is buried, both are released; nothing comes, and the dead letter is there.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"acked", b"buried"])
    acked, buried = await ctx.take_all(queue, topic, 2)
    await queue.ack([acked])
    await queue.bury(buried, "kept")
    await queue.release([acked, buried])
    await ctx.none_left(queue, topic, "both messages were settled before they were released")
    check(len(await queue.dead(topic, limit=10)) == 1, "the dead letter is gone after a release by a stale receipt")
