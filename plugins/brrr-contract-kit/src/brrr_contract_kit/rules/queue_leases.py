"""Rules QUEUE-LEASE: a lease hides a message until it expires."""

from math import isfinite
from typing import Final

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import broken, check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Delivery, Queue

EARLY: Final = 0.9
"""The part of a lease that must have passed. It is below 1 because servers' clocks are coarse."""


async def _leased(ctx: Context, queue: Queue, topic: str, body: bytes) -> tuple[Delivery, float]:
    """Return a leased message and a time before its lease began."""
    await queue.put(topic, [body])
    begun = ctx.now()
    return await ctx.take_one(queue, topic), begun


@rule("QUEUE-LEASE-01")
async def hidden(ctx: Context) -> None:
    """A leased message is hidden from every receive.

    Why: Otherwise two workers would run one call at the same time.

    Test: One of two messages is received. The next receive returns only the other message, and the one after that
    returns none.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"one", b"two"])
    first, second = await ctx.take_one(queue, topic), await ctx.take_one(queue, topic)
    check(first.body != second.body, "the same message was delivered twice under one lease")
    await ctx.none_left(queue, topic, "both messages are leased")


@rule("QUEUE-LEASE-02", limit=LONG)
async def runs_out(ctx: Context) -> None:
    """When a lease expires, its message becomes ready again as the next attempt: not earlier, and not much later.

    Why: This is how another worker takes over the work of a dead worker.

    Test: A message is received and not settled. It must be delivered again, between the end of the lease and the end of
    the grace.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    first, begun = await _leased(ctx, queue, topic, b"left alone")
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    took = ctx.now() - begun
    check(took >= EARLY * queue.lease, f"a lease of {queue.lease:g} s expired after {took:.3f} s")
    equal((again.body, again.attempt), (first.body, 2), "body and attempt of the redelivered message")


@rule("QUEUE-LEASE-03", limit=LONG)
async def extended(ctx: Context) -> None:
    """Extending restarts a lease: a message that is extended in time stays hidden far beyond its first lease.

    Why: A handler may run for hours. The engine extends its lease after each third of it.

    Test: A message is extended after each third of the lease until two leases have passed. In this time, it is never
    delivered again.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    delivery, begun = await _leased(ctx, queue, topic, b"long work")
    held = begun
    while held < begun + 2 * queue.lease:
        found = await ctx.take(queue, topic, wait=queue.lease / 3)
        ctx.in_time(queue, held)
        now = ctx.now()
        check(not found, f"an extended message was redelivered {now - begun:.3f} s after it was leased")
        await queue.extend([delivery])
        ctx.in_time(queue, held)
        held = now
    await queue.ack([delivery])
    ctx.in_time(queue, held)
    await ctx.none_left(queue, topic, "the message was extended and acknowledged in time")


@rule("QUEUE-LEASE-04", limit=LONG)
async def extension_ends(ctx: Context) -> None:
    """An extended lease also expires, one lease after it was extended.

    Why: If a worker dies after it has extended, its messages must become ready again.

    Test: A message is extended once and not settled. It is delivered again one lease later, within the grace.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    delivery, begun = await _leased(ctx, queue, topic, b"extended once")
    found = await ctx.take(queue, topic, wait=queue.lease / 3)
    extended_at = ctx.now()
    await queue.extend([delivery])
    ctx.in_time(queue, begun)
    check(not found, "a leased message was delivered again")
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    took = ctx.now() - extended_at
    check(took >= EARLY * queue.lease, f"a lease of {queue.lease:g} s expired {took:.3f} s after it was extended")
    equal((again.body, again.attempt), (delivery.body, 2), "body and attempt of the redelivered message")


@rule("QUEUE-LEASE-05", limit=LONG)
async def extended_alone(ctx: Context) -> None:
    """Extending one delivery does not extend the leases of others.

    Why: A worker with many deliveries must not keep a forgotten one hidden.

    Test: Two messages are received and one is extended. The other is still delivered again when its own lease expires.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    kept, begun = await _leased(ctx, queue, topic, b"kept")
    await _leased(ctx, queue, topic, b"forgotten")
    held = begun
    while ctx.now() < begun + queue.lease + ctx.grace:
        found = await ctx.take(queue, topic, wait=queue.lease / 3)
        now = ctx.now()
        await queue.extend([kept])
        ctx.in_time(queue, held)
        held = now
        if found:
            equal([each.body for each in found], [b"forgotten"], "the messages delivered while the other was extended")
            return
    broken("a message was not redelivered: extending another one keeps it hidden")


@rule("QUEUE-LEASE-06")
async def lease_reported(ctx: Context) -> None:
    """`queue.lease` is the lease in seconds, positive and finite, and equals the option `lease` if the backend has one.

    Why: The engine extends its deliveries at every third of the lease.

    Test: The attribute is read with the option and without it.
    """
    leases: list[object] = [(await ctx.queue(short_lease=short)).lease for short in (False, True)]
    for lease in leases:
        positive = isinstance(lease, int | float) and isfinite(lease) and lease > 0
        check(positive, f"`lease`: expected a positive number of seconds, got {lease!r}")
    if ctx.target.takes_lease:
        check(
            leases[1] == ctx.target.lease,
            f"`lease`: expected {ctx.target.lease:g} s of the option, got {leases[1]!r}",
        )


@rule("QUEUE-LEASE-07", limit=LONG)
async def expiry_wakes(ctx: Context) -> None:
    """A waiting receive gets a message whose lease expires during the wait.

    Why: When one of two workers dies, the other waits on a topic that looks empty.

    Test: A message is leased. A receive that waits up to ten minutes must return it.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await _leased(ctx, queue, topic, b"left alone")
    async with ctx.within(queue.lease + ctx.grace, "a waiting receive gets a message whose lease expires"):
        found = await ctx.take(queue, topic, wait=600)
    equal([(each.body, each.attempt) for each in found], [(b"left alone", 2)], "the messages of the waiting receive")


@rule("QUEUE-LEASE-08", limit=LONG)
async def attempts_counted(ctx: Context) -> None:
    """`attempt` counts deliveries from 1, after releases and after expired leases.

    Why: The engine derives the backoff from it, and dead-letters messages that were attempted too often.

    Test: A message is released three times, and then its lease expires once. Its attempts are 1 to 5.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, [b"counted"])
    attempts: list[int] = []
    for _ in range(3):
        begun = ctx.now()
        delivery = await ctx.take_one(queue, topic)
        attempts.append(delivery.attempt)
        await queue.release([delivery])
        ctx.in_time(queue, begun)
    attempts.append((await ctx.take_one(queue, topic)).attempt)
    attempts.append((await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)).attempt)
    equal(attempts, [1, 2, 3, 4, 5], "the attempts of one message")
