"""A client that waits for a result learns that the call was dead-lettered instead."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

import brrr_core as brrr
from brrr_core.backend import DeadLetter, QueueStats
from brrr_core.engine import waiting
from brrr_core.engine.waiting import DeadLetters
from brrr_core.errors import BuriedError, ResultTimeoutError
from brrr_testkit.workloads.fleet import BOUND, QUICK, TOPIC, serving
from tests.support.scenarios import stage
from tests.support.virtual import run_virtually

ONCE = replace(QUICK, max_attempts=1)


@brrr.handler_no_arg
async def fails(n: int) -> int:
    raise ValueError(f"not {n}.")


@brrr.handler
async def asks(app: brrr.ActiveWorker, n: int) -> int:
    return await app.call(fails)(n)


HANDLERS = {"fails": fails, "asks": asks}


async def test_wait_for_dead_lettered_call_ends_with_reason(url: str) -> None:
    async with serving(url, HANDLERS, policy=ONCE) as fleet:
        await fleet.app.schedule(fails, topic=TOPIC)(1)
        with pytest.raises(
            BuriedError, match=r"the call \w+ of 'fails' was dead-lettered in delivery 1: ValueError: not 1\. F"
        ):
            await fleet.app.result(fails, timeout=BOUND)(1)


async def test_wait_ends_when_another_call_of_its_schedule_is_dead_lettered(url: str) -> None:
    async with serving(url, HANDLERS, policy=ONCE) as fleet:
        await fleet.app.schedule(asks, topic=TOPIC)(2)
        with pytest.raises(BuriedError, match="a call on behalf of the call of 'asks' was dead-lettered"):
            await fleet.app.result(asks, timeout=BOUND)(2)


async def test_client_that_scheduled_nothing_finds_the_dead_letter_by_topic_or_schedule(memory: str) -> None:
    async with serving(memory, HANDLERS, policy=ONCE) as fleet, brrr.connect(memory) as connection:
        scheduled = await fleet.app.schedule(asks, topic=TOPIC)(3)
        await fleet.dead(1)
        client = brrr.AppConsumer(codec="json", connection=connection)
        with pytest.raises(BuriedError):
            await client.result(fails, topic=TOPIC, timeout=BOUND)(3)
        with pytest.raises(BuriedError):
            await client.result(asks, topic=scheduled, timeout=BOUND)(3)
        for topic in (None, TOPIC, "other"):
            with pytest.raises(
                BuriedError, match=r"of 'asks' waits for \w+, which was dead-lettered .*ValueError: not 3\. F"
            ):
                await client.result(asks, topic=topic, timeout=BOUND)(3)


async def test_dead_letter_of_earlier_schedule_does_not_count(memory: str) -> None:
    mended = False
    gate = asyncio.Event()

    @brrr.handler_no_arg
    async def once_bad() -> str:
        if not mended:
            raise ValueError("bad")
        await gate.wait()
        return "good"

    async with serving(memory, {"once_bad": once_bad}, policy=ONCE) as fleet:
        await fleet.app.schedule(once_bad, topic=TOPIC)()
        await fleet.dead(1)
        mended = True
        await fleet.app.schedule(once_bad, topic=TOPIC)()
        with pytest.raises(ResultTimeoutError):
            await fleet.app.result(once_bad, topic=TOPIC, timeout=0.7)()
        gate.set()
        assert await fleet.app.result(once_bad, timeout=BOUND)() == "good"


async def test_dead_letter_of_call_that_has_value_since_does_not_count(memory: str) -> None:
    mended = False
    gate = asyncio.Event()

    @brrr.handler_no_arg
    async def child() -> int:
        if not mended:
            raise ValueError("bad")
        return 7

    @brrr.handler
    async def parent(app: brrr.ActiveWorker) -> int:
        value = await app.call(child)()
        await gate.wait()
        return value

    async with serving(memory, {"child": child, "parent": parent}, policy=ONCE) as fleet:
        await fleet.app.schedule(parent, topic=TOPIC)()
        await fleet.dead(1)
        mended = True
        await fleet.run(child)
        with pytest.raises(ResultTimeoutError):
            await fleet.app.result(parent, timeout=0.7)()
        gate.set()
        assert await fleet.app.result(parent, timeout=BOUND)() == 7


async def test_call_that_is_scheduled_during_wait_is_watched(memory: str) -> None:
    async with serving(memory, HANDLERS, policy=ONCE) as fleet:
        waiter = asyncio.create_task(fleet.app.result(fails, timeout=BOUND)(4))
        await asyncio.sleep(0)
        await fleet.app.schedule(fails, topic=TOPIC)(4)
        with pytest.raises(BuriedError):
            await waiter


async def test_waiters_of_topic_share_looks_and_letters_are_read_when_their_number_changes(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    class CountedQueue:
        async def stats(self, topic: str) -> QueueStats:
            calls["stats"] += 1
            return await backend.queue.stats(topic)

        async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
            calls["dead"] += 1
            return await backend.queue.dead(topic, limit=limit)

    async with brrr.open_backend(memory) as backend:
        letters = DeadLetters(CountedQueue(), TOPIC)  # type: ignore[arg-type]
        for number in (1, 2):
            await backend.queue.put(TOPIC, [b"no message"])
            (delivery,) = await backend.queue.receive(TOPIC, limit=1, wait=0)
            await backend.queue.bury(delivery, "reason")
            monkeypatch.setattr(waiting, "LOOK_EVERY", 0.0)
            await letters.look()
            await letters.look()
            assert (calls["stats"], calls["dead"]) == (2 * number, number)
            monkeypatch.setattr(waiting, "LOOK_EVERY", 3600.0)
            stats = await asyncio.gather(*(letters.look() for _ in range(100)))
            assert set(stats) == {(0, 0, 0, number)}
            assert calls["stats"] == 2 * number
        monkeypatch.setattr(waiting, "LOOK_EVERY", 0.0)
        monkeypatch.setattr(waiting, "READ_AGAIN", 0.0)
        await letters.look()
        assert calls["dead"] == 3


async def test_client_remembers_bounded_number_of_schedules(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brrr_core.app.consumer.REMEMBERED", 2)
    async with brrr.connect(memory) as connection:
        app = brrr.AppConsumer(codec="json", connection=connection)
        hashes = [(await app.schedule(fails, topic=TOPIC)(n)).call_hash for n in (1, 2, 1, 3)]
        assert list(app._scheduled) == hashes[2:]


def test_time_of_the_event_loop_ends_a_wait() -> None:
    """A simulation runs hours of it in no time. With another clock it would poll until that clock has caught up."""

    async def main() -> float:
        async with stage() as on:
            await on.client.schedule("top", topic=TOPIC)()
            with pytest.raises(ResultTimeoutError):
                await on.client.result("top", timeout=3600)()
            return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 3600
