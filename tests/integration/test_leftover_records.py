"""A pending record that is created after its call has ended is deleted by the program that created it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, Key, Swap
from brrr_core.engine.calls import Child
from brrr_core.engine.control import Control
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.retrying import Retrier
from brrr_core.engine.returning import Completion, Returner
from brrr_core.engine.roots import SpawnBudget
from brrr_core.engine.scheduling import Scheduler, ScheduleRequest
from brrr_core.engine.starting import Starter
from brrr_core.wire import (
    Buried,
    Call,
    Failure,
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    decode_pending,
    encode_call,
    encode_failure,
    encode_message,
    encode_pending,
)
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, working

CHILD = Key("value", "child")
RECORD = Key("pending_returns", "child")


class Bench:
    """The engine over an instrumented memory backend, and a second worker that has no faults."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.instrument = Instrument()
        roles = self.instrument.wrap(backend)
        assert roles.queue is not None
        assert roles.store is not None
        assert roles.cache is not None
        self.operations = Operations(roles.queue, roles.store, roles.cache)
        self.budget, self.returner, self.scheduler = _parts(self.operations)
        _, self._returner, self._other = _parts(Operations(backend.queue, backend.store, backend.cache))

    async def end_child(self) -> None:
        """Receive the message of the child at the other worker, and complete it."""
        (delivery,) = await self.backend.queue.receive(TOPIC, limit=1, wait=0)
        await self._returner.complete(Completion(delivery, "child", b"7"))

    async def register_other(self) -> None:
        """Register another parent on the child, at the other worker."""
        await self._other.schedule([request("other parent")])

    @property
    def woken(self) -> list[str]:
        puts = [each for each in self.instrument.operations if each.name == "queue.put"]
        bodies = [ScheduleMessage("root", name) for name in ("parent", "other parent")]
        return [each.call_hash for each in bodies for put in puts if encode_message(each) in put.items]

    async def record(self) -> PendingReturns | None:
        (record,) = await self.backend.store.read([RECORD])
        return None if record is None else decode_pending(record)


def _parts(operations: Operations) -> tuple[SpawnBudget, Returner, Scheduler]:
    budget = SpawnBudget(operations, 1_000)
    returner = Returner(operations, budget, ValueCache(1_000))
    return budget, returner, Scheduler(operations, budget, returner)


def request(parent: str | None, **others: Any) -> ScheduleRequest:
    watcher = None if parent is None else PendingReturn("root", parent, TOPIC)
    return ScheduleRequest(Child(Call("task", b"[]", "child"), TOPIC), "root", watcher, **others)


@asynccontextmanager
async def bench(url: str = "memory:") -> AsyncIterator[Bench]:
    async with brrr.open_backend(url) as backend:
        yield Bench(backend)


@pytest.mark.parametrize("parent", ["parent", None], ids=["waits", "does not wait"])
async def test_call_that_ends_between_its_put_and_its_mark_leaves_no_record(parent: str | None) -> None:
    async with bench() as b:

        async def end(operation: Operation) -> None:
            if operation.name == "store.swap":
                b.instrument.before = b.instrument.after
                await b.end_child()

        b.instrument.before = end
        placed = await b.scheduler.schedule([request(parent)])
        assert [each.value for each in placed] == [b"7"]
        assert (await b.record(), b.woken) == (None, [])  # the parent that asked knows already


async def test_parent_wakes_if_its_worker_was_too_slow_to_keep_its_lease() -> None:
    """Another worker may have handled its message, and relies on the record."""
    async with bench("memory:?lease=200ms") as b:

        async def end(operation: Operation) -> None:
            if operation.name == "store.swap":
                b.instrument.before = b.instrument.after
                await b.end_child()
                await asyncio.sleep(0.2)

        b.instrument.before = end
        await b.scheduler.schedule([request("parent")])
        assert (await b.record(), b.woken) == (None, ["parent"])


async def test_other_parent_that_registers_in_such_a_record_wakes() -> None:
    async with bench() as b:

        async def end(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 1:
                await b.end_child()

        async def register(operation: Operation) -> None:
            if operation.name == "store.swap" and b.instrument.calls["store.swap"] == 1:
                await b.register_other()

        b.instrument.before, b.instrument.after = end, register
        await b.scheduler.schedule([request("parent")])
        assert (await b.record(), b.woken) == (None, ["other parent"])


async def test_parent_that_registers_during_the_deletion_is_kept() -> None:
    """The deletion compares. So it finds the parent, wakes it, and deletes the record that it has seen."""
    async with bench() as b:

        async def between(operation: Operation) -> None:
            if operation.name == "store.swap":
                await (b.end_child, b.register_other)[b.instrument.calls["store.swap"] - 1]()
                b.instrument.before = between if b.instrument.calls["store.swap"] < 2 else b.instrument.after

        b.instrument.before = between
        await b.scheduler.schedule([request("parent")])
        assert (await b.record(), b.woken) == (None, ["other parent"])


async def test_record_that_existed_before_the_end_is_left_to_the_call() -> None:
    async with bench() as b:
        await b.register_other()

        async def write(operation: Operation) -> None:
            if operation.name == "store.swap":
                await b.backend.store.swap([Swap(CHILD, None, b"7")])  # and not yet its wake-ups

        b.instrument.after = write
        assert [each.value for each in await b.scheduler.schedule([request("parent")])] == [b"7"]
        assert b.woken == []
        await b.end_child()
        assert await b.record() is None


async def test_cancelled_run_does_not_keep_the_record_from_being_deleted() -> None:
    async with bench() as b:

        async def cancel(operation: Operation) -> None:
            if operation.name == "store.swap":
                await b.end_child()
                scheduling.cancel()
                b.instrument.before = b.instrument.after

        b.instrument.before = cancel
        scheduling = asyncio.ensure_future(b.scheduler.schedule([request("parent")]))
        await asyncio.wait({scheduling})
        await b.scheduler.close()
        assert await b.record() is None


async def test_call_that_ended_is_not_sent_again() -> None:
    async with bench() as b:
        await b.backend.store.swap([Swap(CHILD, None, b"7")])
        assert await b.scheduler.send("root", request(None).child) == b"7"
        assert (await b.backend.queue.stats(TOPIC)).ready == 0
        assert b.instrument.calls == {"store.read": 1}


async def test_cancelled_schedule_is_noticed_in_the_look_after_registering() -> None:
    async with bench() as b:
        cancelled = Key("value", "brrr.cancelled/root")
        assert (await b.scheduler.schedule([request("parent", cancelled=cancelled)]))[0].cancelled is False
        await b.backend.store.swap([Swap(cancelled, None, b"")])
        before = b.instrument.calls["store.read"]
        placed = await b.scheduler.schedule([request("parent", cancelled=cancelled), request(None)])
        assert [each.cancelled for each in placed] == [True, False]
        assert b.instrument.calls["store.read"] == before + 2


async def test_stranded_call_that_has_ended_leaves_no_record() -> None:
    async with bench() as b:
        await b.backend.store.swap([Swap(CHILD, None, b"7")])
        buried = Buried("child", TOPIC, 1, 5, "reason")
        await b.scheduler.strand(PendingReturn("root", "child", TOPIC), buried, alone=False)
        assert await b.record() is None


async def test_retried_call_that_ends_before_its_mark_leaves_no_record() -> None:
    async with bench() as b:
        control = Control(b.operations)
        control.in_use = True
        retrier = Retrier(b.operations, control, Starter(b.operations, b.budget, b.returner, None), b.returner)
        await b.backend.store.write([(CHILD, encode_failure(Failure("Refused", "no")))])

        async def put() -> int:
            await b.backend.queue.put(TOPIC, [b"message"])
            await b.end_child()
            return 1

        await retrier.put_back(TOPIC, [ScheduleMessage("root", "child")], put)
        assert await b.backend.store.read([CHILD, RECORD]) == [b"7", None]


@asynccontextmanager
async def client(backend: Backend, instrument: Instrument) -> AsyncIterator[brrr.AppConsumer]:
    roles = instrument.wrap(backend)
    assert roles.queue is not None
    assert roles.store is not None
    assert roles.cache is not None
    connection = brrr.Connection(roles.queue, roles.store, roles.cache)
    yield brrr.AppConsumer(codec="json", connection=connection)
    await connection.close()


async def test_client_deletes_the_record_of_a_call_that_ended_before_its_mark() -> None:
    async with brrr.open_backend("memory:") as backend:
        instrument = Instrument()

        async def end(operation: Operation) -> None:
            if operation.name == "store.swap" and operation.items[0].key.kind == "pending_returns":
                await backend.store.swap([Swap(Key("value", operation.items[0].key.call_hash), None, b"7")])
                instrument.before = instrument.after

        instrument.before = end
        async with client(backend, instrument) as app:
            call_hash = (await app.schedule("task", topic=TOPIC)()).call_hash
            assert await app.result("task", topic=TOPIC, timeout=BOUND)() == 7
        assert await backend.store.read([Key("pending_returns", call_hash)]) == [None]


async def test_client_that_schedules_a_call_with_a_value_deletes_its_leftover_record_and_wakes_its_parents() -> None:
    async with brrr.open_backend("memory:") as backend:
        async with client(backend, Instrument()) as app:
            call_hash = (await app.schedule("task", topic=TOPIC)()).call_hash
            await backend.queue.receive(TOPIC, limit=1, wait=0)
            record = encode_pending(PendingReturns((PendingReturn("root", "parent", TOPIC),), 5))
            await backend.store.write([(Key("pending_returns", call_hash), record), (Key("value", call_hash), b"7")])
            assert (await app.schedule("task", topic=TOPIC)()).state == "done"
        assert await backend.store.read([Key("pending_returns", call_hash)]) == [None]
        (woken,) = await backend.queue.receive(TOPIC, limit=1, wait=0)
        assert woken.body == encode_message(ScheduleMessage("root", "parent"))


@brrr.handler_no_arg
async def task(n: int) -> int:
    raise AssertionError(n)


@brrr.handler
async def parent(app: brrr.ActiveWorker, *, again: bool) -> int:
    own = await app.call(task)(1)
    if again and await app.call(task)(2):
        raise brrr.Again(after=3_600)
    return own


@pytest.mark.parametrize("again", [False, True], ids=["returns", "runs again"])
@pytest.mark.parametrize("deliveries", [1, 2])
async def test_delivery_after_a_crash_deletes_what_the_crashed_one_left(deliveries: int, again: bool) -> None:
    codec = brrr.load_codec("json")
    child, other, call = (codec.encode_call(name, args, kwargs) for name, args, kwargs in
                          [("task", (1,), {}), ("task", (2,), {}), ("parent", (), {"again": again})])  # fmt: skip
    record = Key("pending_returns", child.call_hash)
    async with brrr.open_backend("memory:") as backend:
        await backend.store.write(
            [
                (Key("call", call.call_hash), encode_call(call)),
                (record, encode_pending(PendingReturns((PendingReturn("root", call.call_hash, TOPIC),), 5))),
                (Key("value", child.call_hash), b"7"),
                (Key("value", other.call_hash), b"8"),
            ]
        )
        await backend.queue.put(TOPIC, [encode_message(ScheduleMessage("root", call.call_hash))])
        for _ in range(deliveries - 1):
            await backend.queue.release(await backend.queue.receive(TOPIC, limit=1, wait=0))

        async def idle() -> bool:
            return (await backend.queue.stats(TOPIC))[:2] == (0, 0)

        connection = brrr.Connection(backend.queue, backend.store, backend.cache, policy=QUICK)
        async with working(connection, {"task": task, "parent": parent}):
            await until(idle, "the message is settled")
        await connection.close()
        (left,) = await backend.store.read([record])
        assert (left is None) == (deliveries > 1)
