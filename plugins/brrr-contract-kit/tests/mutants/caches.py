"""Caches that count wrongly."""

import asyncio

from mutants.kit import CacheOver, breaks


@breaks("CACHE-COUNT-01")
class CountsBefore(CacheOver):
    """An increment returns the count before it."""

    async def increment(self, amounts):
        return {name: count - amounts[name] for name, count in (await self.inner.increment(amounts)).items()}


@breaks("CACHE-COUNT-01")
class NeverBelowZero(CacheOver):
    """A counter does not go below 0."""

    async def increment(self, amounts):
        after = await self.inner.increment(amounts)
        below = {name: -count for name, count in after.items() if count < 0}
        return {**after, **await self.inner.increment(below)}


@breaks("CACHE-COUNT-01")
class ThirtyTwoBits(CacheOver):
    """A counter has 32 bits."""

    async def increment(self, amounts):
        after = await self.inner.increment(amounts)
        return {name: (count + 2**31) % 2**32 - 2**31 for name, count in after.items()}


@breaks("CACHE-COUNT-02")
class CountsTheFirstHundred(CacheOver):
    """Only the first hundred counters of an operation are incremented."""

    async def increment(self, amounts):
        after = await self.inner.increment(dict(list(amounts.items())[:100]))
        return {name: after.get(name, 0) for name in amounts}


@breaks("CACHE-COUNT-03")
class IgnoresCaseOfNames(CacheOver):
    """Counters whose names differ only in case are one counter."""

    async def increment(self, amounts):
        return {name: (await self.inner.increment({name.lower(): by}))[name.lower()] for name, by in amounts.items()}


@breaks("CACHE-RACE-01", "CACHE-RACE-02")
class ReadsThenWrites(CacheOver):
    """An increment reads the counter and then writes the sum."""

    async def increment(self, amounts):
        before = await self.inner.increment(dict.fromkeys(amounts, 0))
        await asyncio.sleep(0)
        now = await self.inner.increment(dict.fromkeys(amounts, 0))
        return await self.inner.increment({name: before[name] + by - now[name] for name, by in amounts.items()})


@breaks("CACHE-RACE-01")
class AddsThenReads(CacheOver):
    """An increment adds and then reads: no count is lost, but two clients can get the same number."""

    async def increment(self, amounts):
        await self.inner.increment(amounts)
        await asyncio.sleep(0)
        return await self.inner.increment(dict.fromkeys(amounts, 0))


@breaks("CACHE-RACE-02")
class CountsForItself(CacheOver):
    """Each backend has its own counters."""

    async def increment(self, amounts):
        mine = f" of {id(self)}"
        after = await self.inner.increment({name + mine: amount for name, amount in amounts.items()})
        return {name: after[name + mine] for name in amounts}


@breaks("CACHE-CANCEL-01")
class CountsTwice(CacheOver):
    """A cancelled increment counts twice, because it tries again."""

    async def increment(self, amounts):
        after = await self.inner.increment(amounts)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self.inner.increment(amounts)
            raise
        return after
