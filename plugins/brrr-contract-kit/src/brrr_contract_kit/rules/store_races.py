"""Rules STORE-RACE, STORE-LINEAR, STORE-CANCEL and STORE-DURABLE: concurrency, cancellation and killed processes."""

from asyncio import Barrier, create_task, gather
from functools import partial
from itertools import chain, product
from time import time

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal
from brrr_contract_kit.testbed.context import CANCELLED, Context
from brrr_contract_kit.testbed.histories import check_histories, check_history, from_json, perform
from brrr_contract_kit.testbed.processes import HEAD_START, as_text
from brrr_core.backend import Key, Store, Swap

RACERS = 8
KEYS = 10


async def _stores(ctx: Context, count: int) -> list[Store]:
    """Return `count` stores: of two backends, or of one if two would share no records."""
    if ctx.target.shared("store"):
        pair = [await ctx.store() for _ in range(2)]
        return [pair[number % 2] for number in range(count)]
    return [await ctx.store()] * count


@rule("STORE-RACE-01")
async def one_creator(ctx: Context) -> None:
    """If many clients create one record at the same time, exactly one wins, and its value stays.

    Why: Two workers that finish one call must agree on its value; the loser reads the value of the winner.

    Test: Eight clients, on two backends if these share records, race for ten keys. A barrier starts each race.
    """
    stores = await _stores(ctx, RACERS)
    barrier = Barrier(RACERS)
    for key in [ctx.key() for _ in range(KEYS)]:
        won: list[bytes] = []

        async def race(number: int, key: Key = key, won: list[bytes] = won) -> None:
            value = b"racer %d" % number
            await barrier.wait()
            if (await stores[number].swap([Swap(key, None, value)]))[0]:
                won.append(value)

        await gather(*(race(number) for number in range(RACERS)))
        equal(len(won), 1, f"the winners among {RACERS} clients that create one record")
        equal(await stores[0].read([key]), won, "the record after the race")


@rule("STORE-RACE-02")
async def one_deleter(ctx: Context) -> None:
    """If many clients delete or replace one record at the same time, exactly one wins.

    Why: The worker that deletes the pending returns has woken all parents. A second winner would have missed some.

    Test: Eight clients race to replace the same value of ten keys, and then to delete it.
    """
    stores = await _stores(ctx, RACERS)
    barrier = Barrier(RACERS)
    for key in [ctx.key() for _ in range(KEYS)]:
        await stores[0].write([(key, b"there")])

        async def race(number: int, delete: bool, key: Key = key) -> bool:
            await barrier.wait()
            expected, new = (b"taken", None) if delete else (b"there", b"taken")
            return (await stores[number].swap([Swap(key, expected, new)]))[0]

        for delete in (False, True):
            wins = await gather(*(race(number, delete) for number in range(RACERS)))
            equal(
                sum(wins),
                1,
                f"the winners among {RACERS} clients that {'delete' if delete else 'replace'} one record",
            )
        equal(await stores[0].read([key]), [None], "the record after the race")


@rule("STORE-RACE-03")
async def no_lost_update(ctx: Context) -> None:
    """If many clients increase a number by read and swap, no increment is lost.

    Why: Parents register on a child in this way. A parent whose registration is lost is never woken.

    Test: Eight clients add 1 twenty-five times each.
    """
    stores, key = await _stores(ctx, RACERS), ctx.key()

    async def add(store: Store) -> None:
        for _ in range(25):
            while True:
                (found,) = await store.read([key])
                new = b"%d" % (int(found or b"0") + 1)
                if (await store.swap([Swap(key, found, new)]))[0]:
                    break

    await gather(*(add(store) for store in stores))
    equal(await stores[0].read([key]), [b"%d" % (25 * RACERS)], "the number after all increases")


@rule("STORE-RACE-04", needs="store.shared", processes=True)
async def one_creating_process(ctx: Context) -> None:
    """If several processes create one record at the same time, exactly one wins.

    Why: Workers are processes, and a lock inside one process does not stop another.

    Test: Three processes start at the same moment and race for 100 keys. Each key has one winner, whose value stays.
    """
    store = await ctx.store()
    keys = [ctx.key() for _ in range(100)]
    agents = await gather(*(ctx.agent() for _ in range(3)))
    at = time() + HEAD_START
    results = await gather(
        *(
            agent.do("create", hashes=[key.call_hash for key in keys], value=f"process {number}", at=at)
            for number, agent in enumerate(agents)
        )
    )
    for key, found, won in zip(keys, await store.read(keys), zip(*results, strict=True), strict=True):
        equal(sum(won), 1, f"the number of processes that created {key.call_hash}")
        equal(found, b"process %d" % won.index(True), "the record after the race")


@rule("STORE-RACE-05", needs="store.shared", processes=True)
async def no_update_lost_between_processes(ctx: Context) -> None:
    """If several processes increase a number by read and swap, no increment is lost.

    Why: Parents in different processes register on one child.

    Test: Three processes add 1 forty times each.
    """
    store, key = await ctx.store(), ctx.key()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    at = time() + HEAD_START
    await gather(*(agent.do("count", call_hash=key.call_hash, times=40, at=at) for agent in agents))
    equal(await store.read([key]), [b"120"], "the number after all increases")


@rule("STORE-LINEAR-01")
async def histories(ctx: Context) -> None:
    """The store is linearizable per key: one order of the operations explains the results of all concurrent clients.

    Why: The engine relies on it to lose no wake-up and to write no value twice.

    Test: Five clients, on two backends if these share records, read, write and swap one key at random. The rule
    searches for an order that explains the recorded history (Wing and Gong). Six rounds, seeded.
    """
    stores = await _stores(ctx, 5)
    await check_histories(ctx, stores)


@rule("STORE-LINEAR-02", needs="store.shared", processes=True)
async def histories_of_processes(ctx: Context) -> None:
    """The store is linearizable per key between processes.

    Why: A cache inside a process, or a read from a replica, passes every test within one process.

    Test: As STORE-LINEAR-01, with three other processes and this one, timed by the monotonic clock of the machine.
    """
    store = await ctx.store()
    agents = await gather(*(ctx.agent() for _ in range(3)))
    for round_ in range(4):
        key, seed, at = ctx.key(), f"{ctx.random.random()}", time() + HEAD_START
        answers = [
            agent.do("history", call_hash=key.call_hash, client=f"{number}", count=12, seed=f"{seed} {number}", at=at)
            for number, agent in enumerate(agents)
        ]
        *parts, own = await gather(*answers, perform(store, key, "own", 12, seed))
        check_history([*chain.from_iterable(map(from_json, parts)), *own], round_)


@rule("STORE-CANCEL-01")
async def swap_cancelled(ctx: Context) -> None:
    """A cancelled swap has been executed completely or not at all, and the store still works.

    Why: A worker may be stopped while it registers a parent. The record must be the old or the new one.

    Test: Swaps of two keys and writes of one, with values of 16 KiB, are cancelled after 0, 1, 2 … turns. Each key then
    holds its old or its new value, and a swap that expects the value just read succeeds.
    """
    store = await ctx.store()
    old, new = (letter * 16_384 for letter in (b"a", b"b"))

    async def prepared() -> list[Key]:
        keys = [ctx.key(), ctx.key()]
        await store.write([(key, old) for key in keys])
        return keys

    measured = await prepared()
    turns = await ctx.turns_of(partial(store.swap, [Swap(key, old, new) for key in measured]))
    for point in ctx.points(turns):
        keys, written = await prepared(), ctx.key()
        ended = await ctx.cancelled(partial(store.swap, [Swap(key, old, new) for key in keys]), point)
        if ended.result is not CANCELLED:
            equal(await store.read(keys), [new, new], "the records after successful swaps")
        await ctx.cancelled(partial(store.write, [(written, new)]), point)
        for key in keys:
            await _settled(store, key, old, new)
        await _settled(store, written, None, new)


async def _settled(store: Store, key: Key, old: bytes | None, new: bytes) -> None:
    """Check that the record is the old or the new one, and that a swap which expects the record just read succeeds.

    The cancelled operation may still be executed a little later, but only once; then one such swap fails.
    """
    for allowed in ((old, new), (new,)):
        (found,) = await store.read([key])
        check(found in allowed, "a record is neither the old nor the new one after a cancelled operation")
        if (await store.swap([Swap(key, found, b"next")]))[0]:
            return
    check(False, "a swap that expects the record just read failed twice after a cancelled operation")


@rule("STORE-CANCEL-02")
async def neighbours_unharmed(ctx: Context) -> None:
    """Cancelling one swap does not affect concurrent swaps.

    Why: The calls of one process share a backend, and often one batch, and one of them may be cancelled.

    Test: Eight swaps run concurrently. The first, a middle one or the last is cancelled after 0, 1, 2 … turns. The
    others return True, and their records exist.
    """
    store = await ctx.store()
    for place, point in product((0, 3, 7), (0, 1, 2, 3, 5, 8, 20, 50)):
        keys, other = [ctx.key() for _ in range(7)], ctx.key()
        async with ctx.within(2 * ctx.grace, "swaps return while another one is cancelled"):
            swapped = keys.copy()
            swapped.insert(place, other)  # the first of a batch may be the one that sends the batch
            others = [create_task(store.swap([Swap(key, None, b"x")])) for key in swapped]
            await ctx.cancel(others.pop(place), point)
            equal(await gather(*others), [[True]] * 7, "the results of swaps that run while another one is cancelled")
        equal(await store.read(keys), [b"x"] * 7, "the records created while another swap is cancelled")


@rule("STORE-DURABLE-01", needs="store.durable", processes=True)
async def survives_death(ctx: Context) -> None:
    """When `write` or `swap` has returned, its records survive the death of the process and of all others.

    Why: The manifest declares it. A lost value is computed again, and a parent whose pending return is lost is never
    woken.

    Test: A process writes one record and creates another. It is killed when both operations have returned. The URL is
    opened again, and the records are read.
    """
    written, created = ctx.key(), ctx.key()
    value = bytes(range(256))
    agent = await ctx.agent()
    await agent.do("write", call_hash=written.call_hash, value=as_text(value))
    await agent.do("create", hashes=[created.call_hash], value=as_text(value), at=0)
    await agent.kill()
    store = await ctx.store()
    equal(await store.read([written, created]), [value] * 2, "the records that a dead process had written")
