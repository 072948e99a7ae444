"""Rules QUEUE-TOPIC: topics with any names are separate."""

from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import equal, refused
from brrr_contract_kit.testbed.context import Context, raised
from brrr_core.errors import ArgumentError

HOSTILE: Final = [
    *(" ", "a b", "a_b", "a-b", "a+b", "a%20b", "a%2520b", "a=20b"),
    *("a/b", "a//b", "/a/b", "a/b/", "../b", ".", "..", "a.b", "a..b", "a:b", "a::b", "a\\b", "a|b"),
    *("*", "a.*", ">", "a.>", "#", "a/#", "?", "[a]", "{a}", "{a}b", "$SYS", "$a", "~", "^", "&", "@", "!", ","),
    *("'", '"', "';--", "`a`", "<a>", "a\tb", "a\nb", "a\r\nb", "a\0b", "a", "A", "a ", " a", "a.dead", "a:dead"),
    *("é", "e\u0301", "É", "ß", "ss", "☃", "🦆", "日本", "\u202ea", "\ufeffa", "a\u200bb", "None", "null", "0"),
]
"""Names with a special meaning in some server, and names with which they could collide."""

LONG: Final = 1000


@rule("QUEUE-TOPIC-01")
async def hostile_topics(ctx: Context) -> None:
    """A topic is any non-empty text, and topics never mix: spaces, slashes, wildcards, Unicode, case.

    Why: Users name topics. If a message lands in another topic, a worker without its handler receives it.

    Test: One message is put on each of some seventy hostile names, which stand at the beginning and at the end of a
    topic. Each topic delivers its own message and no other.
    """
    queue = await ctx.queue()
    named = [ctx.own_topic(f"{ctx.prefix}{name}") for name in HOSTILE] + [
        ctx.own_topic(f"{name}{ctx.prefix}") for name in HOSTILE
    ]
    for topic in named:
        await queue.put(topic, [topic.encode()])
    for topic in named:
        deliveries = await ctx.take(queue, topic, limit=10, wait=ctx.grace)
        equal([each.body for each in deliveries], [topic.encode()], f"the messages of the topic {topic!r}")
        equal(deliveries[0].topic, topic, "the topic of a delivery")
        await queue.ack(deliveries)


@rule("QUEUE-TOPIC-02")
async def long_topics(ctx: Context) -> None:
    """Topics of 1,000 characters work, and two that differ only in the last character are two topics.

    Why: A limit on names in the server must not cut a topic and mix it with another.

    Test: Each of two such topics gets a message and delivers its own.
    """
    queue = await ctx.queue()
    begin = ctx.prefix.ljust(LONG - 1, "x")
    for last in "ab":
        await queue.put(ctx.own_topic(begin + last), [last.encode()])
    for last in "ab":
        deliveries = await ctx.take(queue, begin + last, limit=10, wait=ctx.grace)
        equal([each.body for each in deliveries], [last.encode()], f"the messages of the topic that ends in {last!r}")


@rule("QUEUE-TOPIC-03")
async def empty_topic(ctx: Context) -> None:
    """Every operation that takes a topic refuses the empty topic with `ArgumentError`.

    Why: An empty topic is a mistake of the caller. It must be reported before a message is put on a topic without
    workers.

    Test: put, receive, stats, dead, redrive and drop are called with it.
    """
    queue = await ctx.queue()
    operations = {
        "put": queue.put("", [b"x"]),
        "receive": queue.receive("", limit=1, wait=0),
        "stats": queue.stats(""),
        "dead": queue.dead("", limit=1),
        "redrive": queue.redrive("", limit=1),
        "drop": queue.drop("", limit=1),
    }
    errors = {name: await raised(operation) for name, operation in operations.items()}
    for name, error in errors.items():
        refused(error, ArgumentError, f"{name} on the empty topic")


@rule("QUEUE-TOPIC-04")
async def topics_apart(ctx: Context) -> None:
    """Dead letters, statistics, `redrive` and `drop` of one topic do not affect another topic.

    Why: An operator who redrives one topic must not run the dead letters of others.

    Test: Two topics, one of which is a prefix of the other, have a dead letter each. One of the dead letters is
    dropped.
    """
    queue = await ctx.queue()
    first = ctx.topic()
    second = ctx.own_topic(f"{first}-more")
    for topic in (first, second):
        await queue.put(topic, [topic.encode()])
        await queue.bury(await ctx.take_one(queue, topic), f"reason of {topic}")
    for topic in (first, second):
        letters = await queue.dead(topic, limit=10)
        equal([(each.topic, each.body) for each in letters], [(topic, topic.encode())], "the dead letters of a topic")
    equal(await queue.drop(first, limit=10), 1, "the result of drop on one topic")
    equal(await queue.redrive(first, limit=10), 0, "the result of redrive on a topic without dead letters")
    equal(len(await queue.dead(second, limit=10)), 1, "the number of dead letters of the other topic")
    await ctx.none_left(queue, first, "no dead letter of this topic was redriven")
