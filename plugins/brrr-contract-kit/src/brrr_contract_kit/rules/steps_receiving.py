"""Rules STEPS-RECEIVE: a receive with readings promises what the receive of the queue promises."""

from asyncio import TaskGroup, create_task, gather, sleep
from collections.abc import Awaitable, Callable
from functools import partial
from math import nan

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies
from brrr_contract_kit.testbed.context import CANCELLED, Context, raised
from brrr_contract_kit.testbed.stepped import (
    NOTHING_LEASED,
    SteppedBackend,
    records_of,
    schedule_message,
    stepped_backend,
)
from brrr_core.backend import Count, Delivery, Message, Reading, Step
from brrr_core.errors import ArgumentError

READINGS = (Reading("value"), Reading("call"))


@rule("STEPS-RECEIVE-01")
async def limited(ctx: Context) -> None:
    """A receive returns at most `limit` messages, hides them, and does not wait until it has that many.

    Why: The limit is the number of calls that the worker has room for.

    Test: Of five messages, receives with the limits 2 and 10 take all, as attempt 1. A released one comes as attempt 2.
    Receives with a limit of 0, a negative or NaN wait, or the empty topic are refused.
    """
    at, topic = await stepped_backend(ctx), ctx.topic()
    bodies = [b"%d" % number for number in range(5)]
    await at.queue.put(topic, bodies)
    found = [each.delivery for each in await at.receive(topic, limit=2, readings=READINGS)]
    check(0 < len(found) <= 2, f"a receive with the limit 2 returned {len(found)} messages while five were ready")
    async with ctx.within(2 * ctx.grace, "a receive does not wait for more messages"):
        while len(found) < 5:
            found += [each.delivery for each in await at.receive(topic, limit=10, wait=600, readings=READINGS)]
    same_bodies([each.body for each in found], bodies, "the messages of several receives")
    equal({(each.topic, each.attempt) for each in found}, {(topic, 1)}, "topic and attempt of the deliveries")
    await ctx.none_left(at.queue, topic, "all messages are leased")
    equal(await at.receive(topic, readings=READINGS), [], "the messages while all are leased")
    await at.queue.release(found[:1])
    again = (await at.one(topic, readings=READINGS)).delivery
    equal((again.body, again.attempt), (found[0].body, 2), "body and attempt of the released message")
    for wrong in (partial(at.receive, topic, limit=0), partial(at.receive, topic, wait=-1), partial(at.receive, "")):
        refused(await raised(wrong()), ArgumentError, f"{wrong.args} {wrong.keywords}")
    refused(await raised(at.receive(topic, wait=nan)), ArgumentError, "a receive with a NaN wait")


@rule("STEPS-RECEIVE-02")
async def woken(ctx: Context) -> None:
    """A waiting receive returns when a message arrives, and with an empty list when its wait is over.

    Why: The engine always waits. If a receive is late, every call is.

    Test: Receives wait up to ten minutes for a put, a release and a redrive. One waits half a second for nothing. The
    backend that puts is another one, if it shares data. Meanwhile other operations work.
    """
    at = await stepped_backend(ctx)
    other = await stepped_backend(ctx) if ctx.target.shared("steps") else at
    released, buried = await at.put(ctx.topic(), b"awaited"), await at.put(ctx.topic(), b"awaited")
    await at.queue.bury(buried, "why")
    topic = ctx.topic()
    causes: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        (topic, partial(other.queue.put, topic, [b"awaited"])),
        (released.topic, partial(at.queue.release, [released])),
        (buried.topic, partial(other.queue.redrive, buried.topic, limit=1)),
    ]
    for name, cause in causes:
        async with ctx.within(2 * ctx.grace, "a waiting receive wakes"), TaskGroup() as tasks:
            waiting = tasks.create_task(at.receive(name, wait=600, readings=READINGS))
            await sleep(0.01)  # usually enough to be waiting; the result is the same if not
            await at.counts(ctx.counter())
            await cause()
        equal([each.delivery.body for each in waiting.result()], [b"awaited"], "the messages of the waiting receive")
    begun = ctx.now()
    equal(await at.receive(ctx.topic(), wait=0.5, readings=READINGS), [], "the messages of an empty topic")
    took = ctx.now() - begun
    check(0.45 <= took <= 0.5 + ctx.grace, f"a receive that waits 0.5 s returned after {took:.3f} s")


@rule("STEPS-RECEIVE-03", limit=LONG)
async def cancelled(ctx: Context) -> None:
    """Cancelling a receive with readings loses nothing: not while it takes a message, reads, or waits.

    Why: A worker that stops cancels its receives, and a message that nothing returns to a topic is lost.

    Test: Receives are cancelled after 0, 1, 2 … turns: of a message that is ready, and just as one arrives. A message
    that was not returned must be delivered, at the latest when its lease has expired. If two receives wait, the second
    gets it.
    """
    at = await stepped_backend(ctx, short_lease=True)
    body = schedule_message("root", "hash")
    pending: list[str] = []

    async def prepared() -> str:
        topic = ctx.topic()
        await at.queue.put(topic, [body])
        return topic

    turns = await ctx.turns_of(partial(at.receive, await prepared(), wait=1, readings=READINGS))
    for point in ctx.points(turns):
        topic = await prepared()
        ended = await ctx.cancelled(partial(at.receive, topic, wait=1, readings=READINGS), point)
        if ended.result is CANCELLED:
            pending.append(topic)
    for point in (*range(12), 20, 50, 200):
        topic = ctx.topic()
        receiving = create_task(at.receive(topic, wait=600, readings=READINGS))
        await sleep(0)
        await at.queue.put(topic, [body])
        if (await ctx.cancel(receiving, point)).result is CANCELLED:
            pending.append(topic)
    for topic in pending:
        again = await at.one(topic, within=at.queue.lease + ctx.grace)
        equal(again.delivery.body, body, "the message after a cancelled receive")
        await at.queue.ack([again.delivery])
    for point in (0, 1, 2, 3, 5, 8, 20):
        topic = ctx.topic()
        first = create_task(at.receive(topic, wait=600, readings=READINGS))
        await sleep(0.01)  # usually enough to be first in line
        async with TaskGroup() as tasks:
            second = tasks.create_task(at.receive(topic, wait=600, readings=READINGS))
            await sleep(0.01)  # usually enough to be second
            await at.queue.put(topic, [body])
            if (await ctx.cancel(first, point)).result is not CANCELLED:
                second.cancel()
                continue
            async with ctx.within(at.queue.lease + ctx.grace, "the message reaches the receiver that still waits"):
                found = await second
        equal([each.delivery.body for each in found], [body], "the messages of the receive that still waits")
        await at.queue.ack([each.delivery for each in found])


@rule("STEPS-RECEIVE-04")
async def shared_out(ctx: Context) -> None:
    """Receives with readings and those of the queue together get each message once, and none of them starves.

    Why: Workers of both kinds share a fleet: an older brrr-core does not use steps.

    Test: Two receives of the steps and two of the queue wait, and four messages arrive: each gets one. Four such
    consumers then receive 200 messages, half of them put by steps. They are on two backends, if these share data.
    """
    at = await stepped_backend(ctx)
    other = await stepped_backend(ctx) if ctx.target.shared("steps") else at

    async def stepped(at: SteppedBackend, topic: str, limit: int, wait: float) -> list[Delivery]:
        return [each.delivery for each in await at.receive(topic, limit=limit, wait=wait, readings=READINGS)]

    async def plain(at: SteppedBackend, topic: str, limit: int, wait: float) -> list[Delivery]:
        return await ctx.take(at.queue, topic, limit=limit, wait=wait)

    consumers = [(stepped, at), (plain, at), (stepped, other), (plain, other)]
    topic = ctx.topic()
    async with ctx.within(2 * ctx.grace, "each of four waiting receives gets a message"), TaskGroup() as tasks:
        waits = [tasks.create_task(kind(each, topic, 1, 600)) for kind, each in consumers]
        await sleep(0.05)  # usually enough to be waiting
        await at.queue.put(topic, [b"a", b"b"])
        await other.applied(Step((), messages=[Message(topic, b"c"), Message(topic, b"d")]))
    same_bodies([each.body for task in waits for each in task.result()], [b"a", b"b", b"c", b"d"], "the messages")

    topic, bodies = ctx.topic(), [b"%d" % number for number in range(200)]
    await at.queue.put(topic, bodies[:100])
    await other.applied(Step((), messages=[Message(topic, body) for body in bodies[100:]]))
    left = len(bodies)

    async def consume(
        kind: Callable[[SteppedBackend, str, int, float], Awaitable[list[Delivery]]], each: SteppedBackend
    ) -> list[bytes]:
        nonlocal left
        seen: list[bytes] = []
        while left > 0:
            found = await kind(each, topic, 3, 0.1)
            await each.queue.ack(found)
            seen += [delivery.body for delivery in found]
            left -= len(found)
        return seen

    async with ctx.within(4 * ctx.grace, "four consumers receive 200 messages"):
        shares = await gather(*(consume(kind, each) for kind, each in consumers))
    same_bodies([body for share in shares for body in share], bodies, "the messages of all consumers")
    await ctx.none_left(at.queue, topic, "all messages were acknowledged")


@rule("STEPS-RECEIVE-05", pair=True)
async def another_backend(ctx: Context) -> None:
    """Two backends on one URL see each other's steps: records, counters, messages and leases.

    Why: They are workers of one fleet.

    Test: One backend commits a step that leases a message and puts another. The other backend receives only the second
    one, reads the records with it, and finds the counter.
    """
    at, other = await stepped_backend(ctx), await stepped_backend(ctx)
    topic, key, counter = ctx.topic(), ctx.key(), ctx.counter()
    body = schedule_message("root", key.call_hash)
    messages = [Message(topic, b"leased", leased=True), Message(topic, body)]
    await at.cache.increment({counter: 1})
    (leased,) = await at.applied(Step([(key, None)], [Count(counter, 1, 2)], [(key, b"x")], messages))
    equal(await other.counts(counter), [2], "the counter in the other backend")
    found = await other.one(topic, readings=READINGS)
    equal((found.delivery.body, records_of(found)), (body, [b"x", None]), "the message and its records")
    await ctx.none_left(other.queue, topic, "the other message is leased")
    again = Step([(key, b"x")], acks=[found.delivery], marks=[(key, None)])
    equal(
        await other.commit(again), [NOTHING_LEASED], "the result of a step that expects the record of another backend"
    )
    equal(await at.store.read([key]), [None], "the record that another backend deleted")
    equal(
        await at.commit(Step([(key, None)], writes=[(key, b"y")])),
        [NOTHING_LEASED],
        "the result of a step after the deletion",
    )
    await at.queue.release([leased.delivery])
    equal((await other.one(topic)).delivery.attempt, 2, "the attempt of the message that the first backend released")
