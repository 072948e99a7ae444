"""Rules STORE-WATCH: the notifier of a store, which is optional. The manifest does not declare it."""

from asyncio import Event
from functools import partial
from time import time

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import check, equal, refused
from brrr_contract_kit.testbed.context import CANCELLED, Context, NotApplicableError, raised
from brrr_contract_kit.testbed.operations import unless_unavailable
from brrr_contract_kit.testbed.stepped import NOTHING_LEASED
from brrr_core.backend import Backend, Key, Notifier, Step, Store, Swap
from brrr_core.errors import BackendClosedError


async def _watched(ctx: Context) -> tuple[Backend, Store, Notifier]:
    """Return a backend, its store and its notifier. Without a notifier, the rule does not apply."""
    backend = await ctx.backend()
    if backend.store.notifier is None:
        raise NotApplicableError("the store has no notifier")
    return backend, backend.store, backend.store.notifier


async def _watch(notifier: Notifier, key: Key) -> Event:
    """Watch a value, and return the event that is set when the watch wakes."""
    woken = Event()
    check(await notifier.watch(key.call_hash, woken.set), f"the watch of {key.call_hash} is not in force")
    return woken


async def _create(store: Store, key: Key) -> None:
    equal(await store.swap([Swap(key, None, b"created")]), [True], "the swap that creates the value")


async def _wakes(ctx: Context, woken: Event, by: str) -> None:
    async with ctx.within(ctx.grace, f"a value that {by} creates wakes the watch"):
        await woken.wait()


@rule("STORE-WATCH-01")
async def wakes(ctx: Context) -> None:
    """A watch wakes each time that its value is created.

    Why: A client that waits for a result reads it when it is woken, and otherwise only every two seconds.

    Test: A value is watched, created, deleted and created again.
    """
    _, store, notifier = await _watched(ctx)
    key = ctx.key()
    woken = await _watch(notifier, key)
    for _ in range(2):
        woken.clear()
        await _create(store, key)
        await _wakes(ctx, woken, "the same backend")
        await store.swap([Swap(key, b"created", None)])


@rule("STORE-WATCH-02", pair=True)
async def wakes_others(ctx: Context) -> None:
    """A watch wakes if another backend on the same URL creates its value.

    Why: The worker that writes a result and the client that waits for it have different backends.

    Test: One backend watches ten values, and another creates them in one batch.
    """
    _, _, notifier = await _watched(ctx)
    keys = [ctx.key() for _ in range(10)]
    woken = [await _watch(notifier, key) for key in keys]
    done = await (await ctx.store()).swap([Swap(key, None, b"created") for key in keys])
    equal(done, [True] * len(keys), "the swaps that create the values")
    for each in woken:
        await _wakes(ctx, each, "another backend")


@rule("STORE-WATCH-03", needs="store.shared", processes=True)
async def wakes_other_processes(ctx: Context) -> None:
    """A watch wakes if another process creates its value.

    Why: Clients and workers are different processes.

    Test: This process watches a value, and another one creates it.
    """
    _, _, notifier = await _watched(ctx)
    agent, key = await ctx.agent(), ctx.key()
    woken = await _watch(notifier, key)
    equal(await agent.do("create", hashes=[key.call_hash], value="created", at=time()), [True], "the swap of a process")
    await _wakes(ctx, woken, "another process")


@rule("STORE-WATCH-04")
async def watches_are_independent(ctx: Context) -> None:
    """Several watches of one value all wake. If one of them ends, the others stay.

    Why: Many tasks of a program may wait for one result, and each may be cancelled.

    Test: A value is watched three times. The first watch ends, and the second is cancelled at every await. Then the
    value is created. Ending a watch twice does nothing.
    """
    _, store, notifier = await _watched(ctx)
    key = ctx.key()
    first, third = await _watch(notifier, key), await _watch(notifier, key)
    for turns in range(1, 50):
        second = Event()
        ended = await ctx.cancelled(partial(notifier.watch, key.call_hash, second.set), turns)
        notifier.unwatch(key.call_hash, second.set)
        if ended.result is not CANCELLED:
            break
    for _ in range(2):
        notifier.unwatch(key.call_hash, first.set)
    await _create(store, key)
    await _wakes(ctx, third, "the same backend")


@rule("STORE-WATCH-05")
async def closing_wakes(ctx: Context) -> None:
    """Closing a backend wakes its watches, and a closed backend refuses to watch.

    Why: A client whose backend is closed must not keep waiting. Its next read raises `BackendClosedError`.

    Test: A backend is closed with two watches open. Both wake, and a third raises `BackendClosedError`.
    """
    backend, _, notifier = await _watched(ctx)
    keys = [ctx.key() for _ in range(3)]
    woken = [await _watch(notifier, key) for key in keys[:2]]
    await backend.close()
    for each in woken:
        check(each.is_set(), "closing the backend did not wake a watch")
    error = await raised(notifier.watch(keys[2].call_hash, Event().set))
    refused(error, BackendClosedError, "a watch of a closed backend")


@rule("STORE-WATCH-06")
async def steps_wake(ctx: Context) -> None:
    """A watch wakes if a step writes its value.

    Why: If a backend offers steps, workers return results in steps, and not by swaps.

    Test: A value is watched, and a step creates it.
    """
    backend, _, notifier = await _watched(ctx)
    if backend.roles.steps is None:
        raise NotApplicableError("the backend has no steps")
    key = ctx.key()
    woken = await _watch(notifier, key)
    step = Step(expected=((key, None),), writes=((key, b"created"),))
    equal(await backend.roles.steps.commit([step]), [NOTHING_LEASED], "the step that creates the value")
    await _wakes(ctx, woken, "a step")


@rule("STORE-WATCH-07")
async def watches_outlive_a_cut(ctx: Context) -> None:
    """If the server goes away and comes back, open watches wake, and later ones are in force again.

    Why: A hint is lost if the connection is down, so a client reads again when the connection is back. Without new
    hints, the client would poll until it is restarted.

    Test: A relay cuts all connections while a value is watched. While the server is away, a watch returns False or
    raises `BackendUnavailableError`. Another backend creates the value, and the relay forwards again: the watch wakes
    within the grace. Then a new watch is in force within the grace, and wakes. A watch also ends if the relay is
    silent.
    """
    network = await ctx.network()
    store, other = (await network.opened(short_timeouts=True)).store, await ctx.store()
    if store.notifier is None:
        raise NotApplicableError("the store has no notifier")
    keys = [ctx.key() for _ in range(3)]
    woken = await _watch(store.notifier, keys[0])
    network.cut()
    async with ctx.within(3 * ctx.grace, "a watch without a server ends"):
        in_force = await _tried(store.notifier, keys[1], Event())
    check(not in_force, "a watch without a server claims to be in force")
    await _create(other, keys[0])
    woken.clear()
    network.restore()
    await _wakes(ctx, woken, "another backend while the server was away")
    again = Event()

    async def in_force_again() -> bool:
        return store.notifier is not None and await _tried(store.notifier, keys[2], again)

    await ctx.until(in_force_again, "a watch is in force again when the server is back")
    again.clear()
    await _create(other, keys[2])
    await _wakes(ctx, again, "another backend after the server is back")
    network.silence()
    async with ctx.within(9 * ctx.grace, "a watch with a silent server ends"):
        in_force = await _tried(store.notifier, keys[1], Event())
    check(not in_force, "a watch with a silent server claims to be in force")


async def _tried(notifier: Notifier, key: Key, woken: Event) -> bool:
    """Return whether a watch is in force; False if the server is unavailable."""
    return await unless_unavailable(notifier.watch(key.call_hash, woken.set), "a watch without a server") == [True]
