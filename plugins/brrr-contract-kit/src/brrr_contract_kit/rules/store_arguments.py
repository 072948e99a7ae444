"""Rules on the arguments of a store, a cache and steps at the ends of their ranges: keys, values and counters."""

from itertools import chain
from typing import Any

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.arguments import NOT_BYTES, all_refused, long_names, with_nul, wrong_names
from brrr_contract_kit.testbed.checks import broken, described, equal, refused, shown
from brrr_contract_kit.testbed.context import Context, raised
from brrr_contract_kit.testbed.stepped import NOTHING_LEASED, stepped_backend
from brrr_core.backend import LARGEST_COUNT, Cache, Count, Key, Message, Step, Swap
from brrr_core.errors import ArgumentError, BrrrError


@rule("STORE-KEY-04")
async def wrong_hashes(ctx: Context) -> None:
    """A call hash has up to 1,024 printable US-ASCII characters. Any other is refused with `ArgumentError`.

    Why: If a hash is cut, two calls share a result. The protocol allows no other characters in messages.

    Test: Hashes of 1,024 characters that differ at one end are written and read. Longer ones, the empty one, and hashes
    with NUL, other control characters, half of a surrogate pair or other letters are refused by read, write and swap.
    """
    store = await ctx.store()
    keys = [ctx.own_key(Key("value", name)) for name in long_names(ctx.prefix) if name.isascii()]
    values = [b"%d" % number for number in range(len(keys))]
    await store.write(list(zip(keys, values, strict=True)))
    equal(await store.read(keys), values, "the values of hashes of 1,024 characters")
    for name in [*wrong_names(ctx.prefix), *with_nul(ctx.prefix)[:1], "a\n", "\x7f", "é", "🦆"]:
        key = Key("value", name)
        await all_refused(
            {
                f"read of the hash {name!r:.50}": store.read([key]),
                f"write of the hash {name!r:.50}": store.write([(key, b"x")]),
                f"swap of the hash {name!r:.50}": store.swap([Swap(key, None, b"x")]),
            }
        )


@rule("STORE-VALUE-04")
async def only_bytes_as_values(ctx: Context) -> None:
    """Writes and swaps refuse values that are not bytes with `ArgumentError`, and their batch has no effect.

    Why: A server that stores text would return other bytes, or text, to the codec.

    Test: Text, numbers, bytearrays and memoryviews are written, swapped in and expected. None is written.
    """
    store, one, two = await ctx.store(), ctx.key(), ctx.key()
    for value in NOT_BYTES:
        swaps = [Swap(one, None, b"x"), Swap(two, None, value)]
        refused(await raised(store.write([(one, b"x"), (two, value)])), ArgumentError, f"write of {value!r}")
        refused(await raised(store.swap(swaps)), ArgumentError, f"swap to {value!r}")
        swaps = [Swap(one, None, b"x"), Swap(two, value, b"x")]
        refused(await raised(store.swap(swaps)), ArgumentError, f"swap that expects {value!r}")
    nothing: Any = None
    refused(await raised(store.write([(one, b"x"), (two, nothing)])), ArgumentError, "write of None")
    equal(await store.read([one, two]), [None, None], "the records after refused batches")


@rule("CACHE-COUNT-04")
async def exact_range(ctx: Context) -> None:
    """A counter is exact from -2**62 to 2**62. Beyond, an increment is exact or fails: it never wraps or rounds.

    Why: A count that wraps to a negative number never reaches its limit. A float rounds from 2**53 on.

    Test: Counters are increased by odd numbers near 2**53 and up to 2**62, and decreased likewise. Then they are
    increased beyond the range in steps of 2**62. Each result is exact, or the increment raises an error of brrr and
    changes nothing. Larger amounts, fractions and text are refused with `ArgumentError`.
    """
    cache, up, down = await ctx.cache(), ctx.counter(), ctx.counter()
    amounts = [2**53 + 1, 2, LARGEST_COUNT - 2**53 - 4, 1, 0, -1, 1]
    count = 0
    for amount in amounts:
        count += amount
        equal(await cache.increment({up: amount, down: -amount}), {up: count, down: -count}, "counters up to 2**62")
    for name, sign in ((up, 1), (down, -1)):
        count = await _beyond(cache, name, sign)
        while count:  # also so that the clean-up can set them back
            amount = max(-LARGEST_COUNT, min(LARGEST_COUNT, -count))
            count += amount
            equal(await cache.increment({name: amount}), {name: count}, "a counter on its way back to 0")
    wrong: list[Any] = [LARGEST_COUNT + 1, -LARGEST_COUNT - 1, 2**63, 2**64, 10**5000, 1.0, "1", None]
    for amount in wrong:
        refused(await raised(cache.increment({up: amount})), ArgumentError, f"an increment by {shown(amount)}")
    equal(await cache.increment({up: 0}), {up: 0}, "the counter after refused increments")


async def _beyond(cache: Cache, name: str, sign: int) -> int:
    """Increase a counter of 2**62 beyond it, and return the counter."""
    count = sign * LARGEST_COUNT
    for amount in (LARGEST_COUNT - 1, 1, 3, LARGEST_COUNT, LARGEST_COUNT):
        try:
            after = await cache.increment({name: sign * amount})
        except BrrrError:
            pass
        except Exception as error:  # noqa: BLE001 - a backend can raise anything
            broken(f"an increment beyond the range raised {described(error)}, not an error of brrr", cause=error)
        else:
            count += sign * amount
            equal(after, {name: count}, "a counter beyond 2**62")
        equal(await cache.increment({name: 0}), {name: count}, "the counter, read")
    return count


@rule("CACHE-COUNT-05")
async def any_counter(ctx: Context) -> None:
    """The name of a counter has up to 1,024 bytes in UTF-8, of which all count. Any other is refused: `ArgumentError`.

    Why: If a name is cut, two schedules share one spawn limit.

    Test: Counters of 1,024 bytes that differ at one end, and with and without NUL, are incremented by amounts of their
    own. Longer and empty names, and names with half of a surrogate pair, are refused.
    """
    cache = await ctx.cache()
    names = [ctx.own_counter(name) for name in [*long_names(ctx.prefix), *with_nul(ctx.prefix)]]
    amounts = {name: number + 1 for number, name in enumerate(names)}
    equal(await cache.increment(amounts), amounts, "counters with long names, and with NUL")
    equal(await cache.increment(dict.fromkeys(amounts, 0)), amounts, "counters with long names, and with NUL, read")
    for name in wrong_names(ctx.prefix):
        refused(await raised(cache.increment({name: 1})), ArgumentError, f"an increment of {name!r:.50}")
        refused(await raised(cache.increment({name: 0})), ArgumentError, f"a read of {name!r:.50}")


@rule("STEPS-SIZE-03")
async def wrong_steps(ctx: Context) -> None:
    """A commit refuses the arguments that the roles refuse, with `ArgumentError`, and applies no step of its batch.

    Why: The engine uses steps instead of the simple operations, and must see the same errors.

    Test: Steps with wrong topics, bodies, hashes, values, counters and amounts are committed behind a right step.
    Nothing is applied. Counts near 2**62 are exact.
    """
    at, key, topic, counter = await stepped_backend(ctx), ctx.key(), ctx.topic(), ctx.counter()
    names = wrong_names(ctx.prefix)
    wrong: list[Step] = [
        *(Step([], messages=[Message(name, b"x")]) for name in names),
        *(Step([], messages=[Message(topic, body)]) for body in NOT_BYTES),
        *chain.from_iterable(
            (Step([(bad, None)]), Step([], writes=[(bad, b"x")]), Step([], marks=[(bad, None)]))
            for bad in (Key("value", name) for name in [*names, "a\0b", "é"])
        ),
        *chain.from_iterable(
            (Step([(key, value)]), Step([], writes=[(key, value)]), Step([], marks=[(key, value)]))
            for value in NOT_BYTES
        ),
        *(Step([], [Count(name, 1, 10)]) for name in names),
        *(Step([], [Count(counter, amount, 2**70)]) for amount in (LARGEST_COUNT + 1, 2**64)),
    ]
    right = Step([(key, None)], [Count(counter, 1, 10)], [(key, b"x")], [Message(topic, b"x")])
    for step in wrong:
        refused(await raised(at.steps.commit([right, step])), ArgumentError, f"a commit of {step!r:.200}")
    equal(await at.store.read([key]), [None], "the record after refused commits")
    equal(await at.counts(counter), [0], "the counter after refused commits")
    await ctx.none_left(at.queue, topic, "every commit was refused")
    most = LARGEST_COUNT
    results = await at.commit(
        Step([], [Count(counter, most - 2, most)]),
        Step([], [Count(counter, 3, most)]),
        Step([], [Count(counter, 1, most)]),
        Step([], [Count(counter, 2, most)]),
        Step([], [Count(counter, 1, most)]),
    )
    equal(results, [NOTHING_LEASED, None] * 2 + [NOTHING_LEASED], "the results of counts near 2**62")
    equal(await at.counts(counter), [most], "the counter after counts near 2**62")
