"""Rules QUEUE-EXPIRE: a receipt is stale as soon as its lease expires, even if an extension races with a receive."""

from asyncio import gather, sleep
from collections.abc import Awaitable
from typing import Final

from brrr_contract_kit.registry import LONG, declares, rule
from brrr_contract_kit.testbed.checks import broken, check, equal
from brrr_contract_kit.testbed.context import IN_TIME, Context
from brrr_core.backend import Delivery, Queue

LATE: Final = 600.0
"""A delay in seconds that hides a message for longer than the rule waits."""

RACES: Final = 40
MARGIN: Final = 0.04
"""The part of a lease before and after its end in which the race takes place."""


@rule("QUEUE-EXPIRE-01", limit=LONG)
async def stale_at_once(ctx: Context) -> None:
    """When its lease has expired, a receipt is stale, even if no other receive has taken the message yet.

    Why: A worker was paused for longer than its lease. It may act on what it knew before, but another worker must be
    able to take the message. If the late receipt hides the message, no worker runs the call.

    Test: Four messages are leased, and nothing receives until the leases have expired. Then the receipts acknowledge,
    release with a long delay if the manifest declares delays, dead-letter and extend, the last one again and again.
    Every message is delivered once as attempt 2, and there is no dead letter.
    """
    queue = await ctx.queue(short_lease=True)
    topics = {what: ctx.topic() for what in ("acknowledged", "released", "dead-lettered", "extended")}
    for topic in topics.values():
        await queue.put(topic, [b"late"])
    acked, released, buried, extended = [await ctx.take_one(queue, topic) for topic in topics.values()]
    await sleep(queue.lease / IN_TIME)  # the leases have ended, for any resolution of the server's clock
    delay = LATE if declares(ctx.target.manifest, "queue.delay") else 0
    await gather(
        queue.ack([acked]), queue.release([released], delay=delay), queue.bury(buried, "late"), queue.extend([extended])
    )
    for what, topic in topics.items():
        deadline = ctx.now() + queue.lease + ctx.grace
        found: list[Delivery] = []
        while not found:
            check(ctx.now() < deadline, f"a message that was {what} after the end of its lease was not delivered again")
            found = await ctx.take(queue, topic, limit=10, wait=queue.lease / 3)
            if not found:
                await queue.extend([extended])
        equal([(each.body, each.attempt) for each in found], [(b"late", 2)], f"the delivery of the message {what} late")
        await queue.ack(found)
        await ctx.none_left(queue, topic, f"the only message was {what} late, delivered again and acknowledged")
        equal(await queue.dead(topic, limit=10), [], f"the dead letters of the topic whose message was {what} late")


@rule("QUEUE-EXPIRE-02", pair=True, limit=LONG)
async def extension_races(ctx: Context) -> None:
    """If an extension races with the end of the lease and another receive, the message has one live lease afterwards.

    Why: A busy worker extends late. Two workers that both hold the message would both settle it.

    Test: One backend holds forty messages, and extends each of them alone when the leases end. Another one receives
    meanwhile. Then the first backend acknowledges all its receipts, and the second one releases. Exactly the messages
    that the second one had received are delivered again from there, as attempt 3.
    """
    holder, other = await ctx.queue(short_lease=True), await ctx.queue(short_lease=True)
    topic = ctx.topic()
    await holder.put(topic, [b"%d" % number for number in range(RACES)])
    before, margin = ctx.now(), MARGIN * holder.lease
    held = await ctx.take_all(holder, topic, RACES)
    begin, end = before + holder.lease - margin, ctx.now() + holder.lease + margin
    await sleep(begin - ctx.now())
    taken: list[Delivery] = []

    async def receive() -> None:
        while ctx.now() < end:
            taken.extend(await ctx.take(other, topic, wait=margin))

    async def extend(number: int, delivery: Delivery) -> None:
        await sleep((end - begin) * number / RACES)
        await holder.extend([delivery])

    extensions: list[Awaitable[None]] = [extend(number, each) for number, each in enumerate(held)]
    await gather(receive(), *extensions)
    await holder.ack(held)
    await other.release(taken)
    ctx.in_time(other, begin)
    bodies = [each.body for each in taken]
    twice = {body for body in bodies if bodies.count(body) > 1}
    check(not twice, f"another backend received messages twice within one lease: {sorted(twice)}")
    await _come_back(ctx, other, topic, set(bodies))


async def _come_back(ctx: Context, queue: Queue, topic: str, wanted: set[bytes]) -> None:
    """Check that the messages come back once as attempt 3. Only messages with expired leases may come with them."""
    seen: dict[bytes, int] = {}
    deadline = ctx.now() + queue.lease + ctx.grace
    while not wanted <= seen.keys():
        if ctx.now() >= deadline:
            lost = sorted(wanted - seen.keys())
            broken(f"{len(lost)} of {len(wanted)} messages were lost: the receipt that had expired could settle them")
        for each in await ctx.take(queue, topic, limit=RACES, wait=queue.lease / 3):
            check(each.body not in seen, f"the message {each.body!r} was delivered twice after the race")
            seen[each.body] = each.attempt
            await queue.ack([each])
    attempts = {seen[body] for body in wanted}
    check(attempts <= {3}, f"the attempts of messages that two backends had received: expected 3, got {attempts}")
