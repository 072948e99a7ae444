"""Stores with a broken swap."""

import asyncio

from brrr_core.backend import Swap
from mutants.kit import StoreOver, breaks


class _OneByOne(StoreOver):
    """Executes the swaps of a batch one after another."""

    async def one(self, key, expected, new):
        return (await self.inner.swap([Swap(key, expected, new)]))[0]

    async def swap(self, swaps):
        return [await self.one(*swap) for swap in swaps]

    async def put(self, key, new):
        (old,) = await self.inner.read([key])
        await self.inner.swap([Swap(key, old, new)])


@breaks("STORE-SWAP-01")
class Creates(_OneByOne):
    """A swap that expects no record overwrites an existing one."""

    async def one(self, key, expected, new):
        if expected is None and new is not None:
            await self.inner.write([(key, new)])
            return True
        return await super().one(key, expected, new)


@breaks("STORE-SWAP-02")
class ComparesTheBeginning(_OneByOne):
    """A swap succeeds if the record begins with the expected bytes."""

    async def one(self, key, expected, new):
        (old,) = await self.inner.read([key])
        if expected is not None and old is not None and old.startswith(expected):
            expected = old
        return await super().one(key, expected, new)


@breaks("STORE-SWAP-02")
class ComparesAsText(_OneByOne):
    """A swap ignores case and surrounding spaces, as some servers compare text."""

    async def one(self, key, expected, new):
        (old,) = await self.inner.read([key])
        if expected is not None and old is not None and old.strip().lower() == expected.strip().lower():
            expected = old
        return await super().one(key, expected, new)


@breaks("STORE-SWAP-03")
class LeavesEmpty(_OneByOne):
    """A delete leaves an empty record."""

    async def one(self, key, expected, new):
        return await super().one(key, expected, b"" if new is None and expected is not None else new)


@breaks("STORE-SWAP-03")
class DeletesAnything(_OneByOne):
    """A delete ignores the expected record."""

    async def one(self, key, expected, new):
        (old,) = await self.inner.read([key])
        return await super().one(key, old if new is None else expected, new)


@breaks("STORE-SWAP-04")
class NothingIsEmpty(_OneByOne):
    """A swap that expects no record also replaces an empty record."""

    async def one(self, key, expected, new):
        return await super().one(key, expected, new) or (not expected and await super().one(key, b"", new))


@breaks("STORE-SWAP-05")
class AllOrNothing(StoreOver):
    """If one swap of a batch fails, all fail."""

    async def swap(self, swaps):
        found = await self.inner.read([swap.key for swap in swaps])
        if any(value != swap.expected for value, swap in zip(found, swaps, strict=True)):
            return [False] * len(swaps)
        return await self.inner.swap(swaps)


@breaks("STORE-SWAP-06")
class ComparesFirst(_OneByOne):
    """All swaps of a batch are compared with the records before the batch."""

    async def swap(self, swaps):
        found = await self.inner.read([swap.key for swap in swaps])
        done = [value == swap.expected for value, swap in zip(found, swaps, strict=True)]
        for swap, takes_place in zip(swaps, done, strict=True):
            if takes_place:
                await self.put(swap.key, swap.new)
        return done


@breaks("STORE-SWAP-06")
class LastOfTwo(StoreOver):
    """If a batch has several swaps of one key, only the last is executed, for all of them."""

    async def swap(self, swaps):
        last = {swap.key: swap for swap in swaps}
        done = dict(zip(last, await self.inner.swap(list(last.values())), strict=True))
        return [done[swap.key] for swap in swaps]


@breaks("STORE-SWAP-07")
class SameIsFalse(_OneByOne):
    """A swap that changes nothing returns False, like a count of changed rows."""

    async def one(self, key, expected, new):
        return await super().one(key, expected, new) and expected != new


@breaks("STORE-RACE-01", "STORE-RACE-02", "STORE-RACE-03", "STORE-LINEAR-01")
class ChecksThenActs(_OneByOne):
    """A swap reads, compares and then writes; other swaps can come in between."""

    async def one(self, key, expected, new):
        (old,) = await self.inner.read([key])
        await asyncio.sleep(0)
        if old != expected:
            return False
        await self.put(key, new)
        return True


@breaks("STORE-RACE-03")
class LosesUpdates(_OneByOne):
    """A replacement reads, compares and then writes; creating and deleting are atomic."""

    async def one(self, key, expected, new):
        if expected is None or new is None:
            return await super().one(key, expected, new)
        (old,) = await self.inner.read([key])
        await asyncio.sleep(0)
        if old != expected:
            return False
        await self.inner.write([(key, new)])
        return True


@breaks("STORE-RACE-02")
class TwoDeleters(_OneByOne):
    """A delete compares and then deletes, so that two concurrent deletes both succeed."""

    async def one(self, key, expected, new):
        if new is not None or expected is None:
            return await super().one(key, expected, new)
        (old,) = await self.inner.read([key])
        await asyncio.sleep(0)
        if old == expected:
            await self.put(key, None)
        return old == expected


@breaks("STORE-RACE-01")
class RetriesBlindly(_OneByOne):
    """A swap that collides is sent again although it succeeded, and then returns False."""

    busy = 0

    async def one(self, key, expected, new):
        self.busy += 1
        await asyncio.sleep(0)
        collided = self.busy > 1
        done = await super().one(key, expected, new)
        if collided:
            done = await super().one(key, expected, new)
        self.busy -= 1
        return done


@breaks("STORE-CANCEL-01")
class WritesInPieces(StoreOver):
    """A value is written in two pieces, and a cancellation can come in between."""

    async def write(self, items):
        await self.inner.write([(key, value[: len(value) // 2]) for key, value in items])
        await asyncio.sleep(0)
        await self.inner.write(items)


@breaks("STORE-CANCEL-02")
class SwapsSinkTogether(StoreOver):
    """The first swap of a batch sends the whole batch; if it is cancelled, all swaps are."""

    def __init__(self, inner):
        super().__init__(inner)
        self.batch = None

    async def swap(self, swaps):
        if self.batch is not None:
            begin = len(self.batch[0])
            self.batch[0].extend(swaps)
            return (await asyncio.shield(self.batch[1]))[begin : begin + len(swaps)]
        batch = self.batch = (list(swaps), asyncio.get_running_loop().create_future())
        try:
            await asyncio.sleep(0)
            self.batch = None
            batch[1].set_result(await self.inner.swap(batch[0]))
        except BaseException:
            self.batch = None
            batch[1].cancel()
            raise
        return batch[1].result()[: len(swaps)]


@breaks("STORE-SWAP-08", both=True)
class AnswersSame(_OneByOne):
    """A swap to the expected value succeeds without a look at the record."""

    async def one(self, key, expected, new):
        return (expected is not None and expected == new) or await super().one(key, expected, new)


@breaks("STORE-SWAP-09", both=True)
class RemembersRecords(_OneByOne):
    """A swap to the expected value is compared with what this backend last read or swapped."""

    def __init__(self, inner):
        super().__init__(inner)
        self.known = {}

    async def read(self, keys):
        found = await self.inner.read(keys)
        self.known.update(zip(keys, found, strict=True))
        return found

    async def one(self, key, expected, new):
        if expected == new and key in self.known:
            return self.known[key] == expected
        self.known.pop(key, None)
        return await super().one(key, expected, new)
