"""Rules STORE-CANCEL-03, STORE-PROC-01 and CACHE-PROC-01: writes, swaps and increments are cut off in the middle."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.testbed.checks import broken, check
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.interruptions import NEW, OLD, swaps_of, values_of
from brrr_core.backend import Key, Store, Swap

LARGE: Final = 1_200_000
"""Bytes of a value that a store may keep in parts: servers limit the size of a record to 1 MiB and less."""

BATCH: Final = 5
AMOUNT: Final = 1000
COUNTERS: Final = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """Records that interrupted operations replace, create, swap or delete. The first of each group is large."""

    replaced: list[Key]
    created: list[Key]
    swapped: list[Key]
    deleted: list[Key]
    large: int

    @property
    def written(self) -> list[tuple[Key, bytes]]:
        """The items of the one write."""
        return [*values_of(self.replaced, self.large, NEW), *values_of(self.created, self.large, NEW)]

    @property
    def swaps(self) -> list[Swap]:
        """The swaps of the one batch."""
        return swaps_of(self.swapped, self.deleted, self.large)

    async def begin(self, store: Store) -> None:
        """Write the old records."""
        for keys in (self.replaced, self.swapped, self.deleted):
            await store.write(values_of(keys, self.large, OLD))

    async def check(self, store: Store, after: str) -> None:
        """Check that each record is the old or the new one."""
        for keys, may_be_absent, may_be in (
            (self.replaced, False, (OLD, NEW)),
            (self.created, True, (NEW,)),
            (self.swapped, False, (OLD, NEW)),
            (self.deleted, True, (OLD,)),
        ):
            allowed = [dict(values_of(keys, self.large, letter)) for letter in may_be]
            for key, found in zip(keys, await store.read(keys), strict=True):
                if not (may_be_absent and found is None) and found not in [each[key] for each in allowed]:
                    what = "absent" if found is None else f"{len(found)} bytes of {set(found)}"
                    broken(f"a record is neither the old nor the new one {after}, but {what}")


async def _planned(ctx: Context, store: Store) -> _Plan:
    """Return a plan whose records are written."""
    offered = ctx.target.manifest.store
    large = LARGE if offered is None else min(LARGE, offered.max_value)
    replaced, created, swapped, deleted = ([ctx.key() for _ in range(BATCH)] for _ in range(4))
    plan = _Plan(replaced, created, swapped, deleted, large)
    await plan.begin(store)
    return plan


@rule("STORE-CANCEL-03", limit=LONG)
async def batch_cancelled(ctx: Context) -> None:
    """A cancelled write or swap has changed each of its records completely or not at all.

    Why: A worker may be stopped while it writes many records, or one that the store keeps in parts. A reader must never
    see half a value, and a record that is replaced must not vanish.

    Test: Writes and swaps of ten records are cancelled after 0, 1, 2 … turns. Two records of each batch have 1.2 MB, if
    the manifest allows it. Another backend, if it shares the records, finds each record as it was or as it should
    become.
    """
    store = await ctx.store()
    other = await ctx.store() if ctx.target.shared("store") else store
    measured = await _planned(ctx, store)
    turns = await ctx.turns_of(partial(store.write, measured.written))
    for point in ctx.few_points(turns):
        plan = await _planned(ctx, store)
        await ctx.cancelled(partial(store.write, plan.written), point)
        await ctx.cancelled(partial(store.swap, plan.swaps), point)
        await plan.check(other, "after a cancelled operation")


@rule("STORE-PROC-01", needs="store.shared", processes=True, limit=LONG)
async def writer_killed(ctx: Context) -> None:
    """If a process is killed in the middle of a write or swap, each record was changed completely or not at all.

    Why: `kill -9` can come between any two statements.

    Test: As STORE-CANCEL-03, but a process writes and swaps at the same time, and is killed after 0, 1, 2 … turns of
    its loop. This process reads the records. The rule applies if the system can fork.
    """
    store, agent = await ctx.store(), await ctx.forking_agent()

    async def run(plan: _Plan, turns: int | None) -> int:
        groups = {"replaced": plan.replaced, "created": plan.created, "swapped": plan.swapped, "deleted": plan.deleted}
        hashes = {name: [key.call_hash for key in keys] for name, keys in groups.items()}
        done: int = await agent.do("store", **hashes, large=plan.large, turns=turns)
        return done

    for point in ctx.few_points(await run(await _planned(ctx, store), None)):
        plan = await _planned(ctx, store)
        await run(plan, point)
        await plan.check(store, "after its writer was killed")


@rule("CACHE-PROC-01", needs="cache.shared", processes=True, limit=LONG)
async def counter_killed(ctx: Context) -> None:
    """If a process is killed in the middle of an increment, each counter was increased once or not at all.

    Why: The count of a schedule must not restart because a worker dies.

    Test: A process increases three counters from 5 by 1,000, and is killed after 0, 1, 2 … turns of its loop. Here each
    of them is then 5 or 1,005. The rule applies if the system can fork.
    """
    cache, agent = await ctx.cache(), await ctx.forking_agent()

    async def counters() -> list[str]:
        names = [ctx.counter() for _ in range(COUNTERS)]
        await cache.increment(dict.fromkeys(names, 5))
        return names

    turns: int = await agent.do("cache", names=await counters(), amount=AMOUNT, turns=None)
    for point in ctx.few_points(turns):
        names = await counters()
        await agent.do("cache", names=names, amount=AMOUNT, turns=point)
        counts = await cache.increment(dict.fromkeys(names, 0))
        wrong = {count for count in counts.values() if count not in {5, 5 + AMOUNT}}
        check(not wrong, f"a counter is {wrong} after a process was killed that increased it from 5 by {AMOUNT}")
