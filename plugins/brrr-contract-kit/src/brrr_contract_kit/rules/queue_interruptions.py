"""Rules QUEUE-CANCEL-07 and QUEUE-PROC-06: every operation with an effect is cancelled, or its process is killed."""

from asyncio import gather
from collections.abc import Sequence

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.interruptions import batches_for, begun, check_left, effects_of, prepared
from brrr_contract_kit.testbed.processes import as_text


@rule("QUEUE-CANCEL-07", limit=LONG)
async def operations_cancelled(ctx: Context) -> None:
    """A cancelled operation has done each item of its batch completely or not at all, and no message is lost.

    Why: A worker or a command may be stopped at any await. A message that is in no state is a call that never ends.

    Test: Puts, acknowledgements, releases, extensions, dead-letterings, redrives and drops, of 3 or 30 messages, are
    cancelled after 0, 1, 2 … turns of the loop, up to the turns of a complete one. Another backend, if it shares the
    messages, then finds each message that was not put, acknowledged or dropped: once as a message, or once as a dead
    letter. A dead-lettering or redrive may leave it at both places.
    """
    queue = preparing = other = await ctx.queue(short_lease=True)
    if ctx.target.shared("queue"):
        preparing, other = await ctx.queue(), await ctx.queue(short_lease=True)
    checks: list[tuple[str, str, Sequence[Sequence[bytes]]]] = []
    for name, effect in effects_of(ctx).items():
        (measured,) = batches_for(name, [0])
        topic = await prepared(ctx, preparing, effect, [measured])
        points = ctx.few_points(await ctx.turns_of(await begun(queue, topic, effect, measured, wait=ctx.grace)))
        batches = batches_for(name, points)
        topic = await prepared(ctx, preparing, effect, batches)
        for point, batch in zip(points, batches, strict=True):
            await ctx.cancelled(await begun(queue, topic, effect, batch, wait=ctx.grace), point)
        checks.append((topic, name, batches))
    await gather(*(check_left(ctx, other, *each, killed=False) for each in checks))


@rule("QUEUE-PROC-06", needs="queue.shared", processes=True, limit=LONG)
async def operations_killed(ctx: Context) -> None:
    """If a process is killed in the middle of an operation, each item was done completely or not at all. None is lost.

    Why: `kill -9`, a full memory or a power cut can come between any two statements.

    Test: As QUEUE-CANCEL-07, but a process runs all these operations at the same time, and is killed after 0, 1, 2 …
    turns of its loop. This process finds the messages. The rule applies if the system can fork.
    """
    queue, preparing, effects = await ctx.queue(short_lease=True), await ctx.queue(), effects_of(ctx)
    agent = await ctx.forking_agent()

    async def planned(points: Sequence[int]) -> tuple[dict[str, str], dict[str, list[list[bytes]]]]:
        batches = {name: batches_for(name, points) for name in effects}
        topics = [prepared(ctx, preparing, effect, batches[name]) for name, effect in effects.items()]
        return dict(zip(effects, await gather(*topics), strict=True)), batches

    def operations(place: int, topics: dict[str, str], batches: dict[str, list[list[bytes]]]) -> list[object]:
        return [[name, topics[name], [*map(as_text, batches[name][place])]] for name in effects]

    topics, batches = await planned([0])
    turns = await agent.do("queue", operations=operations(0, topics, batches), turns=None, wait=ctx.grace)
    points = ctx.few_points(turns)
    topics, batches = await planned(points)
    for place, point in enumerate(points):
        await agent.do("queue", operations=operations(place, topics, batches), turns=point, wait=ctx.grace)
    await gather(*(check_left(ctx, queue, topics[name], name, batches[name], killed=True) for name in effects))
