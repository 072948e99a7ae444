"""Rules QUEUE-WAIT and QUEUE-SHARE: the wait of a receive, and several receivers."""

from asyncio import TaskGroup, get_running_loop, sleep
from collections import Counter
from math import inf

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, check, equal, same_bodies
from brrr_contract_kit.testbed.context import Context

WAIT = 0.3
"""A short wait, in seconds."""


@rule("QUEUE-WAIT-01")
async def delivered(ctx: Context) -> None:
    """A receive delivers a message that was put before it began, as attempt 1.

    Why: The engine starts work with put and receive alone.

    Test: A message is put and then received, with a wait.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await queue.put(topic, [b"hello"])
    delivery = await ctx.take_one(queue, topic)
    equal((delivery.topic, delivery.body, delivery.attempt), (topic, b"hello", 1), "topic, body and attempt")


@rule("QUEUE-WAIT-02")
async def returns_early(ctx: Context) -> None:
    """A waiting receive returns as soon as a message arrives, not at the end of its wait.

    Why: Every call of a workflow is a message. If a worker looked only at the end of its wait, each call would wait
    that long.

    Test: A receive waits up to ten minutes, and a message is put. The receive must return within the grace. The same is
    repeated with an infinite wait.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    for wait in (600.0, inf):
        async with ctx.within(ctx.grace, "a waiting receive returns when a message arrives"), TaskGroup() as tasks:
            receiving = tasks.create_task(ctx.take(queue, topic, wait=wait))
            await sleep(0.05)  # usually enough to be waiting; the result is the same if not
            await queue.put(topic, [b"awaited"])
        equal([each.body for each in receiving.result()], [b"awaited"], "the messages of the waiting receive")


@rule("QUEUE-WAIT-03")
async def returns_empty(ctx: Context) -> None:
    """A receive on an empty topic returns an empty list when its wait is over: not earlier, and not much later.

    Why: A worker checks between receives whether it must stop. A receive that returns immediately would make it spin.

    Test: An empty topic is received from with waits of 0 and 0.3 seconds, and the time is measured.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    loop = get_running_loop()
    for wait in (0.0, WAIT):
        begun = loop.time()
        async with ctx.within(wait + ctx.grace, f"a receive with wait {wait:g} s returns"):
            equal(await queue.receive(topic, limit=10, wait=wait), [], "the messages of an empty topic")
        took = loop.time() - begun
        check(took >= 0.9 * wait, f"a receive with wait {wait:g} s returned after {took:.3f} s without a message")


@rule("QUEUE-WAIT-04")
async def does_not_block(ctx: Context) -> None:
    """While one receive waits, all other operations of the same backend work.

    Why: One backend serves all loops and calls of a process. A blocked connection would stop them all.

    Test: A receive waits on an empty topic. Meanwhile another topic is put to, received from, acknowledged and counted.
    """
    queue, empty, topic = await ctx.queue(), ctx.topic(), ctx.topic()
    async with TaskGroup() as tasks:
        waiting = tasks.create_task(queue.receive(empty, limit=1, wait=600))
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        async with ctx.within(ctx.grace, "operations while a receive waits"):
            await queue.put(topic, [b"beside"])
            delivery = await ctx.take_one(queue, topic)
            await queue.ack([delivery])
            await queue.stats(topic)
        check(not waiting.done(), "a receive on an empty topic returned early")
        waiting.cancel()


@rule("QUEUE-WAIT-05")
async def loop_runs_on(ctx: Context) -> None:
    """A waiting receive does not block the event loop.

    Why: Handlers run in the same loop.

    Test: While a receive waits for 0.3 seconds, a task with short sleeps must make progress.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    beats = 0
    async with TaskGroup() as tasks:
        waiting = tasks.create_task(queue.receive(topic, limit=1, wait=WAIT))
        while not waiting.done():
            await sleep(0.005)
            beats += 1
    check(beats >= 5, f"the event loop turned {beats} times while a receive waited for {WAIT} s")


@rule("QUEUE-SHARE-01")
async def each_gets_one(ctx: Context) -> None:
    """If several receivers wait and as many messages arrive, each receiver gets one.

    Why: A receiver that still waits while a message is ready is an idle worker.

    Test: Four receives with a limit of 1 wait, and four messages are put in one batch. Every receive must return one
    message.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%d" % number for number in range(4)]
    async with ctx.within(2 * ctx.grace, "four receivers get one of four messages each"), TaskGroup() as tasks:
        receivers = [tasks.create_task(ctx.take(queue, topic, wait=600)) for _ in bodies]
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        await queue.put(topic, bodies)
    same_bodies([each.body for task in receivers for each in task.result()], bodies, "the messages of four receivers")


@rule("QUEUE-SHARE-02")
async def consumers_share(ctx: Context) -> None:
    """Concurrent consumers together get each message once, and none of them starves.

    Why: Sharing makes a fleet of workers faster than one worker.

    Test: Four consumers of one backend receive 200 messages in small batches and acknowledge them.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%d" % number for number in range(200)]
    seen: list[bytes] = []
    shares: Counter[int] = Counter()

    async def consume(number: int) -> None:
        while len(seen) < len(bodies):
            found = await ctx.take(queue, topic, limit=5, wait=0.2)
            seen.extend(each.body for each in found)
            shares[number] += len(found)
            await queue.ack(found)

    await queue.put(topic, bodies)
    async with ctx.within(4 * ctx.grace, "four consumers take 200 messages"), TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(consume(number))
    same_bodies(seen, bodies, "the messages of four consumers")
    if len([share for share in shares.values() if share]) < 4:
        broken(f"some of four consumers got none of 200 messages: {dict(shares)}")


@rule("QUEUE-SHARE-03", pair=True)
async def woken_by_other(ctx: Context) -> None:
    """A message that another backend on the same URL puts wakes a waiting receive.

    Why: Clients and workers are different processes.

    Test: One backend waits up to ten minutes while the other puts a message. The receive must return within the grace.
    """
    one, other, topic = await ctx.queue(), await ctx.queue(), ctx.topic()
    async with ctx.within(ctx.grace, "a receive wakes when another backend puts"), TaskGroup() as tasks:
        receiving = tasks.create_task(ctx.take(one, topic, wait=600))
        await sleep(0.05)  # usually enough to be waiting; the result is the same if not
        await other.put(topic, [b"from the other"])
    equal([each.body for each in receiving.result()], [b"from the other"], "the messages of the waiting receive")


@rule("QUEUE-SHARE-04", pair=True)
async def two_backends(ctx: Context) -> None:
    """Two backends on one URL are one queue: a message that one has leased is hidden from the other.

    Why: Each worker has its own backend.

    Test: One backend puts two messages and receives one. The other receives only the second. The first is released, and
    the other backend receives it too.
    """
    one, other, topic = await ctx.queue(), await ctx.queue(), ctx.topic()
    await one.put(topic, [b"first", b"second"])
    mine = await ctx.take_one(one, topic)
    theirs = await ctx.take_one(other, topic)
    same_bodies([mine.body, theirs.body], [b"first", b"second"], "the messages of two backends")
    await ctx.none_left(other, topic, "both messages are leased")
    await one.release([mine])
    again = await ctx.take_one(other, topic)
    equal((again.body, again.attempt), (mine.body, 2), "body and attempt of the released message")


@rule("QUEUE-SHARE-05", needs="queue.ordered")
async def ordered(ctx: Context) -> None:
    """One consumer receives the messages of one producer in the order of the puts.

    Why: The manifest declares it.

    Test: 100 messages are put in batches of ten and received in batches of seven.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%03d" % number for number in range(100)]
    for begin in range(0, 100, 10):
        await queue.put(topic, bodies[begin : begin + 10])
    seen: list[bytes] = []
    while len(seen) < len(bodies):
        found = await ctx.take(queue, topic, limit=7, wait=ctx.grace)
        check(bool(found), f"only {len(seen)} of {len(bodies)} messages arrived")
        seen += [each.body for each in found]
        await queue.ack(found)
    equal(seen, bodies, "the order of the messages")
