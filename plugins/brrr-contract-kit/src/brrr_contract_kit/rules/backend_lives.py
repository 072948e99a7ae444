"""Rules BACKEND-OPEN and BACKEND-CLEAN: opening, closing and cleaning up."""

import asyncio
from asyncio import CancelledError, Task, all_tasks, create_task, current_task, gather, sleep, to_thread, wait
from collections.abc import Sequence
from typing import Any, cast

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, check, equal, refused
from brrr_contract_kit.testbed.context import Context, NotApplicableError, error_of, raised
from brrr_contract_kit.testbed.leaks import open_files, other_tasks, poll, threads
from brrr_contract_kit.testbed.network import Network
from brrr_contract_kit.testbed.operations import operations_of, use
from brrr_core.backend import Backend, Cache, Queue, Steps, Store
from brrr_core.errors import BackendClosedError, BackendError

POOL = "asyncio_"
"""Prefix of the names of threads in the loop's own pool, which end with the loop."""

HEAD_START = 0.5
"""Seconds after which the late server starts."""

ROLES = {"queue": Queue, "store": Store, "cache": Cache}


@rule("BACKEND-OPEN-01")
async def opens_again(ctx: Context) -> None:
    """A closed backend can be opened again, and works.

    Why: When a connection is lost, the same object is opened again.

    Test: One backend is opened, used and closed twice.
    """
    backend = ctx.target.backend()
    for _ in range(2):
        async with backend:
            await use(ctx, backend)


@rule("BACKEND-OPEN-02")
async def closes_twice(ctx: Context) -> None:
    """Closing a backend that was never opened, or is already closed, does nothing.

    Why: Code that cleans up after an error does not know if the backend was open.

    Test: A backend is closed before it is opened, and three times afterwards.
    """
    backend = ctx.target.backend()
    await backend.close()
    await backend.open()
    for _ in range(3):
        await backend.close()


@rule("BACKEND-OPEN-03")
async def refuses_second_open(ctx: Context) -> None:
    """Opening an open backend is refused, and the backend stays open.

    Why: Two owners of one object would each close it for the other.

    Test: A backend is opened twice. The second time must raise `BackendClosedError`, and the backend must still work.
    """
    backend = await ctx.backend()
    refused(await raised(backend.open()), BackendClosedError, "opening a backend that is open")
    await use(ctx, backend)


@rule("BACKEND-OPEN-04")
async def offers_what_it_declares(ctx: Context) -> None:
    """An open backend offers exactly the roles of its manifest, each of its class. A closed backend offers none.

    Why: The engine chooses roles by the manifest, before it opens a backend. Steps combine all three.

    Test: The roles are compared with the manifest, and read before opening and after closing. Steps, if it offers them,
    are of their class, and it offers all three roles.
    """
    backend = ctx.target.backend()
    refused(_error_of_roles(backend), BackendClosedError, "the roles of a backend that was not opened")
    async with backend:
        for name, kind in ROLES.items():
            role = getattr(backend.roles, name)
            if getattr(ctx.target.manifest, name) is None:
                check(role is None, f"the backend offers a {name}, but the manifest declares none")
            else:
                check(isinstance(role, kind), f"the manifest declares a {name}, but the backend offers {role!r}")
        steps = backend.roles.steps
        if steps is not None:
            check(isinstance(cast("object", steps), Steps), f"the backend offers {steps!r} as steps")
            check(ctx.target.offers("steps"), "the backend offers steps, but the manifest does not declare all roles")
    refused(_error_of_roles(backend), BackendClosedError, "the roles of a backend that was closed")


def _error_of_roles(backend: Backend) -> BaseException | None:
    return error_of(lambda: backend.roles)


@rule("BACKEND-OPEN-05")
async def closed_refuses(ctx: Context) -> None:
    """Every operation of a closed backend raises `BackendClosedError`.

    Why: A handler that still runs during a shutdown must get a clear error, not a hang or a broken pipe.

    Test: The roles of a backend are kept after it is closed, and all their operations are called.
    """
    backend = ctx.target.backend()
    topic, key = ctx.topic(), ctx.key()
    async with backend:
        roles = backend.roles
        held = []
        if roles.queue is not None:
            await roles.queue.put(topic, [b"held"])
            held = await roles.queue.receive(topic, limit=1, wait=ctx.grace)
    operations = operations_of(roles, topic=topic, key=key, counter=ctx.counter(), held=held)
    errors = {name: await raised(operation()) for name, operation in operations.items()}
    for name, error in errors.items():
        refused(error, BackendClosedError, f"{name} on a closed backend")


@rule("BACKEND-OPEN-06")
async def closing_ends_waits(ctx: Context) -> None:
    """If a backend is closed while a receive waits, the receive raises `BackendClosedError`.

    Why: Otherwise the receive would keep the process from ending.

    Test: A receive waits up to ten minutes while the backend is closed. The receive must end within the grace.
    """
    if not ctx.target.offers("queue"):
        raise NotApplicableError("the manifest offers no queue")
    backend = ctx.target.backend()
    await backend.open()
    waiting = create_task(backend.queue.receive(ctx.topic(), limit=1, wait=600))
    await sleep(0.05)  # usually enough to be waiting; the result is the same if not
    async with ctx.within(2 * ctx.grace, "closing a backend ends a receive that waits"):
        await backend.close()
        refused(await raised(waiting), BackendClosedError, "a receive that waits while its backend is closed")


@rule("BACKEND-OPEN-07")
async def fresh_loops(ctx: Context) -> None:
    """A backend works in a new event loop each time it is opened: it keeps nothing of an ended loop.

    Why: Tests, command lines and notebooks call `asyncio.run` several times.

    Test: One backend object is opened, used and closed in three loops one after another, two of them in other
    threads.
    """
    backend = ctx.target.backend()

    async def once() -> None:
        async with backend:
            await use(ctx, backend)

    for _ in range(2):
        await to_thread(asyncio.run, once(), debug=True)
    await once()


@rule("BACKEND-OPEN-08")
async def sets_up(ctx: Context) -> None:
    """`setup` can be run repeatedly before opening, and reports its changes as lines of text.

    Why: Every deployment runs `brrr setup URL`.

    Test: It is run twice on new backends. Then one is opened and used.
    """
    for _ in range(2):
        said = await ctx.target.backend().setup()
        equal({type(each) for each in [said, *said]} - {str}, {list}, f"the types in the result of `setup`, {said!r}")
    await use(ctx, await ctx.backend())


@rule("BACKEND-OPEN-09")
async def opening_cancelled(ctx: Context) -> None:
    """A cancelled opening leaves nothing open, and the backend can be opened afterwards.

    Why: A program may be stopped while it starts.

    Test: Openings are cancelled after 0, 1, 2 … turns of the loop. Then no task, thread or file is left, and the same
    backend is opened and used.
    """
    measured = ctx.target.backend()
    turns = await ctx.turns_of(measured.open)
    await measured.close()
    for point in ctx.points(turns):
        backend = ctx.target.backend()
        await ctx.cancelled(backend.open, point)
        await backend.close()
        async with backend:
            pass
    await use(ctx, await ctx.backend())


@rule("BACKEND-OPEN-10")
async def waits_for_its_server(ctx: Context) -> None:
    """A backend that has `retry_for` opens if its server comes up within that time.

    Why: A worker is often started shortly before its server.

    Test: The URL is opened with the address of a closed port; half a second later the server answers there. The rule
    applies to URLs that name a server.
    """
    async with Network(ctx.target) as network:
        backend = network.backend()
        if not backend.retry_for:
            raise NotApplicableError("the backend has no `retry_for`")
        opening = create_task(raised(backend.open()))
        await wait({opening}, timeout=HEAD_START)
        if opening.done():
            broken(f"opening did not wait for the server, but ended with {opening.result()!r}")
        await network.listen()
        async with ctx.within(ctx.grace, "opening ends when the server is up"):
            equal(await opening, None, "the exception of opening when the server is up")
        await use(ctx, backend)
        await backend.close()


@rule("BACKEND-CLEAN-01")
async def leaves_nothing(ctx: Context) -> None:
    """A closed backend leaves no task, thread, file or socket behind.

    Why: Leftovers keep a process from ending, or exhaust its descriptors after a thousand openings.

    Test: A backend is opened, used and closed. Then the tasks of the loop, the threads and the open files are as
    before. The first round may start the thread pool of the loop, so it is not compared.
    """
    async with ctx.target.backend() as backend:
        await use(ctx, backend)
    before, begun = open_files(), threads()
    async with ctx.target.backend() as backend:
        await use(ctx, backend)
    await sleep(0)
    tasks = other_tasks()
    check(not tasks, f"tasks are still pending after the backend was closed: {[each.get_name() for each in tasks]}")
    left = await to_thread(poll, lambda: {each for each in threads() - begun if not each.name.startswith(POOL)})
    check(not left, f"threads still run after the backend was closed: {[each.name for each in left]}")
    opened = await to_thread(poll, lambda: open_files() - before)
    check(not opened, f"files or sockets are still open after the backend was closed: {sorted(opened)}")


@rule("BACKEND-CLEAN-02")
async def closes_under_use(ctx: Context) -> None:
    """Closing a backend ends its running operations: each returns, or raises `BackendClosedError`.

    Why: A worker is stopped in the middle of its work. An operation that never ends would keep it alive.

    Test: Twenty operations are started, and the backend is closed a few turns of the loop later. All must end within
    the grace.
    """
    for turns in (0, 1, 3, 10):
        backend = ctx.target.backend()
        await backend.open()
        operations = [create_task(use(ctx, backend)) for _ in range(10)]
        if backend.roles.queue is not None:
            operations += [create_task(_wait(backend.queue, ctx.topic())) for _ in range(10)]
        for _ in range(turns):
            await sleep(0)
        async with ctx.within(2 * ctx.grace, "operations end when their backend is closed"):
            await backend.close()
            ended = await gather(*operations, return_exceptions=True)
        for error in ended:
            if error is not None and not isinstance(error, BackendClosedError):
                broken(f"an operation whose backend was closed raised {error!r}", cause=error)


async def _wait(queue: Queue, topic: str) -> None:
    await queue.receive(topic, limit=1, wait=600)


@rule("BACKEND-CLEAN-03")
async def closes_after_errors(ctx: Context) -> None:
    """An error or a cancellation that leaves `async with` closes the backend, and passes unchanged.

    Why: Most programs end this way.

    Test: An error, and then a cancellation, leaves the block. The backend is closed afterwards and can be opened again.
    """
    for leaving in (LookupError("ours"), CancelledError("ours")):
        backend = ctx.target.backend()
        try:
            async with backend:
                await use(ctx, backend)
                raise leaving
        except (LookupError, CancelledError) as error:
            check(error is leaving, f"{leaving!r} left the block, but {error!r} was raised")
        else:
            broken(f"{leaving!r} was suppressed")
        refused(
            _error_of_roles(backend),
            BackendClosedError,
            "the roles of a backend whose block was left by an error",
        )
        async with backend:
            pass


@rule("BACKEND-CLEAN-04")
async def many_openings(ctx: Context) -> None:
    """Thirty openings and closings leave nothing behind.

    Why: A test suite opens thousands of backends.

    Test: After every rule the kit compares tasks, threads, files and warnings of the interpreter. This rule opens a
    backend thirty times, and makes one that is never opened.
    """
    ctx.target.backend()
    for _ in range(30):
        async with ctx.target.backend():
            pass
    check(not other_tasks(), f"tasks are pending after 30 openings: {[each.get_name() for each in other_tasks()]}")


@rule("BACKEND-CLEAN-05")
async def tasks_cancelled_from_outside(ctx: Context) -> None:
    """If other code cancels the tasks of a backend, every operation still ends: it returns, or raises a `BackendError`.

    Why: `asyncio.run` cancels all tasks of its loop when the program is interrupted twice, when a task raises
    `SystemExit`, and after `loop.stop()`. An operation that waits for an ended task would hang, and the process would
    ignore SIGTERM.

    Test: All tasks that a backend has started are cancelled: while it is idle, and some turns of the loop after twenty
    operations or the opening began; with the tasks of the operations and without them. Running operations must end
    within 15 seconds. A waiting receive, later operations and closing must end within 5 seconds each. An operation may
    raise a `CancelledError` only if it was cancelled itself.
    """
    for turns in (0, 1, 3, 10, 30):
        await _cancel_while_opening(ctx, turns)
        for too in (False, True):
            await _cancel_under_use(ctx, turns, operations_too=too)


async def _cancel_while_opening(ctx: Context, turns: int) -> None:
    backend, others = ctx.target.backend(), all_tasks()
    opening = create_task(backend.open())
    for _ in range(turns):
        await sleep(0)
    _cancel_all_but(*others, opening)
    await _ended(ctx, [opening], "opening")
    await _close(ctx, backend)


async def _cancel_under_use(ctx: Context, turns: int, *, operations_too: bool) -> None:
    backend, others, topic = ctx.target.backend(), all_tasks(), ctx.topic()
    await backend.open()
    queue = backend.roles.queue
    waiting = [] if queue is None else [create_task(_wait(queue, topic))]
    working = [create_task(_work(ctx, backend)) for _ in range(20 if turns else 0)]
    for _ in range(turns):
        await sleep(0)
    _cancel_all_but(*others, *([] if operations_too else [*waiting, *working]))
    # If the task of a client library was cancelled, the timeout of the backend ends the operation.
    await _ended(ctx, working, "a running operation", cancelled=operations_too, graces=3)
    later = [create_task(_work(ctx, backend)) for _ in range(2)]
    if queue is not None:
        later.append(create_task(queue.put(topic, [b"late"])))
    await _ended(ctx, later, "a later operation")
    await _ended(ctx, waiting, "a receive that waits", cancelled=operations_too)
    await _close(ctx, backend)


def _cancel_all_but(*others: Task[Any]) -> None:
    for task in all_tasks() - {*others, current_task()}:
        task.cancel()


async def _ended(
    ctx: Context, operations: Sequence[Task[Any]], what: str, *, cancelled: bool = False, graces: int = 1
) -> None:
    """Check that each operation ends in time: with a result, a `BackendError`, or a `CancelledError` if `cancelled`."""
    bound = graces * ctx.grace
    hanging = (await wait(operations, timeout=bound))[1] if operations else ()
    for task in hanging:
        task.cancel()
    check(not hanging, f"{what} did not end within {bound:g} s after other code cancelled the backend's tasks")
    allowed = (BackendError, CancelledError) if cancelled else BackendError
    for task in operations:
        error = CancelledError() if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, allowed):
            broken(f"{what} raised {error!r} after other code cancelled the backend's tasks", cause=error)


async def _close(ctx: Context, backend: Backend) -> None:
    async with ctx.within(ctx.grace, "closing a backend whose tasks were cancelled"):
        await backend.close()


async def _work(ctx: Context, backend: Backend) -> None:
    """Use each role. Results are not checked, as an operation whose answer was lost may be executed twice."""
    roles = backend.roles
    if roles.store is not None:
        key = ctx.key()
        await roles.store.write([(key, b"x")])
        await roles.store.read([key])
    if roles.cache is not None:
        await roles.cache.increment({ctx.counter(): 1})
    if roles.queue is not None:
        topic = ctx.topic()
        await roles.queue.put(topic, [b"x"])
        await roles.queue.ack(await roles.queue.receive(topic, limit=1, wait=0))
