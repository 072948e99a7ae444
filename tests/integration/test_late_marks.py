"""A worker or client that is slow marks a call late: after the call has failed, and while it is retried.

Such a mark has no message behind it. If it took effect, no run would put the call for `resend_after`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendClosedError
from brrr_core.wire import ScheduleMessage, encode_message
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import TOPIC, UNPARKED, Fleet, over, until_idle, working

T = TypeVar("T")


class Stage:
    """A backend with the marker of retries, a leaf that fails until it is repaired, and two parents of it."""

    def __init__(self, stack: AsyncExitStack, backend: Any) -> None:
        self.error: Exception | None = brrr.TerminalError("broken")
        self.backend = backend
        self._stack = stack

    def handlers(self) -> Mapping[str, Any]:
        """Return the handlers."""

        @brrr.handler_no_arg(max_attempts=1, on_exhausted="fail")
        async def leaf() -> int:
            if self.error is not None:
                raise self.error
            return 1

        @brrr.handler
        async def parent(app: brrr.ActiveWorker, number: int) -> int:
            return number + await app.call(leaf)()

        return {"leaf": leaf, "parent": parent}

    async def client(self, hold: "Held | None" = None) -> brrr.AppConsumer:
        """Return a client without steps."""
        return brrr.AppConsumer(codec="json", connection=await self._connection(hold))

    async def worker(self, hold: "Held | None" = None) -> Fleet:
        """Start a worker without steps, which holds one message at a time."""
        connection = await self._connection(hold)
        return await self._stack.enter_async_context(working(connection, self.handlers(), concurrency=1))

    @asynccontextmanager
    async def worker_for_a_while(self) -> AsyncGenerator[None]:
        """Run a worker in the block."""
        connection = await self._connection(None)
        async with working(connection, self.handlers(), concurrency=1):
            yield

    async def idle(self) -> None:
        """Wait until no message is left."""
        await until_idle(self.backend.queue, [TOPIC])

    async def _connection(self, hold: "Held | None") -> brrr.Connection:
        instrument = Instrument() if hold is None else Instrument(before=hold)
        connection = over(instrument.wrap(self.backend), policy=UNPARKED, steps=False)
        self._stack.push_async_callback(connection.close)
        return connection


class Held:
    """Holds the first operation that fits, before its effect, until it may continue.

    Attributes:
        there: Set when the operation is held.
        go: Lets it continue.
        dies: Whether its program is dead by then: the operation has no effect.
    """

    def __init__(self, fits: Callable[[Operation], bool]) -> None:
        self._fits = fits
        self.there = asyncio.Event()
        self.go = asyncio.Event()
        self.dies = False

    async def __call__(self, operation: Operation) -> None:
        """Hold the operation if it is the first that fits."""
        if not self.there.is_set() and self._fits(operation):
            self.there.set()
            await self.go.wait()
            if self.dies:
                raise BackendClosedError("the program died", remedy="The test killed it.")

    async def during(self, work: Awaitable[T]) -> "asyncio.Task[T]":
        """Begin a piece of work, and wait until it is held."""

        async def run() -> T:
            return await work

        task = asyncio.create_task(run())
        await self.there.wait()
        return task


@pytest.fixture
async def on(memory: str) -> AsyncGenerator[Stage]:
    """Return the stage."""
    async with brrr.open_backend(memory) as backend, AsyncExitStack() as stack:
        await backend.store.write([(Key("value", "brrr.control"), b"0")])
        yield Stage(stack, backend)


def hash_of(client: brrr.AppConsumer, task: str, *args: object) -> str:
    """Return the hash of a call."""
    return client._catalogue.encode(task, args, {}).call_hash


def marking(call_hash: str) -> Held:
    """Hold the swap that marks a call as put."""
    return _swapping(
        lambda swap: swap.key == Key("pending_returns", call_hash) and b"scheduled_at" in (swap.new or b"")
    )


def deleting(call_hash: str) -> Held:
    """Hold the swap that deletes the failure of a call."""
    return _swapping(lambda swap: swap.key == Key("value", call_hash) and swap.new is None)


def writing(call_hash: str) -> Held:
    """Hold the write of a call, which comes before its message."""
    return Held(lambda it: it.name == "store.write" and Key("call", call_hash) in [key for key, _ in it.items])


def _swapping(fits: Callable[[Swap], bool]) -> Held:
    return Held(lambda operation: operation.name == "store.swap" and any(map(fits, operation.items)))


async def failed(client: brrr.AppConsumer, task: str, *args: object) -> None:
    """Wait until a call has failed."""
    with pytest.raises(brrr.CallFailedError):
        await client.result(task)(*args)


async def test_late_mark_of_a_worker_does_not_keep_a_retried_child_from_running(on: Stage) -> None:
    """The worker of one parent has put the leaf, and is frozen before it marks it. The other parent is retried."""
    client = await on.client()
    mark = marking(hash_of(client, "leaf"))
    await client.schedule("parent", topic=TOPIC)(1)
    await on.worker(mark)
    await mark.there.wait()
    async with on.worker_for_a_while():
        await failed(client, "leaf")
        await client.schedule("parent", topic=TOPIC)(2)
        await failed(client, "parent", 2)
    on.error = None
    assert await client.retry("parent", topic=TOPIC)(2)
    mark.go.set()
    await on.idle()
    assert [await client.read("parent")(number) for number in (1, 2)] == [2, 3]


async def test_late_mark_of_a_client_does_not_keep_a_retry_from_putting_the_call(on: Stage) -> None:
    """A client has put the leaf, and is frozen before its mark. Another retries, and dies before it puts the leaf."""
    client = await on.client()
    leaf = hash_of(client, "leaf")
    mark, put = marking(leaf), writing(leaf)
    scheduling = await mark.during((await on.client(mark)).schedule("leaf", topic=TOPIC)())
    async with on.worker_for_a_while():
        await failed(client, "leaf")
    on.error = None
    retrying = await put.during((await on.client(put)).retry("leaf", topic=TOPIC)())
    put.dies = True
    put.go.set()
    with pytest.raises(BackendClosedError):
        await retrying
    mark.go.set()
    await scheduling
    assert await client.retry("leaf", topic=TOPIC)()
    await on.worker()
    await on.idle()
    assert await client.read("leaf")() == 1


async def test_worker_that_wakes_parents_meanwhile_does_not_let_a_late_mark_take_effect(on: Stage) -> None:
    """A second message of the leaf deletes its pending record, just before the retry deletes its failure."""
    client = await on.client()
    leaf = hash_of(client, "leaf")
    mark, delete = marking(leaf), deleting(leaf)
    scheduling = await mark.during((await on.client(mark)).schedule("leaf", topic=TOPIC)())
    async with on.worker_for_a_while():
        await failed(client, "leaf")
        await client.schedule("parent", topic=TOPIC)(1)
        await failed(client, "parent", 1)
        on.error = None
        retrying = await delete.during((await on.client(delete)).retry("parent", topic=TOPIC)(1))
        await on.backend.queue.put(TOPIC, [encode_message(ScheduleMessage("second", leaf))])
        await on.idle()
    delete.go.set()
    assert await retrying
    mark.go.set()
    await scheduling
    await on.worker()
    await on.idle()
    assert await client.read("parent")(1) == 2


async def test_late_mark_of_a_redrive_does_not_keep_a_retried_child_from_running(on: Stage) -> None:
    """An operator has redriven the leaf, and is frozen before the mark. The leaf fails again, and is retried."""
    client = await on.client()
    mark = marking(hash_of(client, "leaf"))
    on.error = OSError("broken")
    await client.schedule("leaf", topic=TOPIC)()
    async with on.worker_for_a_while():
        await failed(client, "leaf")
        await on.idle()
    redriving = await mark.during((await on.client(mark)).dead_letters(TOPIC).redrive(failed=True))
    async with on.worker_for_a_while():
        await failed(client, "leaf")
        await client.schedule("parent", topic=TOPIC)(1)
        await failed(client, "parent", 1)
    on.error = None
    assert await client.retry("parent", topic=TOPIC)(1)
    mark.go.set()
    assert await redriving == 1
    await on.worker()
    await on.idle()
    assert await client.read("parent")(1) == 2
