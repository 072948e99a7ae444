"""A connection: what scheduling does to its backends, signals, threads, and closing."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.engine.starting import Scheduled
from brrr_core.errors import ArgumentError, BackendUnavailableError
from brrr_core.wire import Call, count_key, decode_call, decode_message
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import over

CALL = Call("task", b"[1]", "hash")
TOPIC = "t"


async def test_scheduling_writes_the_call_and_counts_it_then_puts_the_message_and_then_marks_it() -> None:
    async with brrr.open_backend("memory:") as backend:
        instrument = Instrument()
        root_id = (await over(instrument.wrap(backend), steps=False).schedule(CALL, TOPIC)).root_id
        names = [operation.name for operation in instrument.operations]
        assert names[0] == "store.read"
        assert sorted(names[1:3]) == ["cache.increment", "store.write"]
        assert names[3:] == ["queue.put", "store.swap"]
        assert root_id is not None
        assert await backend.cache.increment({count_key(root_id): 0}) == {count_key(root_id): 1}
        (record,) = await backend.store.read([Key("call", "hash")])
        assert record is not None
        assert decode_call("hash", record) == CALL
        (delivery,) = await backend.queue.receive(TOPIC, limit=5, wait=0)
        assert decode_message(delivery.body) == (root_id, "hash")


async def test_call_with_value_is_not_scheduled() -> None:
    async with brrr.open_backend("memory:") as backend:
        await backend.store.write([(Key("value", "hash"), b"")])  # an empty value is one
        instrument = Instrument()
        connection = over(instrument.wrap(backend), steps=False)
        for redrive in (False, True):
            done = await connection.schedule(CALL, TOPIC, redrive=redrive)
            assert done == Scheduled("hash", None, TOPIC, "done")
        assert {operation.name for operation in instrument.operations} == {"store.read"}
        assert await connection.value("hash") == b""
        assert await connection.value("other") is None


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer lost"])
async def test_failed_schedule_can_be_repeated(number: int, lost: bool) -> None:
    async with brrr.open_backend("memory:") as backend:
        error = BackendUnavailableError("gone")

        async def fail(operation: Operation) -> None:
            if operation.number == number:
                raise error

        instrument = Instrument(after=fail) if lost else Instrument(before=fail)
        connection = over(instrument.wrap(backend), steps=False)
        with pytest.raises(BackendUnavailableError) as caught:
            await connection.schedule(CALL, TOPIC)
        assert caught.value is error
        again = await connection.schedule(CALL, TOPIC)
        assert again.state == ("scheduled" if (number, lost) == (5, True) else "put")
        assert (await backend.queue.stats(TOPIC)).ready in (1, 2)
        await connection.close()


async def test_function_in_thread_sees_the_context_of_its_caller() -> None:
    who: ContextVar[str] = ContextVar("who")
    async with brrr.connect("memory:") as connection:
        who.set("caller")

        def look() -> tuple[str, bool]:
            found = who.get()
            who.set("thread")
            return found, threading.current_thread() is threading.main_thread()

        assert await connection.in_thread(look) == ("caller", False)
        assert who.get() == "caller"


async def test_error_of_function_in_thread_reaches_its_caller() -> None:
    def empty() -> object:
        return next(iter([]))

    def bad() -> None:
        raise LookupError("bad")

    async with brrr.connect("memory:") as connection, asyncio.timeout(20):
        with pytest.raises(LookupError, match="bad"):
            await connection.in_thread(bad)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await connection.in_thread(empty)


async def test_sigterm_stops_the_loops_of_all_connections_of_the_process() -> None:
    async with brrr.serve("memory:") as one, brrr.serve("memory:") as other:
        handle = brrr.AppWorker(handlers={}, codec="json", connection=one).handle
        loops = [asyncio.create_task(each.loop("t", handle)) for each in (one, other, one)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await asyncio.gather(*loops)
            async with brrr.serve("memory:") as third:
                await third.loop("t", handle)  # the process must end: no loop begins


async def test_loop_leaves_no_signal_handler_behind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with brrr.serve("memory:") as connection:
        app = brrr.AppWorker(handlers={}, codec="json", connection=connection)
        async with asyncio.TaskGroup() as loops:
            for topic in "ab":
                loops.create_task(connection.loop(topic, app.handle))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGTERM) is not before
            connection.stop()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_process_with_its_own_sigterm_handler_keeps_it() -> None:
    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        async with brrr.serve("memory:") as connection:
            app = brrr.AppWorker(handlers={}, codec="json", connection=connection)
            loop = asyncio.create_task(connection.loop("a", app.handle))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGTERM) is own
            connection.stop()
            await loop
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


PROGRAM = """
import asyncio, sys
import brrr_core as brrr

@brrr.handler_no_arg
async def slow(seconds: float) -> str:
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    print("ended", flush=True)
    return "done"

async def main() -> None:
    async with brrr.serve("memory:", policy=brrr.Policy(grace=float(sys.argv[2]))) as connection:
        app = brrr.AppWorker(handlers=dict(slow=slow), codec="json", connection=connection)
        await app.schedule(slow, topic="t")(float(sys.argv[1]))
        await connection.loop("t", app.handle, concurrency=1)
        print(await connection.queue.stats("t"), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("seconds", "grace", "said"),
    [
        (0.3, 60, ["begun", "ended", "QueueStats(ready=0, leased=0, delayed=0, dead=0)"]),
        (3600, 0, ["begun", "QueueStats(ready=1, leased=0, delayed=0, dead=0)"]),
    ],
    ids=["finishes", "released"],
)
def test_sigterm_ends_a_process_gracefully(seconds: float, grace: float, said: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, str(seconds), str(grace)]
    # Without a buffer, so that `readline` reads nothing ahead that `communicate` would miss.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            os.kill(process.pid, signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert ["begun", *out.decode().splitlines()] == said
    assert err == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("topic", "concurrency"), [("", 1), (TOPIC, 0), (TOPIC, -1)])
async def test_loop_without_concurrency_or_topic_is_refused_at_once(topic: str, concurrency: int) -> None:
    async def handle(run: object, call: Call) -> bytes:
        return b""

    async with brrr.open_backend("memory:") as backend, asyncio.timeout(5):
        with pytest.raises(ArgumentError):
            await over(backend).loop(topic, handle, concurrency=concurrency)
