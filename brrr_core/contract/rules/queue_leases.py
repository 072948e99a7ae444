"""Rules QUEUE-LEASE: a delivery is hidden while its lease lasts, and comes back when it has run out."""

from math import isfinite
from typing import Final

from brrr_core.backend import Delivery, Queue
from brrr_core.contract.checks import broken, check, equal
from brrr_core.contract.context import Context
from brrr_core.contract.registry import rule

LONG: Final = 300.0
"""A limit for rules that wait for leases: of a backend whose lease cannot be set, its own."""

EARLY: Final = 0.9
"""The part of a lease that must have passed: clocks of servers tick in milliseconds or more."""


async def _leased(ctx: Context, queue: Queue, topic: str, body: bytes) -> tuple[Delivery, float]:
    """A leased message, and a time before its lease began."""
    await queue.put(topic, [body])
    begun = ctx.now()
    return await ctx.take_one(queue, topic), begun


@rule("QUEUE-LEASE-01")
async def hidden(ctx: Context) -> None:
    """A leased message is hidden from every receive.

    Why: Two workers would otherwise run one call at the same time.

    Test: One of two messages is received; then only the other comes, and then nothing.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"one", b"two"])
    first, second = await ctx.take_one(queue, topic), await ctx.take_one(queue, topic)
    check(first.body != second.body, "the same message was delivered twice under one lease")
    await ctx.none_left(queue, topic, "both messages are leased")


@rule("QUEUE-LEASE-02", limit=LONG)
async def runs_out(ctx: Context) -> None:
    """A lease that runs out makes its message ready again, as the next attempt: not before, and not long after.

    Why: That is how the work of a dead worker is found again.

    Test: A message is received and left alone; it must come again, between the lease and the lease plus grace.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    first, begun = await _leased(ctx, queue, topic, b"left alone")
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    took = ctx.now() - begun
    check(took >= EARLY * queue.lease, f"a lease of {queue.lease:g} s ran out after {took:.3f} s")
    equal((again.body, again.attempt), (first.body, 2), "body and attempt of what came again")


@rule("QUEUE-LEASE-03", limit=LONG)
async def extended(ctx: Context) -> None:
    """Extending starts a lease anew: extended in time, a message stays hidden far beyond its first lease.

    Why: A handler may run for hours; the engine extends at a third of the lease.

    Test: A message is extended at every third of the lease until two leases have passed, and never comes.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    delivery, begun = await _leased(ctx, queue, topic, b"long work")
    held = begun
    while held < begun + 2 * queue.lease:
        found = await ctx.take(queue, topic, wait=queue.lease / 3)
        ctx.in_time(queue, held)
        now = ctx.now()
        check(not found, f"a message came again {now - begun:.3f} s after it was leased, though it was extended")
        await queue.extend([delivery])
        ctx.in_time(queue, held)
        held = now
    await queue.ack([delivery])
    ctx.in_time(queue, held)
    await ctx.none_left(queue, topic, "the message was extended, and acked in time")


@rule("QUEUE-LEASE-04", limit=LONG)
async def extension_ends(ctx: Context) -> None:
    """An extended lease runs out too, one lease after it was extended.

    Why: A worker that dies after it has extended must not hide its messages for ever.

    Test: A message is extended once and left alone; it comes again one lease later, within the grace.
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
    check(took >= EARLY * queue.lease, f"a lease of {queue.lease:g} s ended {took:.3f} s after it was extended")
    equal((again.body, again.attempt), (delivery.body, 2), "body and attempt of what came again")


@rule("QUEUE-LEASE-05", limit=LONG)
async def extended_alone(ctx: Context) -> None:
    """Extending one delivery leaves the leases of others alone.

    Why: A worker that holds many must not keep alive what it has forgotten.

    Test: Of two messages one is extended; the other still comes when its own lease has run out.
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
            equal([each.body for each in found], [b"forgotten"], "what came while the other was extended")
            return
    broken("a message did not come again: extending another keeps it hidden")


@rule("QUEUE-LEASE-06")
async def lease_told(ctx: Context) -> None:
    """`queue.lease` is the lease in seconds, positive and finite, and what the option `lease` says if there is one.

    Why: The engine extends what it holds at a third of it.

    Test: It is read, with the option and without.
    """
    told: list[object] = [(await ctx.queue(short_lease=short)).lease for short in (False, True)]
    for lease in told:
        positive = isinstance(lease, int | float) and isfinite(lease) and lease > 0
        check(positive, f"`lease` should be a positive number of seconds, and is {lease!r}")
    if ctx.target.takes_lease:
        check(told[1] == ctx.target.lease, f"`lease` is {told[1]!r}, and the option says {ctx.target.lease:g} s")


@rule("QUEUE-LEASE-07", limit=LONG)
async def expiry_wakes(ctx: Context) -> None:
    """A receive that waits gets a message whose lease runs out meanwhile.

    Why: After the death of its colleague the last worker of a fleet waits on a topic that looks empty.

    Test: A message is leased; a receive that would wait for ten minutes must return with it.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await _leased(ctx, queue, topic, b"left alone")
    async with ctx.within(queue.lease + ctx.grace, "a waiting receive gets a message whose lease runs out"):
        found = await ctx.take(queue, topic, wait=600)
    equal([(each.body, each.attempt) for each in found], [(b"left alone", 2)], "what the waiting receive gave")


@rule("QUEUE-LEASE-08", limit=LONG)
async def attempts_counted(ctx: Context) -> None:
    """`attempt` counts deliveries from 1, by releases and by leases that ran out alike.

    Why: The engine backs off by it, and buries what was attempted too often.

    Test: A message is released three times and then left alone once; its attempts are 1 to 5.
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
