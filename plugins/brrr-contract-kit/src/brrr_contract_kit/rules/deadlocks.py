"""Rules on concurrent batches that name the same keys in opposite orders: none of them may fail."""

from asyncio import gather
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, check, described, equal, same_bodies
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.stepped import stepped_backend
from brrr_core.backend import Count, Message, Step, Swap

ResultT = TypeVar("ResultT")

MANY: Final = 30
ROUNDS: Final = 8


async def _together(what: str, operations: Iterable[Awaitable[ResultT]]) -> list[ResultT]:
    """Run operations at the same time. None may fail."""
    results: list[Any] = await gather(*operations, return_exceptions=True)
    for each in results:
        if isinstance(each, Exception):
            broken(f"one of several {what} over the same keys failed: {described(each)}", cause=each)
    return results


@rule("STORE-RACE-06", pair=True)
async def batches_of_records(ctx: Context) -> None:
    """Concurrent writes and swaps of the same keys in opposite orders never fail.

    Why: Two gathers share children, and each orders them as its handler does. A server that detects a deadlock fails
    one of two transactions, and the call with it.

    Test: Eight times, four clients on two backends write 30 keys in both orders. Then they swap them: one of four swaps
    of each key takes place.
    """
    stores = [await ctx.store(), await ctx.store()]
    keys = [ctx.key() for _ in range(MANY)]
    orders = [(stores[number % 2], keys[:: 1 if number < 2 else -1]) for number in range(4)]
    for number in range(ROUNDS):
        await _together(
            "writes",
            (store.write([(key, b"%d" % client) for key in order]) for client, (store, order) in enumerate(orders)),
        )
        before = dict(zip(keys, await stores[0].read(keys), strict=True))
        check({*before.values()} <= {b"0", b"1", b"2", b"3"}, f"the records after writes: {before}")
        swaps = await _together(
            "swaps",
            (
                store.swap([Swap(key, before[key], b"round %d of %d" % (number, client)) for key in order])
                for client, (store, order) in enumerate(orders)
            ),
        )
        done = Counter[Any]()
        for (_, order), results in zip(orders, swaps, strict=True):
            done.update(key for key, took_place in zip(order, results, strict=True) if took_place)
        equal([done[key] for key in keys], [1] * MANY, "how many of four concurrent swaps of each key took place")


@rule("CACHE-RACE-04", pair=True)
async def batches_of_counters(ctx: Context) -> None:
    """Concurrent increments of the same counters in opposite orders never fail.

    Why: A gather counts for several root ids in one operation.

    Test: Eight times, four clients on two backends add 1 to 30 counters, in both orders. Every counter is then 32.
    """
    caches = [await ctx.cache(), await ctx.cache()]
    counters = [ctx.counter() for _ in range(MANY)]
    for _ in range(ROUNDS):
        await _together(
            "increments",
            (
                caches[number % 2].increment(dict.fromkeys(counters[:: 1 if number < 2 else -1], 1))
                for number in range(4)
            ),
        )
    counts = await caches[0].increment(dict.fromkeys(counters, 0))
    equal(counts, dict.fromkeys(counters, 4 * ROUNDS), "the counters after concurrent increments")


@rule("QUEUE-BATCH-08", pair=True)
async def batches_of_deliveries(ctx: Context) -> None:
    """Concurrent puts, extensions, releases and acknowledgements of the same messages in opposite orders never fail.

    Why: A worker extends its leases while its other tasks settle some of these deliveries.

    Test: Two backends receive the messages of two topics. Eight times they extend all their deliveries in both orders,
    while they put others. Then half is acknowledged and half is released, in opposite orders, while all are extended.
    The released ones and the others are delivered, and no other message.
    """
    queues, topics = [await ctx.queue(), await ctx.queue()], [ctx.topic(), ctx.topic()]
    bodies = [b"%d" % number for number in range(MANY)]
    for topic in topics:
        await queues[0].put(topic, bodies)
    held = [[each for topic in topics for each in await ctx.take_all(queue, topic, MANY // 2)] for queue in queues]
    pairs = list(zip(queues, held, strict=True))
    for number in range(ROUNDS):
        extensions = [queue.extend(mine[::order]) for queue, mine in pairs for order in (1, -1)]
        puts = [queue.put(topic, [b"more %d" % number]) for queue in queues for topic in topics]
        await _together("extensions and puts", [*extensions, *puts])
    settled = [
        (queue.extend(mine), queue.ack(mine[::2]), queue.release(mine[1::2][::-1]), queue.extend(mine[::-1]))
        for queue, mine in pairs
    ]
    await _together("extensions, acknowledgements and releases", [each for four in settled for each in four])
    for topic in topics:
        wanted = [each.body for mine in held for each in mine[1::2] if each.topic == topic]
        wanted += [b"more %d" % number for number in range(ROUNDS)] * 2
        found = await ctx.take_all(queues[1], topic, len(wanted), within=2 * ctx.grace)
        same_bodies([each.body for each in found], wanted, "the messages that were not acknowledged")
        await ctx.none_left(queues[0], topic, "the other messages were acknowledged")


@rule("STEPS-RACE-05", pair=True)
async def batches_of_steps(ctx: Context) -> None:
    """Concurrent commits of the same records, counters and topics in opposite orders never fail.

    Why: Two workers return calls that share parents and root ids.

    Test: Eight times, four clients on two backends commit two steps each, which write 30 records, add to ten counters,
    put on two topics and acknowledge, in both orders. Every step is applied, and has all its effects.
    """
    backends = [await stepped_backend(ctx), await stepped_backend(ctx)]
    keys, counters = [ctx.key() for _ in range(MANY)], [ctx.counter() for _ in range(MANY // 3)]
    topics, acked = [ctx.topic(), ctx.topic()], ctx.topic()
    for number in range(ROUNDS):
        steps = list[tuple[int, Step]]()
        for client in range(4):
            at, order = backends[client % 2], 1 if client < 2 else -1
            writes = [(key, b"%d" % client) for key in keys[::order]]
            counts = [Count(counter, 1, 10_000) for counter in counters[::order]]
            messages = [Message(topic, b"%d %d" % (number, client)) for topic in topics[::order]]
            acks = [await at.put(acked, b"acked")]
            steps.append((client % 2, Step([], counts, writes, messages, acks=acks)))
        results = await _together("commits", (backends[side].commit(step, step) for side, step in steps))
        check(all(each is not None for result in results for each in result), "a step that expects nothing was refused")
    equal(await backends[0].counts(*counters), [8 * ROUNDS] * len(counters), "the counters after concurrent commits")
    for topic in topics:
        wanted = [b"%d %d" % (number, client) for number in range(ROUNDS) for client in range(4)] * 2
        found = await ctx.take_all(backends[1].queue, topic, len(wanted), within=2 * ctx.grace)
        same_bodies([each.body for each in found], wanted, "the messages of concurrent commits")
    await ctx.none_left(backends[0].queue, acked, "the steps acknowledged them")
