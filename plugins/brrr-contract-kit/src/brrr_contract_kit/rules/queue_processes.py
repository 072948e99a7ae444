"""Rules QUEUE-PROC and QUEUE-DURABLE: several processes on one URL, even when some are killed."""

from asyncio import TaskGroup, gather
from itertools import chain

from brrr_contract_kit.registry import LONG, declares, rule
from brrr_contract_kit.testbed.checks import check, equal, same_bodies
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.operations import delays_end, leave_delayed
from brrr_contract_kit.testbed.processes import as_bytes, as_text

KILLED = 2
DELAY = 0.5


def _bodies(count: int, name: str = "message") -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(count)]


@rule("QUEUE-PROC-01", needs="queue.shared", processes=True)
async def produced_elsewhere(ctx: Context) -> None:
    """This process receives messages that other processes put, and they receive messages that it puts.

    Why: Clients and workers are different processes.

    Test: Three processes put 50 messages each at the same time, one of them with hostile bytes. All are delivered here.
    A message that this process puts is delivered to another one.
    """
    queue, topic, back = await ctx.queue(), ctx.topic(), ctx.topic()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    sent = [[*_bodies(49, f"from {number}"), bytes(range(256))] for number in range(3)]
    await gather(
        *(
            agent.do("put", topic=topic, bodies=[as_text(body) for body in bodies])
            for agent, bodies in zip(agents, sent, strict=True)
        )
    )
    found = await ctx.take_all(queue, topic, 150, within=2 * ctx.grace)
    same_bodies([each.body for each in found], [*chain.from_iterable(sent)], "the messages that three processes put")
    await queue.put(back, [b"\0back"])
    seen = await agents[0].do("receive", topic=back, limit=1, wait=ctx.grace)
    equal(seen, [[as_text(b"\0back"), 1]], "body and attempt of the delivery in another process")


@rule("QUEUE-PROC-02", needs="queue.shared", processes=True)
async def consumed_elsewhere(ctx: Context) -> None:
    """Consumers in several processes together get each message once.

    Why: A fleet consists of such consumers.

    Test: Three processes receive and acknowledge 150 messages until the topic is empty. Together they got each message
    once.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    await queue.put(topic, _bodies(150))
    shares = await gather(*(agent.do("consume", topic=topic, idle=0.5, slowly=False) for agent in agents))
    same_bodies([as_bytes(text) for share in shares for text in share], _bodies(150), "the messages of three consumers")


@rule("QUEUE-PROC-03", needs="queue.shared", processes=True, limit=LONG)
async def holder_killed(ctx: Context) -> None:
    """If a process is killed (`kill -9`), others get its messages when the leases have expired.

    Why: Machines fail. Durable execution exists to survive that.

    Test: A process receives five of ten messages and is killed. All ten are delivered here, those five as attempt 2.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    agent = await ctx.agent(short_lease=True)
    await queue.put(topic, _bodies(10))
    held: list[bytes] = []
    while len(held) < 5:
        found = await agent.do("receive", topic=topic, limit=5 - len(held), wait=ctx.grace)
        check(bool(found), "another process did not receive a message of this process")
        held += [as_bytes(text) for text, _ in found]
    await agent.kill()
    left = await ctx.take_all(queue, topic, 10, within=queue.lease + ctx.grace, ack=True)
    same_bodies(
        [each.body for each in left], _bodies(10), "the messages after a process with five of ten deliveries was killed"
    )
    attempts = {each.body: each.attempt for each in left}
    check(
        all(attempts[body] == 2 for body in held),
        f"attempts of the killed process's messages: expected 2, got {[attempts[body] for body in held]}",
    )


@rule("QUEUE-PROC-04", needs="queue.shared", processes=True, limit=LONG)
async def consumer_killed(ctx: Context) -> None:
    """If a process is killed while it receives and acknowledges, only messages that it had acknowledged are gone.

    Why: A process can die at any point, even between the answer of the server and its own next line.

    Test: A process that receives and acknowledges one message at a time is killed after some of them. The rest is
    delivered here. One message may be missing: the process may have acknowledged it and not yet reported it.
    """
    queue, topic = await ctx.queue(short_lease=True), ctx.topic()
    await queue.put(topic, _bodies(60))
    acked: list[bytes] = []
    for _ in range(KILLED):
        agent = await ctx.agent(short_lease=True)
        agent.begin("consume", topic=topic, idle=ctx.grace, slowly=True)
        for _ in range(ctx.random.randint(3, 12)):
            async with ctx.within(2 * ctx.grace, "another process receives and acknowledges messages"):
                acked += [as_bytes(text) for text in await agent.answer()]
        acked += [as_bytes(text) for texts in await agent.kill() for text in texts]
    found = await ctx.take_all(queue, topic, 60 - len(acked) - KILLED, within=queue.lease + ctx.grace, ack=True)
    missing = set(_bodies(60)) - {each.body for each in found} - set(acked)
    if missing:
        found += await ctx.take(queue, topic, limit=10, wait=queue.lease + ctx.grace)
        missing -= {each.body for each in found}
    check(len(missing) <= KILLED, f"{KILLED} killed processes lost {len(missing)} messages: {sorted(missing)[:5]!r}")


@rule("QUEUE-PROC-05", needs="queue.shared", processes=True)
async def woken_by_process(ctx: Context) -> None:
    """A message that another process puts wakes a waiting receive.

    Why: Each call of a workflow may pass to another process. Without the wake-up, each would wait until a receive times
    out.

    Test: A receive waits up to ten minutes while another process puts a message. The receive must return within the
    grace.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    agent = await ctx.agent()
    async with ctx.within(2 * ctx.grace, "a receive wakes when another process puts"), TaskGroup() as tasks:
        receiving = tasks.create_task(ctx.take(queue, topic, wait=600))
        await agent.do("put", topic=topic, bodies=["awaited"])
    equal([each.body for each in receiving.result()], [b"awaited"], "the messages of the waiting receive")


@rule("QUEUE-DURABLE-01", needs="queue.durable", processes=True)
async def survives_death(ctx: Context) -> None:
    """When `put` has returned, its messages survive the death of the process that put them and of all others.

    Why: The manifest declares it. `schedule` returns when its message is put, and the caller need not remember it.

    Test: A process puts messages and is killed when the put has returned. While no process of the test is left, the URL
    is opened again, and the messages are delivered. If the manifest declares delays, the process also puts a message
    with a delay, and releases one with a delay; both are delivered when they are due.
    """
    topic, later = ctx.topic(), ctx.topic()
    delays = declares(ctx.target.manifest, "queue.delay")
    agent = await ctx.agent()
    await agent.do("put", topic=topic, bodies=[as_text(body) for body in _bodies(20)])
    if delays:
        await agent.do("put_later", topic=later, delay=DELAY, wait=ctx.grace)
    await agent.kill()
    queue = await ctx.queue()
    found = await ctx.take_all(queue, topic, 20)
    same_bodies([each.body for each in found], _bodies(20), "the messages that a dead process had put")
    if delays:
        await delays_end(ctx, queue, later, DELAY)


@rule("QUEUE-DURABLE-02", needs="queue.durable", limit=LONG)
async def survives_closing(ctx: Context) -> None:
    """Ready, leased and delayed messages and dead letters survive when every backend is closed.

    Why: The manifest declares it. A fleet may be stopped for a night.

    Test: One or two of three messages are received, and one of those is dead-lettered. If the manifest declares delays,
    one more message is put with a delay, and one released with a delay. The backend is closed, and the URL opened
    again.
    """
    topic, later = ctx.topic(), ctx.topic()
    delays = declares(ctx.target.manifest, "queue.delay")
    async with ctx.target.backend(short_lease=True) as backend:
        queue = backend.queue
        await queue.put(topic, [b"one", b"two", b"three"])
        begun = ctx.now()
        found = await queue.receive(topic, limit=2, wait=ctx.grace)
        await queue.bury(found[0], "kept")
        ctx.in_time(queue, begun)
        wanted = {b"one", b"two", b"three"} - {found[0].body}
        if delays:
            await leave_delayed(ctx, queue, later, DELAY)
    queue = await ctx.queue(short_lease=True)
    again = await ctx.take_all(queue, topic, 2, within=queue.lease + ctx.grace, ack=True)
    same_bodies([each.body for each in again], list(wanted), "the messages after every backend was closed")
    letters = await queue.dead(topic, limit=10)
    equal([(each.body, each.reason) for each in letters], [(found[0].body, "kept")], "the dead letters")
    if delays:
        await delays_end(ctx, queue, later, DELAY)
