"""Rules CACHE-COUNT, CACHE-RACE, CACHE-CANCEL and CACHE-DURABLE: exact counts under concurrency."""

from asyncio import gather
from collections.abc import Sequence
from functools import partial
from itertools import chain
from time import time
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.processes import HEAD_START
from brrr_core.backend import Cache

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
    """A counter starts at 0, and an increment by any amount, including negative ones and 0, returns the new count.

    Why: The spawn limit compares the count of a root id with a bound. A schedule with its own limit counts up to the
    bound from far below 0.

    Test: A counter is read by adding 0, increased, decreased below 0, increased by a large number, and read. Another
    starts at minus 10**15 and is counted up past 0.
    """
    cache, name = await ctx.cache(), ctx.counter()
    seen = [(await cache.increment({name: amount}))[name] for amount in (0, 1, 1, 5, -10, 0, LARGE, -LARGE, 3)]
    equal(seen, [0, 1, 2, 7, -3, -3, LARGE - 3, -3, 0], "a counter after +0, +1, +1, +5, -10, +0, +10**15, -10**15, +3")
    low = ctx.counter()
    seen = [(await cache.increment({low: amount}))[low] for amount in (-LARGE, 1, LARGE - 2, 1, 1)]
    equal(seen, [-LARGE, 1 - LARGE, -1, 0, 1], "a counter after -10**15, +1, +10**15 - 2, +1, +1")


@rule("CACHE-COUNT-02")
async def many_counters(ctx: Context) -> None:
    """One operation increments many counters, each by its own amount, and returns each new count by name.

    Why: The engine counts the children of a gather for all their root ids in one operation.

    Test: 1,000 counters are incremented by different amounts and set back. An empty mapping returns an empty dict.
    """
    cache = await ctx.cache()
    amounts = {ctx.counter(): number - 500 for number in range(1000)}
    check(await cache.increment(amounts) == amounts, "1,000 new counters are not what they were increased by")
    back = {name: -amount for name, amount in amounts.items()}
    zeros = dict.fromkeys(amounts, 0)
    check(await cache.increment(back) == zeros, "1,000 counters are not 0 after they were set back")
    equal(await cache.increment({}), {}, "the result of an empty increment")


@rule("CACHE-COUNT-03")
async def hostile_names(ctx: Context) -> None:
    """Counters with different names are different counters, for all names.

    Why: A root id is any ASCII token of any SDK. If two root ids shared a counter, one schedule would stop the other.

    Test: Some twenty hostile names are each incremented by their own amount.
    """
    cache = await ctx.cache()
    amounts = {ctx.own_counter(f"{ctx.prefix}{name}"): number + 1 for number, name in enumerate(NAMES)}
    equal(await cache.increment(amounts), amounts, "counters of hostile names")
    equal(await cache.increment(dict.fromkeys(amounts, 0)), amounts, "counters of hostile names, read")


@rule("CACHE-RACE-01")
async def exact(ctx: Context) -> None:
    """All concurrent increments are counted, and no two increments by 1 return the same number.

    Why: If the count is too low, an infinite recursion is not stopped.

    Test: Ten clients add 1 to one counter twenty times each. They get the numbers 1 to 200, each once.
    """
    cache, name = await ctx.cache(), ctx.counter()
    seen = await _count([cache], name)
    equal(sorted(seen), list(range(1, 201)), "the numbers that ten clients got")


async def _count(caches: Sequence[Cache], name: str) -> list[int]:
    """Return the numbers that ten clients get, spread over these backends."""

    async def client(number: int) -> list[int]:
        cache = caches[number % len(caches)]
        return [(await cache.increment({name: 1}))[name] for _ in range(20)]

    return [*chain.from_iterable(await gather(*(client(number) for number in range(10))))]


@rule("CACHE-RACE-02", pair=True)
async def exact_between_backends(ctx: Context) -> None:
    """Two backends on one URL share their counters, exactly.

    Why: Each worker has its own backend.

    Test: As CACHE-RACE-01, with the clients on two backends.
    """
    one, other, name = await ctx.cache(), await ctx.cache(), ctx.counter()
    seen = await _count([one, other], name)
    equal(sorted(seen), list(range(1, 201)), "the numbers that ten clients of two backends got")


@rule("CACHE-RACE-03", needs="cache.shared", processes=True)
async def exact_between_processes(ctx: Context) -> None:
    """Several processes share their counters, exactly.

    Why: A workflow runs on the whole fleet, and needs one count.

    Test: Three processes start at the same moment and add 1 fifty times each. They get the numbers 1 to 150, each once.
    """
    cache, name = await ctx.cache(), ctx.counter()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    at = time() + HEAD_START
    parts = await gather(*(agent.do("increment", name=name, times=50, at=at) for agent in agents))
    equal(sorted(chain.from_iterable(parts)), list(range(1, 151)), "the numbers that three processes got")
    equal(await cache.increment({name: 0}), {name: 150}, "the counter, read here")


@rule("CACHE-CANCEL-01")
async def increment_cancelled(ctx: Context) -> None:
    """A cancelled increment has increased each counter once or not at all, and other increments still work.

    Why: A worker may be stopped while it schedules.

    Test: Increments of three counters from 5 by 1,000 are cancelled after 0, 1, 2 … turns of the loop. Each counter
    then holds 5 or 1,005, and adding 1 returns one more.
    """
    cache = await ctx.cache()
    turns = await ctx.turns_of(partial(cache.increment, {ctx.counter(): 1 for _ in range(3)}))
    for point in ctx.points(turns):
        names = [ctx.counter() for _ in range(3)]
        await cache.increment(dict.fromkeys(names, 5))
        await ctx.cancelled(partial(cache.increment, dict.fromkeys(names, 1000)), point)
        after = await cache.increment(dict.fromkeys(names, 1))
        wrong = {count for count in after.values() if count not in {6, 1006}}
        check(not wrong, f"a counter of 5 is {wrong} after a cancelled increment by 1000 and one by 1")


@rule("CACHE-DURABLE-01", needs="cache.durable", processes=True)
async def survives_death(ctx: Context) -> None:
    """A count survives the death of the process that counted.

    Why: The manifest declares it.

    Test: A process counts to five and is killed. The URL is opened again, and the counter is 5.
    """
    name = ctx.counter()
    agent = await ctx.agent()
    await agent.do("increment", name=name, times=5, at=0)
    await agent.kill()
    cache = await ctx.cache()
    equal(await cache.increment({name: 0}), {name: 5}, "the counter of a dead process")
