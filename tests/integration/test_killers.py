"""A call that ends its worker process harms no other call. In virtual time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.engine.calls import SUSPICIOUS
from brrr_testkit.workloads.fleet import TOPIC
from tests.support.places import LEASE, Place, until, virtually

Die = Callable[[], Awaitable[None]]
HEALTHY = 40


class Calls:
    """Handlers that report how many of them run concurrently."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.attempts: Counter[int] = Counter()
        self.open = asyncio.Event()

    def __call__(self, die: Die | None = None) -> Mapping[str, Any]:
        @brrr.handler
        async def sleeps(app: brrr.ActiveWorker, n: int, seconds: float = 5.0) -> int:
            self.attempts[app.attempt] += 1
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.running -= 1
            return n

        @brrr.handler_no_arg
        async def kills(n: int) -> None:
            assert die is not None
            await asyncio.sleep(1.0)
            await die()

        @brrr.handler_no_arg
        async def raises() -> str:
            if not self.open.is_set():
                raise ConnectionError("not yet")
            return "done"

        return {"sleeps": sleeps, "kills": kills, "raises": raises}


@pytest.mark.parametrize("killers", [1, 3])
@pytest.mark.parametrize("workers", [1, 3])
@virtually
async def test_killers_are_dead_lettered_and_their_neighbours_return(place: Place, workers: int, killers: int) -> None:
    calls = Calls()
    for n in range(HEALTHY):
        await place.client.schedule("sleeps", topic=TOPIC)(n)
        if n < killers:
            await place.client.schedule("kills", topic=TOPIC)(n)
    fleet = [asyncio.create_task(place.process(calls)) for _ in range(workers)]
    for n in range(HEALTHY):
        assert await place.client.result("sleeps")(n) == n
    while await place.backend.queue.stats(TOPIC) != (0, 0, 0, killers):  # noqa: ASYNC110 - polling is the only way
        await asyncio.sleep(1)
    letters = await place.backend.queue.dead(TOPIC, limit=100)
    for letter in letters:
        assert "a call of 'kills' ended its worker process 3 times while it ran alone" in letter.reason
    assert set(calls.attempts) == {1}  # crashes are not attempts
    assert place.crashes <= killers * (SUSPICIOUS + 3)
    for task in fleet:
        task.cancel()
    await asyncio.wait(fleet)


@virtually
async def test_suspicious_call_runs_alone_and_nothing_is_received_meanwhile(place: Place) -> None:
    calls = Calls()
    await place.client.schedule("sleeps", topic=TOPIC)(0, 100.0)
    await place.deliver(SUSPICIOUS)
    async with place.worker(calls()):
        await until(lambda: calls.running)
        for n in range(1, 5):
            await place.client.schedule("sleeps", topic=TOPIC)(n)
        await asyncio.sleep(50)
        assert calls.running == 1
        assert (await place.backend.queue.stats(TOPIC)).ready >= 3  # one receive was running
        for n in range(1, 5):
            assert await place.client.result("sleeps")(n) == n
    assert calls.most == 4
    assert [event.deliveries for event in place.isolated] == [SUSPICIOUS]


@virtually
async def test_released_messages_do_not_run_alone(place: Place) -> None:
    calls = Calls()
    for n in range(3):
        await place.client.schedule("sleeps", topic=TOPIC)(n, 100.0)
    for _ in range(2 * SUSPICIOUS):
        async with place.worker(calls(), grace=0):
            await until(lambda: calls.running == 3)
    async with place.worker(calls()):
        for n in range(3):
            assert await place.client.result("sleeps")(n, 100.0) == n
    assert place.isolated == []


@virtually
async def test_stop_ends_a_call_that_runs_alone_and_takes_the_suspicion_from_it(place: Place) -> None:
    calls = Calls()
    for n in range(3):
        await place.client.schedule("sleeps", topic=TOPIC)(n, 1e6)
    await place.deliver(SUSPICIOUS)
    async with place.worker(calls(), grace=10):
        await until(lambda: calls.running)
        stopped = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() == stopped + 10
    assert await place.backend.queue.stats(TOPIC) == (3, 0, 0, 0)
    place.isolated.clear()
    async with place.worker(calls(), grace=0):
        await until(lambda: len(place.isolated) == 2)  # those that waited
        await until(lambda: calls.running)


@virtually
async def test_outage_while_a_call_runs_alone_is_not_a_crash(place: Place) -> None:
    calls = Calls()
    await place.client.schedule("sleeps", topic=TOPIC)(0)
    await place.deliver(SUSPICIOUS)
    async with place.worker(calls(), unavailable_timeout=1e6):
        for _ in range(5):
            await until(lambda: calls.running)
            place.away = ("store", "cache")
            await asyncio.sleep(100)
            place.away = ()
        assert await place.client.result("sleeps")(0) == 0
        await asyncio.sleep(LEASE)
    assert await place.backend.queue.stats(TOPIC) == (0, 0, 0, 0)


@virtually
async def test_call_that_raised_is_no_longer_suspicious(place: Place) -> None:
    calls = Calls()
    await place.client.schedule("raises", topic=TOPIC)()
    await place.deliver(SUSPICIOUS)
    async with place.worker(calls()):
        await until(lambda: len(place.failures) == 3)
        calls.open.set()
        assert await place.client.result("raises")() == "done"
    assert len(place.isolated) == 1


@virtually
async def test_message_that_would_wait_for_long_goes_to_another_worker(place: Place) -> None:
    calls, others = Calls(), Calls()
    await place.client.schedule("sleeps", topic=TOPIC)(0, 1e4)
    await place.deliver(SUSPICIOUS)
    async with place.worker(calls()):
        await until(lambda: calls.running)
        await place.client.schedule("sleeps", topic=TOPIC)(1)
        assert (await place.backend.queue.stats(TOPIC)).ready == 0  # the running receive took it
        async with place.worker(others()):
            assert await place.client.result("sleeps")(1) == 1
            assert asyncio.get_running_loop().time() < 3 * LEASE
        assert await place.client.result("sleeps")(0, 1e4) == 0
    assert (calls.most, others.most) == (1, 1)
