"""Rules QUEUE-ACK and QUEUE-RELEASE: only its own receipt settles a delivery, and only once."""

from asyncio import TaskGroup, sleep

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Delivery, Queue


async def _stale(ctx: Context, queue: Queue, topic: str) -> tuple[Delivery, Delivery]:
    """Return a released receipt, and the receipt of the message's new receiver."""
    await queue.put(topic, [b"handed on"])
    stale = await ctx.take_one(queue, topic)
    await queue.release([stale])
    return stale, await ctx.take_one(queue, topic)


async def _expired(ctx: Context, queue: Queue, topic: str) -> tuple[Delivery, Delivery]:
    """Return a receipt whose lease has expired, and the receipt of the message's new receiver."""
    await queue.put(topic, [b"taken over"])
    stale = await ctx.take_one(queue, topic)
    return stale, await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)


async def _still_held(ctx: Context, queue: Queue, topic: str, held: Delivery, what: str) -> None:
    """Check that the lease of `held` hides the message, and that `held` can release it."""
    await ctx.none_left(queue, topic, f"{what} must not make a message ready that another receiver has leased")
    await queue.release([held])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [held.body], f"the messages after {what}")
    await queue.ack(again)


@rule("QUEUE-ACK-01", limit=LONG)
async def final(ctx: Context) -> None:
    """An acknowledged message is never delivered again.

    Why: A finished call must stay finished.

    Test: Six messages are received together and five of them acknowledged. When the lease of the sixth expires, only
    that one is delivered again.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, [b"%d" % number for number in range(6)])
    begun = ctx.now()
    deliveries = await ctx.take_all(queue, topic, 6)
    await queue.ack(deliveries[:-1])
    ctx.in_time(queue, begun)
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    equal(again.body, deliveries[-1].body, "the body of the redelivered message")
    await ctx.none_left(queue, topic, "all others were acknowledged")


@rule("QUEUE-ACK-02")
async def idempotent(ctx: Context) -> None:
    """Acknowledging a message a second time, or after it was dead-lettered, does nothing.

    Why: If a worker receives the answer to its acknowledgement too late, it acknowledges again.

    Test: Two messages are acknowledged, one of them twice. A third is dead-lettered and then acknowledged; its dead
    letter stays.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"one", b"two", b"three"])
    one, two, three = await ctx.take_all(queue, topic, 3)
    await queue.ack([one])
    await queue.ack([one, two, two])
    await queue.bury(three, "kept")
    await queue.ack([three])
    equal(
        len(await queue.dead(topic, limit=10)),
        1,
        "the number of dead letters after acknowledging one",
    )
    await ctx.none_left(queue, topic, "every message was settled")


@rule("QUEUE-ACK-03", limit=LONG)
async def stale_after_lease(ctx: Context) -> None:
    """Acknowledging with a receipt whose lease has expired does not remove the message from its new receiver.

    Why: A worker that was paused for longer than its lease wakes up and acknowledges. Another worker runs the call by
    then, and may fail.

    Test: The lease of a message expires, and another receive takes the message. The first receipt is acknowledged and
    the second released. The message must be delivered again.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    stale, held = await _expired(ctx, queue, topic)
    await queue.extend([held])
    await queue.ack([stale])
    await queue.release([held])
    again = await ctx.take(queue, topic, wait=queue.lease + ctx.grace)
    equal([each.body for each in again], [held.body], "the messages after acknowledging with a stale receipt")


@rule("QUEUE-ACK-04")
async def stale_after_release(ctx: Context) -> None:
    """Acknowledging with a released receipt does not remove the message from its new receiver.

    Why: A worker that released a message no longer owns it.

    Test: A message is released and received again. Then the first receipt is acknowledged.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    stale, held = await _stale(ctx, queue, topic)
    await queue.ack([stale])
    await _still_held(ctx, queue, topic, held, "acknowledging with a stale receipt")


@rule("QUEUE-ACK-05")
async def stale_ready(ctx: Context) -> None:
    """Acknowledging with a released receipt does not remove the message while it is ready.

    Why: A released message must still be run.

    Test: A message is released and then acknowledged. It must be delivered again.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    await queue.ack([delivery])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [b"given back"], "the messages after a release and an acknowledgement")


@rule("QUEUE-RELEASE-01")
async def released(ctx: Context) -> None:
    """A released message is ready immediately, as the next attempt.

    Why: A worker that stops hands its work over without waiting for the lease to expire.

    Test: A message is received, released and received again.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    again = await ctx.take_one(queue, topic)
    equal((again.topic, again.body, again.attempt), (topic, b"given back", 2), "topic, body and attempt")


@rule("QUEUE-RELEASE-02")
async def release_wakes(ctx: Context) -> None:
    """A release wakes a waiting receive.

    Why: Otherwise a released call waits until the receive of an idle worker times out.

    Test: A receive waits up to ten minutes on a topic whose only message is leased. Then the message is released.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    async with ctx.within(ctx.grace, "a waiting receive returns when a message is released"), TaskGroup() as tasks:
        receiving = tasks.create_task(ctx.take(queue, topic, wait=600))
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        await queue.release([delivery])
    equal([each.body for each in receiving.result()], [b"given back"], "the messages of the waiting receive")


@rule("QUEUE-RELEASE-03")
async def stale_release(ctx: Context) -> None:
    """Releasing with a stale receipt neither takes the message from its new receiver nor adds a second message.

    Why: Otherwise two workers would run one call at the same time.

    Test: A message is released twice with one receipt; in between, another receive takes it. Afterwards no message is
    ready.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    stale, held = await _stale(ctx, queue, topic)
    await queue.release([stale])
    await _still_held(ctx, queue, topic, held, "releasing with a stale receipt")
    await ctx.none_left(queue, topic, "the only message was acknowledged")


@rule("QUEUE-RELEASE-04")
async def stale_extend(ctx: Context) -> None:
    """Extending with a stale receipt does nothing: it neither fails nor hides a released message.

    Why: A worker extends all deliveries that it held a moment ago, and may have settled one of them since.

    Test: A message is released and then extended with the same receipt. It must be delivered immediately. Extending an
    acknowledged message does not bring it back.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"given back"])
    delivery = await ctx.take_one(queue, topic)
    await queue.release([delivery])
    await queue.extend([delivery])
    again = await ctx.take(queue, topic, wait=ctx.grace)
    equal([each.body for each in again], [b"given back"], "the messages after a release and an extension")
    await queue.ack(again)
    await queue.extend(again)
    await ctx.none_left(queue, topic, "the message was acknowledged and then extended")


@rule("QUEUE-RELEASE-05")
async def release_after_ack(ctx: Context) -> None:
    """Releasing an acknowledged or dead-lettered message does not bring it back.

    Why: A worker that stops releases all its deliveries, and may have settled some of them just before.

    Test: One message is acknowledged and one dead-lettered; then both are released. No message is delivered, and the
    dead letter stays.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"acked", b"buried"])
    acked, buried = await ctx.take_all(queue, topic, 2)
    await queue.ack([acked])
    await queue.bury(buried, "kept")
    await queue.release([acked, buried])
    await ctx.none_left(queue, topic, "both messages were settled before they were released")
    check(len(await queue.dead(topic, limit=10)) == 1, "the dead letter is gone after releasing with a stale receipt")
