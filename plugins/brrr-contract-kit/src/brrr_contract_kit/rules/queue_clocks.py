"""Rules QUEUE-CLOCK: processes whose wall clocks are wrong."""

from asyncio import gather
from math import ceil
from typing import Final

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context, NotApplicableError
from brrr_contract_kit.testbed.processes import Agent

HOUR: Final = 3600
SHORT: Final = 0.5


async def _skewed(ctx: Context, *, short_lease: bool = False) -> dict[str, Agent]:
    """Return processes whose wall clocks are an hour ahead and an hour behind."""
    if not ctx.target.shared("queue"):
        raise NotApplicableError("the manifest does not declare queue.shared")
    fast, slow = await gather(*(ctx.agent(short_lease=short_lease, shift=shift) for shift in (HOUR, -HOUR)))
    return {"an hour ahead": fast, "an hour behind": slow}


@rule("QUEUE-CLOCK-01", needs="queue.server_clock", processes=True)
async def takes_nothing_early(ctx: Context) -> None:
    """A process whose wall clock is an hour off receives neither leased nor delayed messages of others.

    Why: One machine with a wrong clock must not run the calls of all others a second time.

    Test: This process leases a message, and puts one with a delay of ten minutes. A process that is an hour ahead and
    one that is an hour behind receive neither, and count them as leased and delayed. Each of them leases and delays a
    message, too, and this process receives neither. A declared clock of the server is tested.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    for name, agent in (await _skewed(ctx)).items():
        theirs = ctx.topic()
        await queue.put(topic, [b"leased"])
        held = await ctx.take_one(queue, topic)
        delayed = ctx.target.manifest.queue is not None and ctx.target.manifest.queue.delay
        if delayed:
            await queue.put(topic, [b"delayed"], delay=600)
        equal(await agent.do("receive", topic=topic, limit=10, wait=0), [], f"the messages of a process {name}")
        await agent.do("put", topic=theirs, bodies=["leased"])
        found = await agent.do("receive", topic=theirs, limit=10, wait=ctx.grace)
        equal(found, [["leased", 1]], f"the messages that a process {name} puts and receives")
        if delayed:
            await agent.do("put", topic=theirs, bodies=["delayed"], delay=600)
        await ctx.none_left(queue, theirs, f"a process {name} has leased and delayed its messages")
        await queue.ack([held])
        topic = ctx.topic()


@rule("QUEUE-CLOCK-02", needs="queue.server_clock", processes=True, limit=LONG)
async def hides_nothing(ctx: Context) -> None:
    """If the wall clock of a process is an hour off, its messages are ready in time for others, and theirs for it.

    Why: Work that a machine with a wrong clock puts or releases must not wait for an hour, or forever.

    Test: Processes that are an hour ahead and an hour behind put a message, and one with a delay of half a second. They
    are killed while they lease a third one. This process receives all three: immediately, after the delay, and when the
    lease has expired. Before, each of them has received a message whose lease had expired in this process.
    """
    queue = await ctx.queue(short_lease=True)
    agents = await _skewed(ctx, short_lease=True)
    topics = {name: ctx.topic() for name in agents}
    manifest = ctx.target.manifest.queue
    delayed = manifest is not None and manifest.delay
    begun = ctx.now()
    for topic in topics.values():
        await queue.put(topic, [b"left"])
        await ctx.take_one(queue, topic)
    for name, agent in agents.items():
        topic = topics[name]
        left = max(0.0, begun + queue.lease - ctx.now())
        found = await agent.do("receive", topic=topic, limit=1, wait=ceil(left) + ctx.grace)
        equal(found, [["left", 2]], f"the messages that a process {name} receives when a lease has expired")
        await agent.do("put", topic=topic, bodies=["ready"])
        if delayed:
            await agent.do("put", topic=topic, bodies=["delayed"], delay=SHORT)
    for agent in agents.values():
        await agent.kill()
    for name, topic in topics.items():
        bodies: list[bytes] = []
        wanted = {b"left", b"ready", *([b"delayed"] if delayed else [])}
        while {*bodies} != wanted:
            found = await ctx.take(queue, topic, wait=queue.lease + ctx.grace)
            await queue.ack(found)
            check(bool(found), f"of the messages of a process {name}, only {bodies} arrived in time")
            bodies += [each.body for each in found]
