"""Rules on the arguments of a queue at the ends of their ranges: topics, limits and bodies."""

from typing import Any, Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.arguments import NOT_BYTES, all_refused, long_names, with_nul, wrong_names
from brrr_contract_kit.testbed.checks import check, equal, refused, same_bodies, shown
from brrr_contract_kit.testbed.context import Context, raised
from brrr_core.backend import LARGEST_LIMIT
from brrr_core.errors import ArgumentError

NOT_ONLY_BYTES: Final[list[Any]] = [b"abc", b"", "text", bytearray(b"x"), *([each] for each in NOT_BYTES), [b"x", None]]
"""Values that are passed instead of a batch of bodies."""


@rule("QUEUE-TOPIC-05")
async def any_topic(ctx: Context) -> None:
    """A topic has up to 1,024 bytes in UTF-8, and all its characters count, even NUL.

    Why: If a name is cut, at a NUL or at the end, calls reach workers that have no handler for them.

    Test: One message is put on each of some names: of 1,024 bytes that differ at one end, and with and without NUL.
    Each topic delivers its own message and no other.
    """
    queue = await ctx.queue()
    topics = [ctx.own_topic(topic) for topic in [*long_names(ctx.prefix), *with_nul(ctx.prefix)]]
    for number, topic in enumerate(topics):
        await queue.put(topic, [b"%d" % number])
    for number, topic in enumerate(topics):
        found = await ctx.take(queue, topic, limit=10, wait=ctx.grace)
        equal([(each.topic, each.body) for each in found], [(topic, b"%d" % number)], "the messages of a topic")


@rule("QUEUE-TOPIC-06")
async def wrong_topics(ctx: Context) -> None:
    """Every operation refuses a topic that is longer, not a text, or has half of a surrogate pair: `ArgumentError`.

    Why: Such a name must fail in the same way everywhere, and not only on the production server.

    Test: Each operation is called with such topics.
    """
    queue = await ctx.queue()
    for topic in wrong_names(ctx.prefix):
        await all_refused(
            {
                f"put on the topic {topic!r:.50}": queue.put(topic, [b"x"]),
                f"receive from the topic {topic!r:.50}": queue.receive(topic, limit=1, wait=0),
                f"stats of the topic {topic!r:.50}": queue.stats(topic),
                f"dead of the topic {topic!r:.50}": queue.dead(topic, limit=1),
                f"redrive of the topic {topic!r:.50}": queue.redrive(topic, limit=1),
                f"drop of the topic {topic!r:.50}": queue.drop(topic, limit=1),
            }
        )


@rule("QUEUE-BATCH-07")
async def largest_limit(ctx: Context) -> None:
    """A limit is an int of up to 2**31. A larger one is refused with `ArgumentError`.

    Why: "All of them" is a large number, which must not become a negative one in 32 bits, or an error of the server.

    Test: Messages are received, listed as dead letters, redriven and dropped with limits from 2**31 - 1 to 2**31. Then
    2**31 + 1, 2**63, 10**5000 and 1.5 are refused.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    bodies = [b"%d" % number for number in range(3)]
    await queue.put(topic, bodies)
    for limit in (LARGEST_LIMIT - 1, LARGEST_LIMIT):
        found = list[bytes]()
        while len(found) < len(bodies):
            came = await ctx.take(queue, topic, limit=limit, wait=ctx.grace)
            check(bool(came), f"a receive with the limit {limit} returned no message while some were ready")
            for each in came:
                await queue.bury(each, "large limit")
            found += [each.body for each in came]
        same_bodies(found, bodies, f"the messages received with the limit {limit}")
        same_bodies([each.body for each in await queue.dead(topic, limit=limit)], bodies, f"dead with limit {limit}")
        equal(await queue.redrive(topic, limit=limit), len(bodies), f"the result of redrive with limit {limit}")
    for each in await ctx.take_all(queue, topic, len(bodies)):
        await queue.bury(each, "to drop")
    equal(await queue.drop(topic, limit=LARGEST_LIMIT), len(bodies), "the result of drop with the limit 2**31")
    wrong: list[Any] = [LARGEST_LIMIT + 1, 2**63, 10**5000, 1.5]
    for limit in wrong:
        await all_refused(
            {
                f"receive with the limit {shown(limit)}": queue.receive(topic, limit=limit, wait=0),
                f"dead with the limit {shown(limit)}": queue.dead(topic, limit=limit),
                f"redrive with the limit {shown(limit)}": queue.redrive(topic, limit=limit),
                f"drop with the limit {shown(limit)}": queue.drop(topic, limit=limit),
            }
        )


@rule("QUEUE-BODY-05")
async def only_bytes(ctx: Context) -> None:
    """`put` refuses bodies that are not bytes, and one body instead of a batch, with `ArgumentError`.

    Why: Python can iterate over bytes and text. `put(topic, b"abc")` would put three messages, or the number 97.

    Test: Bytes and text are put instead of a batch, and batches with text, numbers, bytearrays and None in them. No
    message is put.
    """
    queue, topic = await ctx.queue(), ctx.topic()
    for bodies in NOT_ONLY_BYTES:
        refused(await raised(queue.put(topic, bodies)), ArgumentError, f"put of {bodies!r}")
    await ctx.none_left(queue, topic, "every put was refused")
