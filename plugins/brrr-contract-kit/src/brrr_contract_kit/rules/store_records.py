"""Rules STORE-READ, STORE-WRITE, STORE-KEY and STORE-VALUE: each key keeps the record that was written."""

from typing import Final, get_args

from brrr_contract_kit.registry import rule
from brrr_contract_kit.rules.queue_bodies import HOSTILE, LARGEST_REFUSED, MIB
from brrr_contract_kit.testbed.checks import check, equal, refused
from brrr_contract_kit.testbed.context import Context, NotApplicableError, raised
from brrr_core.backend import Key, Kind, Swap
from brrr_core.errors import ValueTooLargeError

MANY: Final = 1000
KINDS: Final = get_args(Kind)

HASHES: Final = [
    *(" ", "a b", "a_b", "a+b", "a%20b", "a/b", "a//b", "../b", ".", "..", "a.b", "a:b", "a::b", "a\\b", "a|b", "a,b"),
    *(
        "*",
        "a*",
        "?",
        ">",
        "#",
        "[a]",
        "{a}",
        "{a}b",
        "$",
        "~",
        "^",
        "&",
        "@",
        "!",
        "=",
        ";",
        "'",
        '"',
        "`",
        "<a>",
        "(a)",
    ),
    *("a", "A", "a ", " a", "aa", "0", "00", "-1", "None", "call", "value", "value/a", "call/a", "pending_returns"),
    "".join(map(chr, range(0x20, 0x7F))),
]


@rule("STORE-READ-01")
async def in_order(ctx: Context) -> None:
    """A read returns values in the order of its keys, even of repeated keys, and None for an absent record.

    Why: The engine reads the values of all children of a gather in one batch, and assigns them by position.

    Test: Present, absent and repeated keys are read in one batch. An empty batch returns an empty list.
    """
    store = await ctx.store()
    one, two, absent = ctx.key(), ctx.key(), ctx.key()
    await store.write([(one, b"1"), (two, b"2")])
    equal(await store.read([two, absent, one, two, absent]), [b"2", None, b"1", b"2", None], "the result of a read")
    equal(await store.read([absent]), [None], "the record of a key that was never written")
    equal(await store.read([]), [], "the result of an empty read")


@rule("STORE-READ-02")
async def own_writes(ctx: Context) -> None:
    """A read sees every write and swap that ended before it began.

    Why: The engine registers a parent on its child and then reads the value of the child. If the read is stale, the
    wake-up is lost and the workflow hangs.

    Test: Fifty times, a key is written, swapped and deleted, and read after each step.
    """
    store, key = await ctx.store(), ctx.key()
    for number in range(50):
        old, new = b"old %d" % number, b"new %d" % number
        await store.write([(key, old)])
        equal(await store.read([key]), [old], "the record after a write")
        equal(await store.swap([Swap(key, old, new)]), [True], "the result of a swap that expects the record just read")
        equal(await store.read([key]), [new], "the record after a swap")
        equal(await store.swap([Swap(key, new, None)]), [True], "the result of a delete of the record just read")
        equal(await store.read([key]), [None], "the record after a delete")


@rule("STORE-READ-03", pair=True)
async def others_writes(ctx: Context) -> None:
    """A read sees every write and swap of another backend on the same URL that ended before it began.

    Why: The workers of the child and of the parent are different processes.

    Test: Two backends write, swap and delete a key in turn, and each reads the changes of the other.
    """
    one, other, key = await ctx.store(), await ctx.store(), ctx.key()
    for number in range(25):
        for writer, reader in ((one, other), (other, one)):
            old, new = b"old %d" % number, b"new %d" % number
            equal(await reader.read([key]), [None], "the record before the write")
            await writer.write([(key, old)])
            equal(await reader.read([key]), [old], "the record after another backend's write")
            equal(await writer.swap([Swap(key, old, new)]), [True], "the result of a swap")
            equal(await reader.read([key]), [new], "the record after another backend's swap")
            equal(await reader.swap([Swap(key, new, None)]), [True], "the result of a delete")
            equal(await writer.read([key]), [None], "the record after another backend's delete")


@rule("STORE-WRITE-01")
async def overwrites(ctx: Context) -> None:
    """A write replaces the previous values. If a key occurs twice in a batch, the last value stays.

    Why: Each parent writes the call record again, and one batch may hold the writes of several calls.

    Test: Keys are overwritten, and written twice in a batch. An empty batch does nothing.
    """
    store, one, two = await ctx.store(), ctx.key(), ctx.key()
    await store.write([(one, b"first")])
    await store.write([(one, b"second"), (two, b"third"), (one, b"fourth")])
    equal(await store.read([one, two]), [b"fourth", b"third"], "the records after a key was written twice in a batch")
    await store.write([])
    equal(await store.read([one, two]), [b"fourth", b"third"], "the records after an empty batch")


@rule("STORE-WRITE-02")
async def many_items(ctx: Context) -> None:
    """Batches of 1,000 items work: they are written, read in order, swapped and deleted.

    Why: A gather of a thousand calls makes one batch of each operation.

    Test: 1,000 keys with different values are written, read, swapped and deleted.
    """
    store = await ctx.store()
    keys = [ctx.key("call") for _ in range(MANY)]
    values: list[bytes | None] = [b"value %d" % number for number in range(MANY)]
    await store.write([(key, value) for key, value in zip(keys, values, strict=True) if value is not None])
    check(await store.read(keys) == values, "1,000 values are not read in the order of their keys as they were written")
    order = ctx.random.sample(range(MANY), MANY)
    swaps = [Swap(keys[at], values[at] if at % 2 else b"other", b"new %d" % at) for at in order]
    results = await store.swap(swaps)
    check(results == [bool(at % 2) for at in order], "the results of 1,000 swaps are not in the order of the swaps")
    values = [b"new %d" % at if at % 2 else value for at, value in enumerate(values)]
    check(await store.read(keys) == values, "1,000 values are wrong after 500 successful swaps")
    deletes = [Swap(key, value, None) for key, value in zip(keys, values, strict=True)]
    check(await store.swap(deletes) == [True] * MANY, "some of 1,000 deletes failed")
    check(await store.read(keys) == [None] * MANY, "some of 1,000 deleted keys are not absent")


@rule("STORE-KEY-01")
async def kinds_apart(ctx: Context) -> None:
    """Records with the same call hash and different kinds are different records.

    Why: The call, the pending returns and the value of a call share one call hash.

    Test: All three kinds are written. One is deleted, and the others stay.
    """
    store = await ctx.store()
    call_hash = ctx.key().call_hash
    keys = [ctx.own_key(Key(kind, call_hash)) for kind in KINDS]
    values = [kind.encode() for kind in KINDS]
    await store.write(list(zip(keys, values, strict=True)))
    equal(await store.read(keys), values, "the records of the three kinds of one hash")
    await store.swap([Swap(keys[0], values[0], None)])
    equal(await store.read(keys), [None, *values[1:]], "the records after one of the three was deleted")


@rule("STORE-KEY-02")
async def hostile_hashes(ctx: Context) -> None:
    """A call hash is any printable US-ASCII text, and hashes never mix: spaces, slashes, wildcards, quotes, case.

    Why: Codecs make the hashes, and SDKs in other languages have other codecs.

    Test: Some fifty hostile texts, at the beginning and at the end of a hash, are written in every kind and read.
    """
    store = await ctx.store()
    hashes = [f"{ctx.prefix}{text}" for text in HASHES] + [f"{text}{ctx.prefix}" for text in HASHES]
    keys = [ctx.own_key(Key(kind, each)) for each in hashes for kind in KINDS]
    values = [f"{key.kind}/{key.call_hash}".encode() for key in keys]
    await store.write(list(zip(keys, values, strict=True)))
    found = await store.read(keys)
    for key, seen, wanted in zip(keys, found, values, strict=True):
        equal(seen, wanted, f"the record {key.kind} of the hash {key.call_hash!r}")


@rule("STORE-KEY-03")
async def long_hashes(ctx: Context) -> None:
    """Hashes of 1,000 characters work, and two that differ only in the last character are two keys.

    Why: A limit on keys in the server must not mix two calls.

    Test: Two such hashes are written and read.
    """
    store = await ctx.store()
    begin = ctx.prefix.ljust(999, "x")
    one, two = (ctx.own_key(Key("value", begin + last)) for last in "ab")
    await store.write([(one, b"a"), (two, b"b")])
    equal(await store.read([one, two]), [b"a", b"b"], "the values of two long hashes")


@rule("STORE-VALUE-01")
async def values_survive(ctx: Context) -> None:
    """A written or swapped value of any bytes is read unchanged; an empty value is present.

    Why: A codec may produce any bytes. A function that returns an empty value has returned.

    Test: A dozen hostile values are written, read, and swapped with each other.
    """
    store = await ctx.store()
    keys = [ctx.key() for _ in HOSTILE]
    await store.write(list(zip(keys, HOSTILE, strict=True)))
    equal(await store.read(keys), HOSTILE, "hostile values that were written")
    turned = [*HOSTILE[1:], HOSTILE[0]]
    results = await store.swap([Swap(*each) for each in zip(keys, HOSTILE, turned, strict=True)])
    equal(results, [True] * len(keys), "the results of swaps of hostile values")
    equal(await store.read(keys), turned, "hostile values that were swapped")
    fresh = [ctx.key() for _ in HOSTILE]
    await store.swap([Swap(key, None, value) for key, value in zip(fresh, HOSTILE, strict=True)])
    equal(await store.read(fresh), HOSTILE, "hostile values that were created by swap")


@rule("STORE-VALUE-02")
async def largest_value(ctx: Context) -> None:
    """A value of the declared size is written, swapped and read completely.

    Why: Users rely on the manifest.

    Test: A value of `max_value` bytes, but at most 1 MiB, is written, swapped and read.
    """
    store, one, two = await ctx.store(), ctx.key(), ctx.key()
    declared = ctx.target.manifest.store
    size = min(declared.max_value if declared else 0, MIB)
    first, second = ctx.random.randbytes(size), ctx.random.randbytes(size)
    await store.write([(one, first)])
    equal(await store.swap([Swap(one, first, second), Swap(two, None, first)]), [True, True], "the results of swaps")
    check(await store.read([one, two]) == [second, first], f"values of {size} bytes are not read as they were written")


@rule("STORE-VALUE-03")
async def too_large_value(ctx: Context) -> None:
    """A value of one byte more than declared is refused with `ValueTooLargeError`, and its batch has no effect.

    Why: With a clear error, the engine can dead-letter the call with a reason.

    Test: Batches of a small value and one larger than `max_value` are written and swapped. Both keys stay absent. The
    rule does not apply if the manifest declares more than 256 MiB.
    """
    declared = ctx.target.manifest.store
    most = declared.max_value if declared else 0
    if most > LARGEST_REFUSED:
        raise NotApplicableError(f"a value larger than the declared {most} bytes is too large for the kit")
    store, one, two = await ctx.store(), ctx.key(), ctx.key()
    large, what = bytes(most + 1), f"a value of {most + 1} bytes (declared: {most})"
    refused(await raised(store.write([(one, b"small"), (two, large)])), ValueTooLargeError, f"the write of {what}")
    swaps = [Swap(one, None, b"small"), Swap(two, None, large)]
    refused(await raised(store.swap(swaps)), ValueTooLargeError, f"the swap to {what}")
    equal(await store.read([one, two]), [None, None], "the records after refused batches")
