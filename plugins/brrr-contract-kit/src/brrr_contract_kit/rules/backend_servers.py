"""Rules BACKEND-SERVER: the server goes away, comes back, or falls silent while the backend is open."""

from asyncio import Task, create_task, gather, sleep, wait
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from brrr_contract_kit.registry import rule
from brrr_contract_kit.target import option_types
from brrr_contract_kit.testbed.checks import broken, check, equal, refused
from brrr_contract_kit.testbed.context import Context, awaited, raised
from brrr_contract_kit.testbed.network import SHORT_TIMEOUT, TIMEOUTS, Network
from brrr_contract_kit.testbed.operations import operations_of, repeated, use
from brrr_core.backend import Backend, Delivery, Key
from brrr_core.errors import BackendUnavailableError

Running: TypeAlias = dict[str, Task[Any]]
"""Running operations by their names."""

HEAD_START = 0.05
"""Seconds after which a receive usually waits; the results are the same if not."""

PATIENT_GRACES = 9
"""Graces within which an operation ends if the kit cannot set its timeout: 45 seconds by default."""


def _bound(ctx: Context, network: Network) -> float:
    """Return the seconds within which an operation of an short_timeouts backend ends."""
    if "timeout" in network.settable:
        return len(TIMEOUTS) * SHORT_TIMEOUT + ctx.grace
    return PATIENT_GRACES * ctx.grace


async def _held(ctx: Context, backend: Backend, topic: str) -> list[Delivery]:
    if backend.roles.queue is None:
        return []
    await backend.queue.put(topic, [b"held"] * 4)
    found: list[Delivery] = []
    while len(found) < 4:
        found += await backend.queue.receive(topic, limit=4 - len(found), wait=ctx.grace) or broken("no messages came")
    return found


async def _operations(ctx: Context, backend: Backend) -> dict[str, Callable[[], Awaitable[object]]]:
    topic = ctx.topic()
    held = await _held(ctx, backend, topic)
    return operations_of(backend.roles, topic=topic, key=ctx.key(), counter=ctx.counter(), held=held)


def _start_all(operations: dict[str, Callable[[], Awaitable[object]]]) -> Running:
    """Begin every operation."""
    return {name: create_task(awaited(operation())) for name, operation in operations.items()}


async def _all_raise(running: Running, how: str, *, within: float) -> None:
    """Check that each operation raises `BackendUnavailableError` within `within` seconds."""
    hanging = (await wait(running.values(), timeout=within))[1] if running else ()
    for task in hanging:
        task.cancel()
    for name, task in running.items():
        check(task not in hanging, f"{name} {how} did not end within {within:g} s")
        error = await raised(task)
        refused(error, BackendUnavailableError, f"{name} {how}")
        check(bool(getattr(error, "remedy", "")), f"the error of {name} {how} has no remedy: {error}")


@rule("BACKEND-SERVER-01")
async def reports_lost_server(ctx: Context) -> None:
    """If the server goes away, every operation raises `BackendUnavailableError` in bounded time, even one that waits.

    Why: The engine retries this error, and ends at any other. A worker whose receive waits for a dead server does
    nothing, but looks healthy.

    Test: The kit puts a relay in front of the server, and sets the options `timeout`, `connect_timeout` and `retry_for`
    to a second. The relay cuts all connections and refuses new ones, while one receive waits. Then every operation of
    every role is called. The rule applies to backends that have a server.
    """
    network = await ctx.network()
    backend = await network.opened(short_timeouts=True)
    operations = await _operations(ctx, backend)
    waits: Running = {}
    if (queue := backend.roles.queue) is not None:
        waits["a receive that waits"] = create_task(queue.receive(ctx.topic(), limit=1, wait=600))
        await sleep(HEAD_START)
    network.cut()
    running = waits | _start_all(operations)
    await _all_raise(running, "without a server", within=_bound(ctx, network))


@rule("BACKEND-SERVER-02")
async def works_again(ctx: Context) -> None:
    """When the server is back, the same backend works, and a later put wakes a receive.

    Why: Servers restart and networks fail for seconds. Operators must not have to restart a fleet after each failure.

    Test: A relay cuts all connections until an operation fails, and then forwards again: the backend must work within
    the grace. Then connections are cut once while a receive waits, and another backend puts a message. The receive
    returns it, or raises `BackendUnavailableError`; then the next receive returns it. The server may have leased it to
    the lost connection, so it may come a lease later.
    """
    network = await ctx.network()
    backend = await network.opened(short_timeouts=True, short_lease=True)
    await _until_works(ctx, backend)
    network.cut()
    operations = await _operations_without_delivery(ctx, backend)
    async with ctx.within(_bound(ctx, network), "operations without a server end"):
        await gather(*(raised(operation()) for operation in operations.values()))
    network.restore()
    await _until_works(ctx, backend)
    if (queue := backend.roles.queue) is None:
        return
    other = await ctx.queue()
    for cut in (False, True):
        topic = ctx.topic()
        receive = partial(queue.receive, topic, limit=1, wait=600)
        waiting = create_task(repeated(ctx, receive, "a receive when the server is back"))
        await sleep(HEAD_START)
        if cut:
            network.cut()
            network.restore()
        await other.put(topic, [b"late"])
        # The server may have leased the message to the lost connection.
        bound = ctx.grace + (queue.lease if cut else 0)
        async with ctx.within(
            bound, f"a put wakes a receive {'during which connections were cut' if cut else 'again'}"
        ):
            found = await waiting
        equal([each.body for each in found], [b"late"], "the messages after the server is back")
        await queue.ack(found)


async def _operations_without_delivery(ctx: Context, backend: Backend) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the operations that need no delivery."""
    roles, key = backend.roles, ctx.key()
    every = operations_of(roles, topic=ctx.topic(), key=key, counter=ctx.counter(), held=[Delivery("x", b"x", 0, 1)])
    return {name: every[name] for name in ("put", "receive", "read", "write", "increment") if name in every}


async def _until_works(ctx: Context, backend: Backend) -> None:
    """Use the backend until no operation raises `BackendUnavailableError`, within the grace."""
    await repeated(ctx, partial(use, ctx, backend), "a use of a backend whose server answers")


@rule("BACKEND-SERVER-03", limit=120)
async def reports_silent_server(ctx: Context) -> None:
    """If the server falls silent, every operation raises `BackendUnavailableError` within the option `timeout`.

    Why: Firewalls drop packets silently, and machines freeze. Without a time limit, an operation never ends, and
    the connection looks healthy.

    Test: A relay stops forwarding and keeps the connections open. Every operation must end within its
    timeouts, which the kit sets to a second: a backend with a server has an option `timeout`. A receive that waits must
    end within 45 seconds. Then the relay forwards everything, including late answers: the backend must work, and must
    not mistake a late answer for that of a new operation.
    """
    network = await ctx.network()
    if "timeout" not in option_types(ctx.target.manifest):
        broken("the backend has no option `timeout` (a Duration), which bounds how long it waits for its server")
    backend = await network.opened(short_timeouts=True, short_lease=True)
    operations = await _operations(ctx, backend)
    waits: Running = {}
    if (queue := backend.roles.queue) is not None:
        waits["a receive that waits"] = create_task(queue.receive(ctx.topic(), limit=1, wait=600))
        await sleep(HEAD_START)
    network.silence()
    await _all_raise(_start_all(operations), "with a silent server", within=_bound(ctx, network))
    await _all_raise(waits, "for a silent server", within=PATIENT_GRACES * ctx.grace)
    network.restore()
    await _until_works(ctx, backend)
    await repeated(ctx, partial(_check_answers, ctx, backend), "the reads after a silence")


async def _check_answers(ctx: Context, backend: Backend) -> None:
    """Check that records are those of the keys that were read."""
    if backend.roles.store is None:
        return
    keys: list[Key] = [ctx.key() for _ in range(10)]
    values = [b"value %d" % number for number, _ in enumerate(keys)]
    await gather(*(backend.store.write([pair]) for pair in zip(keys, values, strict=True)))
    found = await gather(*(backend.store.read([key]) for key in keys))
    equal(found, [[value] for value in values], "the records after a silence")


@rule("BACKEND-SERVER-04", limit=120)
async def closes_without_its_server(ctx: Context) -> None:
    """A backend whose server is gone or silent closes in bounded time, and leaves nothing open.

    Why: A worker is stopped because its server does not answer. It must end before it is killed.

    Test: A relay cuts the connections, or falls silent, while operations run. Closing must end within twice the grace.
    """
    for silent in (False, True):
        network = await ctx.network()
        backend = network.backend(short_timeouts=True)
        await backend.open()
        operations = await _operations(ctx, backend)
        if silent:
            network.silence()
        else:
            network.cut()
        running = [create_task(raised(operation())) for operation in operations.values()]
        await sleep(0)
        async with ctx.within(2 * ctx.grace, f"closing a backend whose server is {'silent' if silent else 'gone'}"):
            await backend.close()
            await gather(*running)
