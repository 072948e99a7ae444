"""Rules CACHE-COUNT and CACHE-RACE: exact counts, whoever counts at the same time."""

from asyncio import gather
from collections.abc import Sequence
from functools import partial
from itertools import chain
from time import time
from typing import Final

from brrr_core.backend import Cache
from brrr_core.contract.checks import check, equal
from brrr_core.contract.context import Context
from brrr_core.contract.registry import rule

NAMES: Final = [
    " ",
    "/",
    "//",
    "a:b",
    "a.b",
    "*",
    ">",
    "{a}",
    "{a}b",
    "'",
    '"',
    "\\",
    "%",
    "a",
    "A",
    "é",
    "e\u0301",
    "🦆",
    "x" * 500,
]
LARGE: Final = 10**15


@rule("CACHE-COUNT-01")
async def counts(ctx: Context) -> None:
    """A counter begins at 0, and an increment gives what it is after it: of any amount, negative and 0 too.

    Why: The spawn limit compares the count of a root with a bound; a schedule with a limit of its own counts up to it
    from far below 0.

    Test: A counter is read by 0, increased, decreased below 0, increased by a large number, and read. Another begins at
    minus 10**15, and is counted up past 0.
    """
    cache, name = await ctx.cache(), ctx.counter()
    seen = [(await cache.increment({name: amount}))[name] for amount in (0, 1, 1, 5, -10, 0, LARGE, -LARGE, 3)]
    equal(seen, [0, 1, 2, 7, -3, -3, LARGE - 3, -3, 0], "a counter after +0, +1, +1, +5, -10, +0, +10**15, -10**15, +3")
    low = ctx.counter()
    seen = [(await cache.increment({low: amount}))[low] for amount in (-LARGE, 1, LARGE - 2, 1, 1)]
    equal(seen, [-LARGE, 1 - LARGE, -1, 0, 1], "a counter after -10**15, +1, +10**15 - 2, +1, +1")


@rule("CACHE-COUNT-02")
async def many_counters(ctx: Context) -> None:
    """One call increases many counters, each by its own amount, and gives each by its name; none gives none.

    Why: The children of a gather are counted in one call, for all their roots.

    Test: 1,000 counters are increased by amounts of their own, and set back; an empty mapping gives an empty dict.
    """
    cache = await ctx.cache()
    amounts = {ctx.counter(): number - 500 for number in range(1000)}
    check(await cache.increment(amounts) == amounts, "1,000 new counters are not what they were increased by")
    back = {name: -amount for name, amount in amounts.items()}
    zeros = dict.fromkeys(amounts, 0)
    check(await cache.increment(back) == zeros, "1,000 counters are not 0 after they were set back")
    equal(await cache.increment({}), {}, "what an increment of no counters gives")


@rule("CACHE-COUNT-03")
async def hostile_names(ctx: Context) -> None:
    """Counters of different names are different counters, whatever the names are.

    Why: A root id is any ASCII token of any SDK; two roots that share a counter would stop each other.

    Test: A score of hostile names are each increased by an amount of their own.
    """
    cache = await ctx.cache()
    amounts = {ctx.own_counter(f"{ctx.prefix}{name}"): number + 1 for number, name in enumerate(NAMES)}
    equal(await cache.increment(amounts), amounts, "counters of hostile names")
    equal(await cache.increment(dict.fromkeys(amounts, 0)), amounts, "counters of hostile names, read")


@rule("CACHE-RACE-01")
async def exact(ctx: Context) -> None:
    """Increments at the same time are all counted, and no two by 1 give the same number.

    Why: A count that is too low lets an infinite recursion run on.

    Test: Ten clients add 1 to one counter twenty times each: the numbers that they get are 1 to 200, each once.
    """
    cache, name = await ctx.cache(), ctx.counter()
    seen = await _count([cache], name)
    equal(sorted(seen), list(range(1, 201)), "the numbers that ten clients got")


async def _count(caches: Sequence[Cache], name: str) -> list[int]:
    """The numbers that ten clients get, on these backends in turn."""

    async def client(number: int) -> list[int]:
        cache = caches[number % len(caches)]
        return [(await cache.increment({name: 1}))[name] for _ in range(20)]

    return [*chain.from_iterable(await gather(*(client(number) for number in range(10))))]


@rule("CACHE-RACE-02", pair=True)
async def exact_between_backends(ctx: Context) -> None:
    """Two backends on one URL count with the same counters, exactly.

    Why: Each worker has a backend of its own.

    Test: As CACHE-RACE-01, with the clients on two backends.
    """
    one, other, name = await ctx.cache(), await ctx.cache(), ctx.counter()
    seen = await _count([one, other], name)
    equal(sorted(seen), list(range(1, 201)), "the numbers that ten clients of two backends got")


@rule("CACHE-RACE-03", needs="cache.shared", processes=True)
async def exact_between_processes(ctx: Context) -> None:
    """Several processes count with the same counters, exactly.

    Why: A workflow is spread over the fleet; its count must be one.

    Test: Three processes add 1 fifty times each, from one moment on: the numbers are 1 to 150, each once.
    """
    cache, name = await ctx.cache(), ctx.counter()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    at = time() + 0.3
    parts = await gather(*(agent.do("increment", name=name, times=50, at=at) for agent in agents))
    equal(sorted(chain.from_iterable(parts)), list(range(1, 151)), "the numbers that three processes got")
    equal(await cache.increment({name: 0}), {name: 150}, "the counter, read here")


@rule("CACHE-CANCEL-01")
async def increment_cancelled(ctx: Context) -> None:
    """An increment that is cancelled has counted once or not at all, and others are counted on.

    Why: A worker is told to stop while it schedules.

    Test: Increments by 1,000 are cancelled after 0, 1, 2 … turns of the loop; the counter then holds 0 or 1,000, and
    one more if 1 is added.
    """
    cache = await ctx.cache()
    turns = await ctx.turns_of(partial(cache.increment, {ctx.counter(): 1}))
    for point in ctx.points(turns):
        name = ctx.counter()
        await ctx.cancelled(partial(cache.increment, {name: 1000}), point)
        after = await cache.increment({name: 1})
        check(after[name] in {1, 1001}, f"after a cancelled increment by 1000 and one by 1 a counter is {after[name]}")


@rule("CACHE-DURABLE-01", needs="cache.durable", processes=True)
async def survives_death(ctx: Context) -> None:
    """What was counted survives the death of the process that counted.

    Why: It is declared.

    Test: A process counts to five and is killed; the URL is opened, and the counter is 5.
    """
    name = ctx.counter()
    agent = await ctx.agent()
    await agent.do("increment", name=name, times=5, at=0)
    await agent.kill()
    cache = await ctx.cache()
    equal(await cache.increment({name: 0}), {name: 5}, "the counter of a dead process")
