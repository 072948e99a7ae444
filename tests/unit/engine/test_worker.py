"""The loop of a worker, in virtual time: slots, leases, stopping, and a queue that fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import BackendUrl, Duration
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.engine.run import Run
from brrr_core.errors import BackendClosedError, BackendError, BackendUnavailableError
from brrr_core.hooks import BackendFailed, CallStarted, WorkerStopped
from brrr_core.wire import Call
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.workloads.fleet import over
from tests.support.virtual import run_virtually

LEASE = 30.0
TOPIC = "t"


@dataclass
class Bench:
    """One worker on a memory backend, whose handler sleeps for as many seconds as its call's payload says."""

    backend: MemoryBackend
    instrument: Instrument
    connection: brrr.Connection
    events: list[Any] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def handle(self, run: Run, call: Call) -> bytes:
        self.begun.append(now())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(float(call.payload))
        finally:
            self.running -= 1
        self.ended.append(now())
        return b"done"

    async def put(self, *seconds: float) -> None:
        for n, each in enumerate(seconds):
            await self.connection.schedule(Call("sleep", b"%f" % each, f"h{n}-{each}"), TOPIC, redrive=True)

    def start(self, concurrency: int = 4) -> "asyncio.Task[None]":
        return asyncio.create_task(self.connection.loop(TOPIC, self.handle, concurrency=concurrency))

    @property
    def released(self) -> list[int]:
        return [event.released for event in self.events if isinstance(event, WorkerStopped)]


class Diary:
    def __init__(self, events: list[Any]) -> None:
        self.events = events

    @brrr.hookimpl
    def brrr_worker_stopped(self, event: WorkerStopped) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_backend_failed(self, event: BackendFailed) -> None:
        self.events.append(event)

    @brrr.hookimpl
    def brrr_call_started(self, event: CallStarted) -> None:
        self.events.append(event)


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def bench(**policy: Any) -> AsyncIterator[Bench]:
    backend = MemoryBackend(BackendUrl("memory"), MemoryOptions(Duration(LEASE)), clock=asyncio.get_running_loop().time)
    async with backend, asyncio.timeout(24 * 3600):
        instrument = Instrument()
        events: list[Any] = []
        connection = over(instrument.wrap(backend), policy=brrr.Policy(**policy), hooks=[Diary(events)])
        yield Bench(backend, instrument, connection, events)
        await connection.close()


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtually(test())

    run.__name__ = test.__name__
    return run


Fault = Callable[[Operation], Awaitable[None]]


def failing(name: str, error: Exception, numbers: range) -> Callable[[Instrument], Fault]:
    """Fails these of the operations of that name, counted from 1."""

    def made(instrument: Instrument) -> Fault:
        async def before(operation: Operation) -> None:
            if operation.name == name and instrument.calls[name] in numbers:
                raise error

        return before

    return made


@virtually
async def test_lease_is_extended_at_each_third_while_its_call_runs() -> None:
    async with bench() as b:
        await b.put(100)
        loop = b.start()
        await asyncio.sleep(99)
        assert b.instrument.calls["queue.extend"] == 9
        assert (await b.backend.queue.stats(TOPIC)).leased == 1
        await asyncio.sleep(2)
        assert b.ended == [100]
        assert b.begun == [0]  # it came once
        extended = b.instrument.calls["queue.extend"]
        await asyncio.sleep(100)
        assert b.instrument.calls["queue.extend"] == extended  # nothing runs, nothing is extended
        b.connection.stop()
        await loop


@virtually
async def test_failed_extension_is_retried_before_the_lease_ends() -> None:
    async with bench() as b:
        b.instrument.before = failing("queue.extend", BackendUnavailableError("gone"), range(1, 2))(b.instrument)
        await b.put(100)
        loop = b.start()
        await asyncio.sleep(101)
        assert b.ended == [100]
        assert len(b.begun) == 1
        assert [event for event in b.events if isinstance(event, BackendFailed)]
        b.connection.stop()
        await loop


@virtually
async def test_message_with_lost_lease_goes_to_another_worker() -> None:
    async with bench() as b:
        b.instrument.before = failing("queue.extend", BackendUnavailableError("gone"), range(1, 100))(b.instrument)
        await b.put(100)
        b.start(concurrency=1)
        other = b.start(concurrency=1)
        await asyncio.sleep(50)
        assert b.begun == [0, 30]
        b.connection.stop()
        await asyncio.wait({other})


@virtually
async def test_worker_runs_as_many_calls_as_its_concurrency() -> None:
    async with bench() as b:
        await b.put(*([5.0] * 1 + [6.0] * 1 + [float(n) for n in range(7, 17)]))
        loop = b.start(concurrency=4)
        await asyncio.sleep(100)
        assert len(b.ended) == 12
        assert b.most == 4
        assert b.begun[:5] == [0, 0, 0, 0, 5]  # a free slot is taken at once
        b.connection.stop()
        await loop


@virtually
async def test_graceful_stop_finishes_running_calls_and_receives_no_more() -> None:
    async with bench(grace=30) as b:
        await b.put(10, 11, 12)
        loop = b.start(concurrency=2)
        await asyncio.sleep(1)
        b.connection.stop()
        await loop
        assert now() == 11
        assert b.ended == [10, 11]
        assert b.released == [0]
        assert await b.backend.queue.stats(TOPIC) == (1, 0, 0, 0)


@virtually
async def test_stop_works_when_all_places_are_taken() -> None:
    async with bench(grace=5) as b:
        await b.put(3600)
        loop = b.start(concurrency=1)
        await asyncio.sleep(1)
        b.connection.stop()
        await loop
        assert now() == 6
        assert b.released == [1]


@virtually
async def test_deliveries_that_outlast_the_grace_are_released_at_once() -> None:
    async with bench(grace=5) as b:
        await b.put(2, 3600)
        loop = b.start()
        await asyncio.sleep(1)
        b.connection.stop()
        await loop
        assert now() == 6
        assert b.ended == [2]
        assert b.released == [1]
        (again,) = await b.backend.queue.receive(TOPIC, limit=5, wait=0)
        assert again.attempt == 2


@virtually
async def test_cancelled_loop_stops_gracefully_and_ends_as_cancelled() -> None:
    async with bench(grace=30) as b:
        await b.put(10, 3600)
        loop = b.start()
        await asyncio.sleep(1)
        loop.cancel()
        await asyncio.wait({loop})
        assert loop.cancelled()
        assert now() == 31
        assert b.ended == [10]
        assert (await b.backend.queue.stats(TOPIC)).ready == 1


@virtually
async def test_second_cancellation_ends_the_grace() -> None:
    async with bench(grace=3600) as b:
        await b.put(7200)
        loop = b.start()
        await asyncio.sleep(1)
        loop.cancel()
        await asyncio.sleep(1)
        loop.cancel()
        await asyncio.wait({loop})
        assert loop.cancelled()
        assert now() == 2
        assert b.released == [1]
        assert await b.backend.queue.stats(TOPIC) == (1, 0, 0, 0)


@virtually
async def test_deliveries_received_during_a_cancellation_are_released() -> None:
    async with bench(grace=0) as b:
        loop: asyncio.Task[None] | None = None

        async def cancel(operation: Operation) -> None:
            if operation.name == "steps.receive":
                assert loop is not None
                asyncio.get_running_loop().call_soon(
                    loop.cancel
                )  # after the receive ended, before the loop sees its result

        b.instrument.after = cancel
        await b.put(1, 2)
        loop = b.start()
        await asyncio.wait({loop})
        assert b.begun == []
        assert b.released == [2]
        assert await b.backend.queue.stats(TOPIC) == (2, 0, 0, 0)


@virtually
async def test_deliveries_received_during_a_stop_are_released_before_the_grace_ends() -> None:
    async with bench(grace=600) as b:
        await b.put(500)
        loop = b.start()
        await asyncio.sleep(1)

        async def stop(operation: Operation) -> None:
            if operation.name == "steps.receive":
                b.connection.stop()

        b.instrument.after = stop
        await b.put(5)
        await asyncio.sleep(1)
        assert not loop.done()
        assert (await b.backend.queue.stats(TOPIC))[:2] == (1, 1)
        await loop
        assert len(b.ended) == 1


@virtually
async def test_message_of_failed_release_comes_back_after_its_lease() -> None:
    async with bench(grace=0) as b:
        b.instrument.before = failing("queue.release", BackendUnavailableError("gone"), range(1, 2))(b.instrument)
        await b.put(3600)
        loop = b.start()
        await asyncio.sleep(1)
        b.connection.stop()
        await loop
        assert (await b.backend.queue.stats(TOPIC)).leased == 1
        await asyncio.sleep(LEASE)
        assert (await b.backend.queue.stats(TOPIC)).ready == 1


@virtually
async def test_worker_retries_a_queue_that_fails_for_a_while() -> None:
    async with bench(unavailable_timeout=60, backoff=1) as b:
        broken = BackendUnavailableError("gone")
        b.instrument.before = failing("steps.receive", broken, range(1, 6))(b.instrument)
        await b.put(1)
        loop = b.start()
        await asyncio.sleep(20)
        assert len(b.ended) == 1
        assert [event.error for event in b.events if isinstance(event, BackendFailed)] == [broken] * 5
        b.connection.stop()
        await loop


@virtually
async def test_stop_works_while_the_queue_fails() -> None:
    async with bench(unavailable_timeout=1e9, backoff=1) as b:
        b.instrument.before = failing("steps.receive", BackendUnavailableError("gone"), range(1, 10**6))(b.instrument)
        loop = b.start()
        await asyncio.sleep(20)
        b.connection.stop()
        await loop
        assert now() == 20


@pytest.mark.parametrize(
    ("error", "timeout"), [(BackendUnavailableError("gone"), 0), (BackendClosedError("closed"), 1e9)], ids=str
)
def test_unavailable_queue_ends_the_loop_and_running_calls_still_finish(error: BackendError, timeout: float) -> None:
    async def main() -> None:
        async with bench(unavailable_timeout=timeout, backoff=0.5) as b:
            b.instrument.before = failing("steps.receive", error, range(2, 10**6))(b.instrument)
            await b.put(10)
            loop = b.start()
            await asyncio.wait({loop})
            assert loop.exception() is error
            assert b.ended == [10]

    run_virtually(main())


@virtually
async def test_message_is_held_and_handled_again_while_a_backend_is_away() -> None:
    async with bench(backoff=4) as b:
        b.instrument.before = failing("store.read", BackendUnavailableError("gone"), range(3, 4))(b.instrument)
        await b.put(1)
        loop = b.start()
        await asyncio.sleep(0.5)
        assert await b.backend.queue.stats(TOPIC) == (0, 1, 0, 0)
        await asyncio.sleep(10)
        assert len(b.ended) == 1
        assert 2 <= b.begun[0] <= 4  # after the backoff, half of it jitter
        b.connection.stop()
        await loop


def test_successful_receive_restarts_the_unavailable_timeout() -> None:
    async def main() -> None:
        async with bench(unavailable_timeout=60, backoff=1) as b:
            b.instrument.before = sometimes
            instruments.append(b.instrument)
            loop = b.start()
            await asyncio.sleep(3600)
            assert len([event for event in b.events if isinstance(event, BackendFailed)]) > 10
            assert not loop.done()
            b.connection.stop()
            await loop

    instruments: list[Instrument] = []

    async def sometimes(operation: Operation) -> None:
        if operation.name == "steps.receive" and instruments[0].calls["steps.receive"] % 3 == 0:
            raise BackendUnavailableError("gone")

    run_virtually(main())


@virtually
async def test_failed_call_waits_for_its_backoff_on_the_queue() -> None:
    async with bench(backoff=4, max_attempts=3) as b:
        begun: list[float] = []

        async def handle(run: Run, call: Call) -> bytes:
            begun.append(now())
            raise ValueError("always")

        b.handle = handle  # type: ignore[method-assign]
        await b.put(1)
        loop = b.start()
        await asyncio.sleep(1)
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 1, 0)
        await asyncio.sleep(30)
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 1)
        first, second, third = begun
        assert first == 0
        assert 2 <= second <= 4
        assert 4 <= third - second <= 8
        b.connection.stop()
        await loop


@virtually
async def test_two_messages_of_one_call_are_handled_one_after_the_other() -> None:
    async with bench() as b:
        await b.put(10)
        await b.put(10)
        assert (await b.backend.queue.stats(TOPIC)).ready == 2
        loop = b.start()
        await asyncio.sleep(50)
        assert b.begun == [0]  # the second found the value
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 0)
        b.connection.stop()
        await loop


@virtually
async def test_second_message_of_a_call_runs_it_if_the_first_one_failed() -> None:
    async with bench(max_attempts=1) as b:
        results: list[float] = []

        async def handle(run: Run, call: Call) -> bytes:
            results.append(now())
            await asyncio.sleep(10)
            if len(results) == 1:
                raise ValueError("the first")
            return b"done"

        b.handle = handle  # type: ignore[method-assign]
        await b.put(10)
        await b.put(10)
        loop = b.start()
        await asyncio.sleep(50)
        assert results == [0, 10]
        assert await b.backend.queue.stats(TOPIC) == (0, 0, 0, 1)
        b.connection.stop()
        await loop


@virtually
async def test_no_task_outlives_its_worker() -> None:
    async with bench(grace=0) as b:
        before = asyncio.all_tasks()
        await b.put(*map(float, range(50, 60)))
        loop = b.start()
        await asyncio.sleep(1)
        loop.cancel()
        await asyncio.wait({loop})
        await b.connection.close()
        assert asyncio.all_tasks() == before
