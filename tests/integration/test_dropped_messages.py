"""Messages of cancelled schedules are dropped. No fault leaves a call that is marked, or waits, without a message."""

import asyncio
from dataclasses import replace

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import BackendUnavailableError
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, TOPIC, UNPARKED, over, serving, working

MARKER = Key("value", "brrr.control")


@brrr.handler_no_arg
async def child() -> str:
    return "value"


@brrr.handler
async def middle(app: brrr.ActiveWorker) -> str:
    return await app.call(child, topic="later")()


@brrr.handler
async def parent(app: brrr.ActiveWorker, name: str) -> str:
    return f"{name}: {await app.call(middle)()}"


HANDLERS = {"child": child, "middle": middle, "parent": parent}


@pytest.mark.parametrize("task", ["child", "middle"])
@pytest.mark.parametrize("resumes", [False, True], ids=["dies", "resumes"])
async def test_call_gets_no_mark_after_its_message_was_dropped(memory: str, task: str, resumes: bool) -> None:
    """A worker puts a call of a schedule that is then cancelled. Its message, or that of a call below it, is dropped
    before the worker marks it. Then the worker dies, or the schedule is resumed. The next schedule continues."""
    reached, late, died = asyncio.Event(), asyncio.Event(), asyncio.Event()
    key = Key("pending_returns", brrr.load_codec("json").encode_call(task, (), {}).call_hash)

    async def hold(operation: Operation) -> None:
        if operation.name == "store.swap" and key in [swap.key for swap in operation.items] and not reached.is_set():
            reached.set()
            await late.wait()

    async def die(operation: Operation) -> None:
        if operation.name == "store.swap" and late.is_set() and not resumes:
            instrument.dead = True
            died.set()

    instrument = Instrument(before=hold, after=die)
    async with brrr.open_backend(f"{memory}?lease=1s") as backend, brrr.connect(backend) as client:
        await backend.store.write([(MARKER, b"0")])
        connection = over(instrument.wrap(backend), policy=UNPARKED, steps=False)
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        worker = asyncio.create_task(connection.loop(TOPIC, app.handle, concurrency=1))
        mine = await brrr.AppConsumer(codec="json", connection=client).schedule(parent, topic=TOPIC)("mine")
        await reached.wait()
        async with working(over(backend, policy=UNPARKED), HANDLERS) as other:
            await other.settled(leased=1)
            await client.cancel_schedule(str(mine.root_id))
            async with working(over(backend, policy=UNPARKED), HANDLERS, topics=["later"]) as later:
                await later.idle()
                if resumes:
                    await client.resume_schedule(str(mine.root_id))
                late.set()
                await (other.idle() if resumes else died.wait())
                await other.idle()
                await other.app.schedule(parent, topic=TOPIC)("other")
                assert await other.app.result(parent, timeout=BOUND)("other") == "other: value"
        connection.stop()
        await asyncio.wait({worker})
        assert worker.exception() is None or instrument.dead


async def test_call_that_sleeps_wakes_for_the_second_of_two_schedules(url: str) -> None:
    """The timer of the first one is dropped."""

    @brrr.handler
    async def sleeper(app: brrr.ActiveWorker) -> str:
        await app.sleep(1.0)
        return "slept"

    policy = replace(UNPARKED, resend_after=None)  # then a call has no mark, and each schedule puts it
    async with serving(url, {"sleeper": sleeper}, policy=policy) as fleet:
        await fleet.connection.store.write([(MARKER, b"0")])
        first = await fleet.app.schedule(sleeper, topic=TOPIC)()

        async def sleeping() -> bool:
            return (await fleet.stats()).delayed == 1

        await until(sleeping, "the timer was put")
        await fleet.app.cancel_schedule(first)
        assert (await fleet.app.schedule(sleeper, topic=TOPIC)()).state == "put"
        assert await fleet.app.result(sleeper, timeout=BOUND)() == "slept"
        await fleet.idle()


async def test_failed_operation_does_not_keep_the_mark_of_a_call_of_a_cancelled_schedule(memory: str) -> None:
    """A call learns of the cancellation when it waits for a child, which another call of the schedule waits for. A read
    of the calls above that other call fails once. The message of the child is dropped later."""
    begun, gate, failed = asyncio.Event(), asyncio.Event(), list[Operation]()
    encoded = brrr.load_codec("json").encode_call("parent", ("mine",), {})
    keys = [Key("pending_returns", encoded.call_hash), Key("value", encoded.call_hash)]

    @brrr.handler
    async def slow(app: brrr.ActiveWorker) -> str:
        begun.set()
        await gate.wait()
        return await app.call(child, topic="later")()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[str]:
        return await app.gather(app.call(parent)("mine"), app.call(slow)())

    async def refuse(operation: Operation) -> None:
        if operation.name == "store.read" and list(operation.items) == keys and not failed:
            failed.append(operation)
            raise BackendUnavailableError("the operation was refused", remedy="It is a fault of the test.")

    handlers = {**HANDLERS, "slow": slow, "top": top}
    async with brrr.open_backend(memory) as backend:
        await backend.store.write([(MARKER, b"0")])
        connection = over(Instrument(before=refuse).wrap(backend), policy=UNPARKED, steps=False)
        async with working(connection, handlers) as fleet:
            scheduled = await fleet.app.schedule(top, topic=TOPIC)()
            await begun.wait()
            await fleet.settled(leased=1)
            await connection.cancel_schedule(str(scheduled.root_id))
            gate.set()
            await fleet.idle()
            async with working(connection, HANDLERS, topics=["later"]) as later:
                await later.idle()
                assert failed
                assert (await fleet.app.schedule(parent, topic=TOPIC)("mine")).state == "put"
                assert await fleet.app.result(parent, timeout=BOUND)("mine") == "mine: value"
