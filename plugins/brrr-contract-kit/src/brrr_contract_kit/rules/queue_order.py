"""Rules on the order of dead letters."""

from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Queue

PUT: Final = [b"a", b"b", b"c", b"d"]
BURIED: Final = [b"c", b"a", b"d", b"b"]


async def _bury_in_other_order(ctx: Context, queue: Queue, topic: str) -> None:
    """Put messages in one order and dead-letter them in another one."""
    for body in PUT:
        await queue.put(topic, [body])
    held = {each.body: each for each in await ctx.take_all(queue, topic, len(PUT))}
    for body in BURIED:
        await queue.bury(held[body], "in order")


@rule("QUEUE-DEAD-08")
async def buried_order(ctx: Context) -> None:
    """The oldest dead letter is the one that was buried first, no matter when its message was put.

    Why: An operator looks at the first failure first, and redrives it first. A call that was put weeks ago, but failed
    now, comes last.

    Test: Four messages are put in one order, and dead-lettered in another one. `dead`, `drop` and `redrive` follow the
    second one. The redriven message is dead-lettered again, and then comes last.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await _bury_in_other_order(ctx, queue, topic)

    async def bodies(limit: int = 10) -> list[bytes]:
        return [each.body for each in await queue.dead(topic, limit=limit)]

    equal(await bodies(), BURIED, "the dead letters, the first buried first")
    equal(await bodies(2), BURIED[:2], "the dead letters with a limit of 2")
    times = [each.buried_at for each in await queue.dead(topic, limit=10)]
    check(times == sorted(times), f"the times of dead letters that were buried one after another: {times}")
    equal(await queue.drop(topic, limit=1), 1, "the result of drop with a limit of 1")
    equal(await bodies(), BURIED[1:], "the dead letters after the oldest was dropped")
    equal(await queue.redrive(topic, limit=1), 1, "the result of redrive with a limit of 1")
    again = await ctx.take_one(queue, topic)
    equal(again.body, BURIED[1], "the redriven message")
    await queue.bury(again, "again")
    equal(await bodies(), [*BURIED[2:], BURIED[1]], "the dead letters after one was buried again")


@rule("QUEUE-DEAD-09", needs="queue.ordered")
async def redriven_order(ctx: Context) -> None:
    """Redriven messages follow those that are ready, in the order in which they were buried.

    Why: The manifest declares `ordered`.

    Test: Four messages are put in one order, and dead-lettered in another one. A fifth message is ready. Three are
    redriven, and then the last one. The messages are received one by one: the fifth, and the four as they were buried.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    await _bury_in_other_order(ctx, queue, topic)
    await queue.put(topic, [b"ready"])
    equal(await queue.redrive(topic, limit=3), 3, "the result of redrive with a limit of 3")
    equal(await queue.redrive(topic, limit=3), 1, "the result of the second redrive")
    seen = list[bytes]()
    for _ in range(5):
        delivery = await ctx.take_one(queue, topic)
        await queue.ack([delivery])
        seen.append(delivery.body)
    equal(seen, [b"ready", *BURIED], "the order of a ready message and of redriven ones")
