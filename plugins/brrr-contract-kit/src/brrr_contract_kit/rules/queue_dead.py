"""Rules QUEUE-DEAD and QUEUE-STATS: dead letters, redriving them, and counts."""

from asyncio import TaskGroup, sleep
from time import time

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.rules.queue_bodies import HOSTILE
from brrr_contract_kit.testbed.checks import check, equal, same_bodies
from brrr_contract_kit.testbed.context import IN_TIME, POLL, Context
from brrr_core.backend import Queue, QueueStats

REASONS = [
    "plain",
    "",
    "  spaces around  ",
    'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: \'quoted\' "twice"',
    "snow ☃, emoji 🦆, %s {0} \\n $1 <b>&amp;",
    "x" * 20_000,
]

CLOCKS = 60.0
"""Seconds by which the clock of a server may differ from that of this machine."""

DELAY = 2.0
"""Seconds of the delay while the rule counts delayed messages."""


async def _buried(ctx: Context, queue: Queue, topic: str, bodies: list[bytes], reason: str = "tried enough") -> None:
    """Dead-letter messages, one after another."""
    for body in bodies:
        await queue.put(topic, [body])
        await queue.bury(await ctx.take_one(queue, topic), reason)


@rule("QUEUE-DEAD-01")
async def buried(ctx: Context) -> None:
    """A dead-lettered message leaves its topic, and is kept with topic, body, reason, attempt and time.

    Why: A person must look at a failed call, and needs to know what failed, why and when.

    Test: A message is dead-lettered in its second attempt, and the dead letters are read twice.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"hopeless"])
    await queue.release([await ctx.take_one(queue, topic)])
    await queue.bury(await ctx.take_one(queue, topic), "tried enough")
    await ctx.none_left(queue, topic, "the message was dead-lettered")
    letters = await queue.dead(topic, limit=10)
    seen = [(each.topic, each.body, each.reason, each.attempt) for each in letters]
    equal(seen, [(topic, b"hopeless", "tried enough", 2)], "topic, body, reason and attempt of the dead letters")
    at = letters[0].buried_at
    check(abs(at - time()) < CLOCKS, f"`buried_at`: expected now in Unix seconds, {time():.0f}, got {at!r}")
    equal(await queue.dead(topic, limit=10), letters, "the dead letters, read a second time")


@rule("QUEUE-DEAD-02")
async def kept_whole(ctx: Context) -> None:
    """Dead letters keep any body and any reason: empty, multi-line, quoted, 20,000 characters long, or not ASCII.

    Why: The reason is usually a traceback.

    Test: Messages with hostile bodies and reasons are dead-lettered and read, the oldest first.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    for body in HOSTILE:
        await _buried(ctx, queue, topic, [body])
    letters = await queue.dead(topic, limit=100)
    equal([each.body for each in letters], HOSTILE, "the bodies of the dead letters, the oldest first")
    reasons = ctx.topic()
    for reason in REASONS:
        await _buried(ctx, queue, reasons, [b"x"], reason)
    letters = await queue.dead(reasons, limit=100)
    equal([each.reason for each in letters], REASONS, "the reasons of the dead letters, the oldest first")


@rule("QUEUE-DEAD-03")
async def buried_once(ctx: Context) -> None:
    """Dead-lettering with a stale receipt does nothing.

    Why: A worker that was paused must not dead-letter a call that another worker runs.

    Test: One message is dead-lettered twice. One is acknowledged and then dead-lettered. One is released, received
    again and dead-lettered with its first receipt. Only one dead letter exists, and the last message is still leased.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"buried", b"acked", b"handed on"])
    first, second, third = await ctx.take_all(queue, topic, 3)
    await queue.bury(first, "first")
    await queue.bury(first, "second")
    await queue.ack([second])
    await queue.bury(second, "stale")
    await queue.release([third])
    held = await ctx.take_one(queue, topic)
    await queue.bury(third, "stale")
    letters = await queue.dead(topic, limit=10)
    equal(
        [(each.body, each.reason) for each in letters], [(first.body, "first")], "body and reason of the dead letters"
    )
    await queue.release([held])
    equal((await ctx.take_one(queue, topic)).body, held.body, "the body that another receiver released")


@rule("QUEUE-DEAD-04", limit=LONG)
async def buried_for_good(ctx: Context) -> None:
    """A dead-lettered message is not delivered again after the end of its lease.

    Why: Otherwise the call would be run and be a dead letter at the same time.

    Test: Two messages are received together and one is dead-lettered. When the lease of the other expires, only that
    one is delivered.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, [b"one", b"two"])
    begun = ctx.now()
    gone, left = await ctx.take_all(queue, topic, 2)
    await queue.bury(gone, "tried enough")
    ctx.in_time(queue, begun)
    again = await ctx.take_one(queue, topic, within=queue.lease + ctx.grace)
    equal(again.body, left.body, "the body of the redelivered message")
    await ctx.none_left(queue, topic, "the other message was dead-lettered")


@rule("QUEUE-DEAD-05")
async def redriven(ctx: Context) -> None:
    """`redrive` puts up to `limit` dead letters, the oldest first, back as new messages, and returns their number.

    Why: After fixing the cause, an operator lets the calls run again.

    Test: Two of five dead letters are redriven, then the rest with a limit of 1,000. Each is delivered as attempt 1,
    and no dead letter is left.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%d" % number for number in range(5)]
    await _buried(ctx, queue, topic, bodies)
    equal(len(await queue.dead(topic, limit=3)), 3, "the number of dead letters with a limit of 3")
    equal(await queue.redrive(topic, limit=2), 2, "the result of redrive with a limit of 2")
    letters = await queue.dead(topic, limit=10)
    equal([each.body for each in letters], bodies[2:], "the remaining dead letters")
    deliveries = await ctx.take_all(queue, topic, 2)
    same_bodies([each.body for each in deliveries], bodies[:2], "the redriven messages")
    equal([each.attempt for each in deliveries], [1, 1], "the attempts of the redriven messages")
    equal(await queue.redrive(topic, limit=1000), 3, "the result of redrive with a limit of 1,000")
    same_bodies([each.body for each in await ctx.take_all(queue, topic, 3)], bodies[2:], "the redriven messages")
    equal(await queue.redrive(topic, limit=10), 0, "the result of redrive without dead letters")
    equal(await queue.dead(topic, limit=10), [], "the dead letters after all were redriven")


@rule("QUEUE-DEAD-06")
async def dropped(ctx: Context) -> None:
    """`drop` deletes up to `limit` dead letters, the oldest first, and returns their number.

    Why: Dead letters that will never be run must not accumulate.

    Test: Two of five dead letters are dropped, then the rest.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%d" % number for number in range(5)]
    await _buried(ctx, queue, topic, bodies)
    equal(await queue.drop(topic, limit=2), 2, "the result of drop with a limit of 2")
    letters = await queue.dead(topic, limit=10)
    equal([each.body for each in letters], bodies[2:], "the remaining dead letters")
    equal(await queue.drop(topic, limit=1000), 3, "the result of drop with a limit of 1,000")
    equal(await queue.drop(topic, limit=10), 0, "the result of drop without dead letters")
    await ctx.none_left(queue, topic, "the dead letters were dropped")


@rule("QUEUE-DEAD-07")
async def redrive_wakes(ctx: Context) -> None:
    """A redrive wakes a waiting receive.

    Why: Workers are often idle when an operator redrives.

    Test: A receive waits up to ten minutes while the dead letter is redriven.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await _buried(ctx, queue, topic, [b"again"])
    async with ctx.within(ctx.grace, "a waiting receive returns when a message is redriven"), TaskGroup() as tasks:
        receiving = tasks.create_task(ctx.take(queue, topic, wait=600))
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        await queue.redrive(topic, limit=10)
    equal([each.body for each in receiving.result()], [b"again"], "the messages of the waiting receive")


@rule("QUEUE-STATS-01")
async def counted(ctx: Context) -> None:
    """`stats` counts ready, leased and dead messages.

    Why: Operators scale their fleets by these counts.

    Test: Three of six messages are received; one of them is acknowledged and one dead-lettered. The counts become 3, 1,
    0, 1 within the grace, as a server may count with a lag.
    """
    queue, topic = await ctx.queue(), ctx.topic()

    async def counts(*wanted: int) -> bool:
        return tuple(await queue.stats(topic)) == wanted

    await ctx.until(lambda: counts(0, 0, 0, 0), "an empty topic counts no messages")
    await queue.put(topic, [b"%d" % number for number in range(6)])
    await ctx.until(lambda: counts(6, 0, 0, 0), "six messages are counted as ready")
    acked, dead, _ = await ctx.take_all(queue, topic, 3)
    await ctx.until(lambda: counts(3, 3, 0, 0), "three messages are counted as leased")
    await queue.ack([acked])
    await queue.bury(dead, "counted")
    await ctx.until(lambda: counts(3, 1, 0, 1), "three are ready, one is leased, one is dead")


@rule("QUEUE-STATS-02", needs="queue.delay")
async def delayed_counted(ctx: Context) -> None:
    """`stats` counts delayed messages.

    Why: A fleet whose calls all back off is not idle.

    Test: Two messages are put with a delay of two seconds and one without. When the delay is over, all three are ready.
    If the server counts too late, the rule tries again with a delay that is longer by the grace.
    """
    queue, delay = await ctx.queue(), DELAY
    if not await _delayed(ctx, queue, delay):
        delay += ctx.grace
        check(
            await _delayed(ctx, queue, delay),
            f"one is ready and two are delayed: not true within {IN_TIME * delay:g} s",
        )


async def _delayed(ctx: Context, queue: Queue, delay: float) -> bool:
    """Return if delayed messages are counted in time; after the delay, check that they are counted as ready."""
    topic, begun = ctx.topic(), ctx.now()
    await queue.put(topic, [b"one", b"two"], delay=delay)
    await queue.put(topic, [b"now"])
    wanted, seen = QueueStats(ready=1, leased=0, delayed=2, dead=0), False
    while not seen and ctx.now() < begun + IN_TIME * delay:
        seen = await queue.stats(topic) == wanted
        await sleep(POLL)

    async def counts(*wanted: int) -> bool:
        return tuple(await queue.stats(topic)) == wanted

    left = max(0.0, begun + delay - ctx.now())
    await ctx.until(lambda: counts(3, 0, 0, 0), "three messages are counted as ready", within=left + ctx.grace)
    return seen
