"""Stores with broken reads, writes, keys or values."""

import asyncio

from brrr_core.backend import Key, Swap
from mutants.kit import StoreOver, breaks

MAX = 64 * 1024 * 1024


@breaks("STORE-READ-01")
class SortsReads(StoreOver):
    """A read returns its values in the order of the key names, not of its arguments."""

    async def read(self, keys):
        return await self.inner.read(sorted(keys))


@breaks("STORE-READ-01")
class ReadsOnce(StoreOver):
    """If a key occurs twice in a batch, it is answered once."""

    async def read(self, keys):
        return await self.inner.read(list(dict.fromkeys(keys)))


class _Caches(StoreOver):
    """Caches the records that it reads."""

    def __init__(self, inner):
        super().__init__(inner)
        self.seen = {}

    async def read(self, keys):
        missing = [key for key in dict.fromkeys(keys) if key not in self.seen]
        self.seen |= dict(zip(missing, await self.inner.read(missing), strict=True))
        return [self.seen[key] for key in keys]

    async def write(self, items):
        await self.inner.write(items)
        self.seen |= dict(items)


@breaks("STORE-READ-02")
class StaleAfterSwap(_Caches):
    """A read after a swap returns the old record: only writes update the cache."""


@breaks("STORE-READ-03")
class StaleAfterOthers(_Caches):
    """A read misses changes of another backend: only its own changes update the cache."""

    async def swap(self, swaps):
        done = await self.inner.swap(swaps)
        for swap in swaps:
            self.seen.pop(swap.key, None)
        return done


@breaks("STORE-WRITE-01")
class WritesOnce(StoreOver):
    """A write does not change an existing record."""

    async def write(self, items):
        await self.inner.swap([Swap(key, None, value) for key, value in items])


@breaks("STORE-WRITE-01")
class FirstOfTwo(StoreOver):
    """If a key occurs twice in a batch, its first value stays."""

    async def write(self, items):
        await self.inner.write(list(items)[::-1])


@breaks("STORE-WRITE-02")
class WritesTheFirstHundred(StoreOver):
    """Only the first hundred items of a batch are written."""

    async def write(self, items):
        await self.inner.write(items[:100])


@breaks("STORE-WRITE-02", "STORE-SWAP-05")
class ResultsOutOfOrder(StoreOver):
    """The results of a batch of swaps are reordered: successful swaps come first."""

    async def swap(self, swaps):
        return sorted(await self.inner.swap(swaps), reverse=True)


class _Renames(StoreOver):
    """Stores records under other keys."""

    def name(self, key):
        return key

    async def read(self, keys):
        return await self.inner.read([self.name(key) for key in keys])

    async def write(self, items):
        await self.inner.write([(self.name(key), value) for key, value in items])

    async def swap(self, swaps):
        return await self.inner.swap([swap._replace(key=self.name(swap.key)) for swap in swaps])


@breaks("STORE-KEY-01")
class OneKind(_Renames):
    """Records with one hash are one record, for all kinds."""

    def name(self, key):
        return Key("value", key.call_hash)


@breaks("STORE-KEY-02")
class IgnoresCaseOfHashes(_Renames):
    """Hashes that differ only in case are one, as in a case-insensitive column."""

    def name(self, key):
        return key._replace(call_hash=key.call_hash.lower())


@breaks("STORE-KEY-02")
class EscapesHashes(_Renames):
    """Characters that a file name may not contain become `_` in a hash."""

    def name(self, key):
        return key._replace(call_hash=key.call_hash.replace("/", "_").replace("*", "_"))


@breaks("STORE-KEY-02")
class JoinsKeys(_Renames):
    """Kind and hash are joined without escaping, so that two keys can collide."""

    def name(self, key):
        return Key("value", f"{key.kind}/{key.call_hash}".removeprefix("value/"))


@breaks("STORE-KEY-03")
class CutsHashes(_Renames):
    """A hash is cut at 255 characters."""

    def name(self, key):
        return key._replace(call_hash=key.call_hash[:255])


class _Changes(StoreOver):
    """Stores changed values."""

    def value(self, value):
        return value

    async def write(self, items):
        await self.inner.write([(key, self.value(value)) for key, value in items])

    async def swap(self, swaps):
        return await self.inner.swap([swap._replace(new=swap.new and self.value(swap.new)) for swap in swaps])


@breaks("STORE-VALUE-01")
class CutsValuesAtNul(_Changes):
    """A value ends at its first NUL."""

    def value(self, value):
        return value.split(b"\0")[0]


@breaks("STORE-VALUE-01")
class TextValues(_Changes):
    """Values are stored as UTF-8 text; invalid bytes are replaced."""

    def value(self, value):
        return value.decode(errors="replace").encode()


@breaks("STORE-VALUE-01", "STORE-SWAP-04")
class EmptyIsAbsent(StoreOver):
    """An empty value is read as absent."""

    async def read(self, keys):
        return [value or None for value in await self.inner.read(keys)]


@breaks("STORE-VALUE-02")
class CutsValues(_Changes):
    """A value is cut at 64 KiB."""

    def value(self, value):
        return value[: 64 * 1024]


@breaks("STORE-VALUE-03")
class TakesTooLargeValues(_Changes):
    """A value larger than declared is cut instead of refused."""

    def value(self, value):
        return value[:MAX]


@breaks("STORE-VALUE-03")
class WritesHalfABatch(StoreOver):
    """If a value of a batch is too large, those before it are still written."""

    async def write(self, items):
        for item in items:
            await self.inner.write([item])


@breaks("STORE-LINEAR-01")
class ReadsAReplica(StoreOver):
    """Every third read is answered by a replica that is one change behind."""

    def __init__(self, inner):
        super().__init__(inner)
        self.before, self.now, self.count = {}, {}, 0

    async def read(self, keys):
        self.count += 1
        found = await self.inner.read(keys)
        await asyncio.sleep(0)
        for key, value in zip(keys, found, strict=True):
            if self.now.get(key) != value:
                self.before[key], self.now[key] = self.now.get(key), value
        return [self.before.get(key) for key in keys] if self.count % 3 == 0 else found
