"""Rules QUEUE-DELAY: delayed messages, and queues that refuse delays."""

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal, refused
from brrr_contract_kit.testbed.context import Context, raised
from brrr_core.errors import CapabilityError

DELAY = 1.0
EARLY = 0.9


@rule("QUEUE-DELAY-01", needs="queue.delay")
async def put_later(ctx: Context) -> None:
    """A message that is put with a delay becomes ready when the delay is over: not earlier, and not much later.

    Why: If the engine cannot do some work yet, it delays the message and looks again later.

    Test: A message with a delay of one second and one without are put. A receive returns the message without a delay. A
    waiting receive returns the other one after a second.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    begun = ctx.now()
    await queue.put(topic, [b"later"], delay=DELAY)
    await queue.put(topic, [b"now"])
    first = await ctx.take_one(queue, topic)
    equal(first.body, b"now", "the body of the first delivery")
    async with ctx.within(DELAY + ctx.grace, "a waiting receive gets a message whose delay is over"):
        (second,) = await ctx.take(queue, topic, wait=600)
    took = ctx.now() - begun
    check(took >= EARLY * DELAY, f"a message with a delay of {DELAY:g} s was delivered after {took:.3f} s")
    equal((second.body, second.attempt), (b"later", 1), "body and attempt of the delayed message")


@rule("QUEUE-DELAY-02", needs="queue.delay")
async def release_later(ctx: Context) -> None:
    """A message that is released with a delay becomes ready when the delay is over, as the next attempt.

    Why: The backoff after a failure is a release with a delay.

    Test: A message is released with a delay of one second. It is delivered after that second, within the grace.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"failed"])
    delivery = await ctx.take_one(queue, topic)
    begun = ctx.now()
    await queue.release([delivery], delay=DELAY)
    again = await ctx.take_one(queue, topic, within=DELAY + ctx.grace)
    took = ctx.now() - begun
    check(took >= EARLY * DELAY, f"a message released with a delay of {DELAY:g} s was delivered after {took:.3f} s")
    equal((again.body, again.attempt), (b"failed", 2), "body and attempt of the released message")


@rule("QUEUE-DELAY-03", needs="queue.delay")
async def delay_beyond_lease(ctx: Context) -> None:
    """A delay may be longer than the lease, and is not shortened to it.

    Why: After many failures, the backoff of a call is longer than any lease.

    Test: A message is released with a delay of twice a short lease. It is not delivered earlier.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    delay = 2 * min(queue.lease, DELAY)
    await queue.put(topic, [b"failed"])
    received = ctx.now()
    delivery = await ctx.take_one(queue, topic)
    begun = ctx.now()
    await queue.release([delivery], delay=delay)
    ctx.in_time(queue, received)
    await ctx.take_one(queue, topic, within=delay + ctx.grace)
    took = ctx.now() - begun
    check(took >= EARLY * delay, f"a message released with a delay of {delay:g} s was delivered after {took:.3f} s")


@rule("QUEUE-DELAY-04", unless="queue.delay")
async def delay_refused(ctx: Context) -> None:
    """A queue that does not declare `delay` refuses a positive delay with `CapabilityError`, and does nothing.

    Why: If a delay is ignored, a backoff becomes a busy loop.

    Test: A put and a release with a delay are refused: no message is put, and the message stays leased. A delay of 0
    means no delay, and works.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    refused(await raised(queue.put(topic, [b"later"], delay=DELAY)), CapabilityError, "put with a delay")
    await ctx.none_left(queue, topic, "the put was refused")
    await queue.put(topic, [b"now"], delay=0)
    delivery = await ctx.take_one(queue, topic)
    refused(await raised(queue.release([delivery], delay=DELAY)), CapabilityError, "release with a delay")
    await ctx.none_left(queue, topic, "the release was refused, so the message is leased")
    await queue.release([delivery], delay=0)
    await ctx.take_one(queue, topic)
