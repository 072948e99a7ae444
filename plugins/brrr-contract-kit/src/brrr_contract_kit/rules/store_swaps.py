"""Rules STORE-SWAP: compare-and-swap, key by key."""

from typing import get_args

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import equal
from brrr_contract_kit.testbed.context import Context
from brrr_core.backend import Kind, Swap

KINDS = get_args(Kind)


@rule("STORE-SWAP-01")
async def creates(ctx: Context) -> None:
    """A swap that expects no record creates it if it is absent, and only then.

    Why: The first worker that finishes a call creates its value. Later workers must not change it.

    Test: A record is created. A second creation fails and changes nothing.
    """
    store, key = await ctx.store(), ctx.key()
    equal(await store.swap([Swap(key, None, b"first")]), [True], "the result of creating an absent record")
    equal(await store.swap([Swap(key, None, b"second")]), [False], "the result of creating an existing record")
    equal(await store.read([key]), [b"first"], "the record after a failed create")


@rule("STORE-SWAP-02")
async def replaces(ctx: Context) -> None:
    """A swap replaces only a record that equals the expected one byte by byte.

    Why: If a pending record has changed, the engine must read it again. Otherwise a parent is never woken.

    Test: Swaps fail if they expect a part, an extension, other case, another NUL, another spelling of a number, or no
    record. The swap that expects the exact bytes succeeds.
    """
    store, key = await ctx.store(), ctx.key()
    await store.write([(key, b"01\0Ab")])
    for wrong in (
        b"",
        b"01",
        b"01\0",
        b"01\0A",
        b"01\0Abc",
        b"01\0AB",
        b"1\0Ab",
        b"01\0Ab\0",
        b" 01\0Ab",
        b"\0Ab",
        None,
    ):
        equal(await store.swap([Swap(key, wrong, b"new")]), [False], f"the result of a swap that expects {wrong!r}")
    equal(await store.read([key]), [b"01\0Ab"], "the record after failed swaps")
    equal(await store.swap([Swap(key, b"01\0Ab", b"new")]), [True], "the result of a swap that expects the exact bytes")
    equal(await store.read([key]), [b"new"], "the record after a successful swap")


@rule("STORE-SWAP-03")
async def deletes(ctx: Context) -> None:
    """A swap to None deletes the expected record. Afterwards the record is absent and can be created again.

    Why: The engine removes the pending returns of a call by compare-and-delete when all parents are woken.

    Test: A delete that expects other bytes fails. The right one succeeds, and a second one fails. Then the key is
    created again.
    """
    store, key = await ctx.store(), ctx.key()
    await store.write([(key, b"there")])
    equal(await store.swap([Swap(key, b"other", None)]), [False], "the result of a delete that expects other bytes")
    equal(await store.read([key]), [b"there"], "the record after a failed delete")
    equal(await store.swap([Swap(key, b"there", None)]), [True], "the result of a delete")
    equal(await store.swap([Swap(key, b"there", None)]), [False], "the result of a second delete")
    equal(await store.read([key]), [None], "the record after it was deleted")
    equal(await store.swap([Swap(key, None, b"again")]), [True], "the result of creating a deleted record")
    equal(await store.read([key]), [b"again"], "the record after it was created again")


@rule("STORE-SWAP-04")
async def empty_is_present(ctx: Context) -> None:
    """An empty value differs from an absent record, both as the expected and as the new value.

    Why: An empty result is a result.

    Test: A record is created with an empty value. A swap that expects no record fails; one that expects the empty value
    succeeds.
    """
    store, key = await ctx.store(), ctx.key()
    equal(
        await store.swap([Swap(key, b"", b"x")]), [False], "the result of expecting an empty value of an absent record"
    )
    equal(await store.swap([Swap(key, None, b"")]), [True], "the result of creating an empty record")
    equal(await store.read([key]), [b""], "an empty record")
    equal(await store.swap([Swap(key, None, b"x")]), [False], "the result of expecting no record if it is empty")
    equal(await store.swap([Swap(key, b"", b"x")]), [True], "the result of expecting an empty value of an empty record")
    equal(await store.swap([Swap(key, b"x", b"")]), [True], "the result of setting a record to the empty value")
    equal(await store.read([key]), [b""], "a record that was set to the empty value")


@rule("STORE-SWAP-05")
async def mixed_batch(ctx: Context) -> None:
    """The swaps of a batch are independent, and their results have the same order.

    Why: One batch holds the creates, replaces and deletes of many calls. A swap that fails must not undo the others.

    Test: One batch mixes a create, a replace and a delete with failing swaps. An empty batch returns an empty list.
    """
    store = await ctx.store()
    keys = [ctx.key() for _ in range(6)]
    await store.write([(key, b"old") for key in keys[2:]])
    swaps = [
        Swap(keys[2], b"wrong", b"new"),
        Swap(keys[0], None, b"new"),
        Swap(keys[3], b"old", b"new"),
        Swap(keys[1], b"wrong", b"new"),
        Swap(keys[4], b"old", None),
        Swap(keys[5], b"wrong", None),
    ]
    equal(await store.swap(swaps), [False, True, True, False, True, False], "the results of a mixed batch")
    wanted = [b"new", None, b"old", b"new", None, b"old"]
    equal(await store.read(keys), wanted, "the records after a mixed batch")
    equal(await store.swap([]), [], "the results of an empty batch")


@rule("STORE-SWAP-06")
async def one_key_in_turn(ctx: Context) -> None:
    """Swaps of one key in one batch are executed one after another, in their order.

    Why: One batch may hold the swaps of several calls that wait for one child.

    Test: A batch creates a key twice, replaces it twice, deletes it twice and creates it again. A swap of another key
    stands between them.
    """
    store, key, other = await ctx.store(), ctx.key(), ctx.key()
    swaps = [
        Swap(key, None, b"1"),
        Swap(key, None, b"x"),
        Swap(other, None, b"beside"),
        Swap(key, b"1", b"2"),
        Swap(key, b"1", b"x"),
        Swap(key, b"2", None),
        Swap(key, b"2", None),
        Swap(key, None, b"3"),
    ]
    equal(await store.swap(swaps), [True, False, True, True, False, True, False, True], "the results, in order")
    equal(await store.read([key, other]), [b"3", b"beside"], "the records afterwards")


@rule("STORE-SWAP-07")
async def same_value(ctx: Context) -> None:
    """A swap to the present value succeeds, and so does a swap from absent to absent.

    Why: The engine uses such a swap to check that a record has not changed since it was read.

    Test: A record is swapped to itself, and an absent record to None.
    """
    store, key, absent = await ctx.store(), ctx.key(), ctx.key()
    await store.write([(key, b"same")])
    swaps = [Swap(key, b"same", b"same"), Swap(absent, None, None), Swap(key, None, None), Swap(absent, b"same", None)]
    equal(await store.swap(swaps), [True, True, False, False], "the results of swaps that change nothing")
    equal(await store.read([key, absent]), [b"same", None], "the records after swaps that change nothing")


@rule("STORE-SWAP-08")
async def same_is_compared(ctx: Context) -> None:
    """A swap whose new value equals the expected one is compared like any other.

    Why: It checks that a record has not changed. If it succeeds without a comparison, the engine uses an old record.

    Test: Records with other values, and absent ones, are swapped from a value to itself. All these swaps fail, and
    change nothing.
    """
    store, key, empty, absent = await ctx.store(), ctx.key(), ctx.key(), ctx.key()
    await store.write([(key, b"there"), (empty, b"")])
    swaps = [
        *(Swap(key, wrong, wrong) for wrong in (b"other", b"", None)),
        *(Swap(empty, wrong, wrong) for wrong in (b"there", None)),
        *(Swap(absent, wrong, wrong) for wrong in (b"there", b"")),
    ]
    equal(await store.swap(swaps), [False] * len(swaps), "the results of swaps that expect wrong values")
    for swap in swaps:
        equal(await store.swap([swap]), [False], f"the result of {swap}")
    equal(await store.read([key, empty, absent]), [b"there", b"", None], "the records after failed swaps")


@rule("STORE-SWAP-09", pair=True)
async def same_is_compared_now(ctx: Context) -> None:
    """A swap is compared with the current record on the server, not with one that this backend has read or written.

    Why: Another worker may have changed it since. Only the server knows.

    Test: One backend writes, reads or swaps a record in each kind, and another one replaces or deletes it. The first
    one's swaps from the old value to itself, or to another one, then fail. Those from the present value succeed.
    """
    one, other = await ctx.store(), await ctx.store()
    for kind in KINDS:
        for new in (b"new", None):
            for expected in (b"old", None):
                key = ctx.key(kind)
                equal(await one.swap([Swap(key, None, b"first")]), [True], "the result of creating a record")
                equal(await one.swap([Swap(key, b"first", expected)]), [True], "the result of a swap")
                equal(await one.read([key]), [expected], "the record after a swap")
                equal(await other.swap([Swap(key, expected, new)]), [True], "the result of another backend's swap")
                if new == expected:
                    continue
                for to in (expected, b"to"):
                    what = f"the result of a swap from {expected!r} to {to!r}, while the record is {new!r}"
                    equal(await one.swap([Swap(key, expected, to)]), [False], what)
                equal(await one.swap([Swap(key, new, new)]), [True], "the result of a swap from the present value")
                equal(await other.read([key]), [new], "the record after swaps that change nothing")
