"""Delayed messages that one backend or process leaves, and another one receives."""

from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Queue

__all__ = ["delays_end", "leave_delayed", "put_and_release"]


async def put_and_release(queue: Queue, topic: str, delay: float, *, wait: float) -> None:
    """Leave two delayed messages on the topic: one was put with the delay, and the other one released with it."""
    await queue.put(topic, [b"released"])
    found = await queue.receive(topic, limit=1, wait=wait)
    check(len(found) == 1, f"a message that was just put did not arrive within {wait:g} s")
    await queue.release(found, delay=delay)
    await queue.put(topic, [b"put"], delay=delay)


async def leave_delayed(ctx: Context, queue: Queue, topic: str, delay: float) -> None:
    """Leave two delayed messages from this process."""
    await put_and_release(queue, topic, delay, wait=ctx.grace)


async def delays_end(ctx: Context, queue: Queue, topic: str, delay: float) -> None:
    """Check that both messages arrive when their delay is over."""
    found = await ctx.take_all(queue, topic, 2, within=delay + ctx.grace, ack=True)
    seen = sorted((each.body, each.attempt) for each in found)
    equal(seen, [(b"put", 1), (b"released", 2)], "body and attempt of the messages whose delay is over")
