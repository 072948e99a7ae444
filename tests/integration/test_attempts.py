"""Deliveries are not attempts: only a handler that raises uses up an attempt. In virtual time."""

import asyncio
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.engine.attempts import attempt_key
from brrr_core.errors import ResultTimeoutError
from brrr_testkit.workloads.fleet import TOPIC
from tests.support.places import Place, until, virtually

OUTAGE = 300.0


def failing(place: Place, times: int) -> Any:
    """Return a handler that raises `times` times before it returns."""

    @brrr.handler
    async def flaky(app: brrr.ActiveWorker, n: int = 0) -> str:
        place.seen.append(app.attempt)
        if app.attempt <= times:
            raise ConnectionError("not yet")
        return "done"

    return flaky


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({}, id="default"),
        pytest.param({"backoff": 0.01, "backoff_limit": 0.05}, id="quick", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("away", [("store",), ("store", "cache")], ids=["store", "store and cache"])
@virtually
async def test_store_outage_uses_up_neither_attempts_nor_deliveries(
    place: Place, policy: dict[str, float], away: tuple[str, ...]
) -> None:
    flaky = failing(place, 1)
    for n in range(5):
        await place.client.schedule(flaky, topic=TOPIC)(n)
    place.away = away
    async with place.worker({"flaky": flaky}, **policy):
        await asyncio.sleep(OUTAGE)
        place.away = ()
        for n in range(5):
            assert await place.client.result(flaky)(n) == "done"
    assert sorted(place.seen) == [1] * 5 + [2] * 5
    assert await place.backend.queue.stats(TOPIC) == (0, 0, 0, 0)


@virtually
async def test_worker_that_waits_for_its_store_stops_at_once(place: Place) -> None:
    flaky = failing(place, 0)
    await place.client.schedule(flaky, topic=TOPIC)()
    place.away = ("store", "cache")
    async with place.worker({"flaky": flaky}):
        await asyncio.sleep(OUTAGE)
        stopped = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() == stopped
    assert (await place.backend.queue.stats(TOPIC)).ready == 1


@virtually
async def test_message_goes_to_another_worker_after_the_unavailable_timeout(place: Place) -> None:
    flaky = failing(place, 0)
    await place.client.schedule(flaky, topic=TOPIC)()
    place.away = ("store",)
    async with place.worker({"flaky": flaky}, unavailable_timeout=60, backoff=20):
        await asyncio.sleep(50)
        assert (await place.backend.queue.stats(TOPIC)).leased == 1
        while (await place.backend.queue.stats(TOPIC)).leased:  # noqa: ASYNC110 - polling is the only way
            await asyncio.sleep(1)
    (delivery,) = await place.backend.queue.receive(TOPIC, limit=1, wait=1000)
    assert delivery.attempt == 2


@virtually
async def test_deliveries_that_ended_without_a_failure_are_not_attempts(place: Place) -> None:
    flaky = failing(place, 1000)
    await place.client.schedule(flaky, topic=TOPIC)()
    await place.deliver(20)
    async with place.worker({"flaky": flaky}, max_attempts=3):
        assert "not yet" in await place.dead()
    assert place.seen == [1, 2, 3]
    assert [event.attempt for event in place.failures] == [1, 2, 3]
    delays = [event.retry_in for event in place.failures]
    assert delays[2] is None
    assert 0.5 <= delays[0] <= 1.0 <= delays[1] <= 2.0  # type: ignore[operator] # by attempts, not by deliveries


@virtually
async def test_failed_attempts_are_counted_across_workers(place: Place) -> None:
    flaky = failing(place, 1000)
    await place.client.schedule(flaky, topic=TOPIC)()
    for attempts in (1, 2, 3):
        async with place.worker({"flaky": flaky}, max_attempts=3):
            await until(lambda: len(place.seen) == attempts)  # noqa: B023 - awaited within the round
    assert "not yet" in await place.dead()
    assert place.seen == [1, 2, 3]


@virtually
async def test_call_that_made_progress_has_all_its_attempts_again(place: Place) -> None:
    @brrr.handler_no_arg
    async def leaf(n: int) -> int:
        return n

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        place.seen.append(app.attempt)
        if len(place.seen) in (1, 2, 4, 5):
            raise ConnectionError("not yet")
        return await app.call(leaf)(1)

    await place.client.schedule(top, topic=TOPIC)()
    async with place.worker({"top": top, "leaf": leaf}, max_attempts=3):
        assert await place.client.result(top)() == 1
    assert place.seen == [1, 2, 3, 1, 2, 3]


@virtually
async def test_redriven_call_has_all_its_attempts_again(place: Place) -> None:
    flaky = failing(place, 1000)
    await place.client.schedule(flaky, topic=TOPIC)()
    async with place.worker({"flaky": flaky}, max_attempts=3):
        await place.dead()
        await place.backend.queue.redrive(TOPIC, limit=1)
        await place.dead()
    assert place.seen == [1, 2, 3, 1, 2, 3]


@virtually
async def test_failure_that_cannot_be_counted_is_reported_and_retried(place: Place) -> None:
    flaky = failing(place, 1)
    await place.client.schedule(flaky, topic=TOPIC)()
    place.away = ("cache",)
    async with place.worker({"flaky": flaky}, max_attempts=2):
        await until(lambda: place.failures)
        assert str(place.failures[0].error) == "not yet"
        await asyncio.sleep(OUTAGE)
        place.away = ()
        assert await place.client.result(flaky)() == "done"
    assert place.seen == [1, 1, 2]


@virtually
async def test_calls_that_succeed_in_their_first_delivery_are_not_counted(place: Place) -> None:
    flaky = failing(place, 0)
    for n in range(5):
        await place.client.schedule(flaky, topic=TOPIC)(n)
    async with place.worker({"flaky": flaky}):
        for n in range(5):
            assert await place.client.result(flaky)(n) == "done"
    assert not place.instrument.calls["cache.increment"]


@virtually
async def test_settled_calls_leave_no_count(place: Place) -> None:
    flaky = failing(place, 2)
    await place.client.schedule(flaky, topic=TOPIC)()
    await place.deliver(1)
    async with place.worker({"flaky": flaky}):
        assert await place.client.result(flaky)() == "done"
    counters = place.backend.cache._session.space.counters  # type: ignore[attr-defined]
    assert {name: count for name, count in counters.items() if count and not name.startswith("brrr_count/")} == {}


@virtually
async def test_parent_that_finds_no_room_neither_uses_up_attempts_nor_regains_them(place: Place) -> None:
    @brrr.handler_no_arg
    async def child() -> int:
        await asyncio.sleep(10 * OUTAGE)
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        if n:
            place.seen.append(app.attempt)
            if len(place.seen) in (1, 3):
                raise ConnectionError("not yet")
        return n + await app.call(child)()

    import brrr_core.engine.scheduling as module

    handlers = {"parent": parent, "child": child}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RETURNS_LIMIT", 1)
        async with place.worker(handlers, max_attempts=3, max_deliveries=4, backoff_limit=20):
            await place.client.schedule(parent, topic=TOPIC)(0)
            await asyncio.sleep(1)
            await place.client.schedule(parent, topic=TOPIC)(1)
            assert await place.client.result(parent)(1) == 2
    assert place.seen == [1, 2, 2, 3]
    assert place.instrument.items["queue.put"] > 100


@virtually
async def test_dead_letter_of_too_many_deliveries_says_what_the_worker_saw(place: Place) -> None:
    flaky = failing(place, 1000)
    await place.client.schedule(flaky, topic=TOPIC)()
    place.away = ("store",)
    async with place.worker({"flaky": flaky}, max_deliveries=4, unavailable_timeout=1):
        reason = await place.dead()
    assert "delivered 5 times" in reason
    assert "its handler raised 0 times" in reason
    assert "store.write is cut off" in reason  # the last failure was to remove the mark


@virtually
async def test_outage_during_the_last_delivery_leaves_no_mark(place: Place) -> None:
    """The next schedule puts the call again, as after each dead letter."""
    task = failing(place, 0)
    await place.client.schedule(task, topic=TOPIC)()
    await place.deliver(4)
    place.away = ("store",)
    async with place.worker({"flaky": task}, max_deliveries=4):
        await asyncio.sleep(30)
        assert (await place.backend.queue.stats(TOPIC)).dead == 0
        place.away = ()
        assert "delivered 5 times" in await place.dead()
        again = await place.client.schedule(task, topic=TOPIC)()
        assert (again.state, again.was_dead_lettered) == ("put", True)
        assert await place.client.result(task)() == "done"


async def note(place: Place, call_hash: str) -> bytes | None:
    """Return the note of the last failed attempt of a call."""
    return (await place.backend.store.read([attempt_key(call_hash)]))[0]


@virtually
async def test_status_of_a_failing_call_has_the_reason_and_the_time_of_its_next_attempt(place: Place) -> None:
    flaky = failing(place, 2)
    call_hash = (await place.client.schedule(flaky, topic=TOPIC)()).call_hash
    async with place.worker({"flaky": flaky}, backoff=100):
        await until(lambda: len(place.failures) == 2)
        await asyncio.sleep(1)
        status = await place.client.status(flaky)()
        assert (status.state, status.attempt, status.topic) == ("retrying", 2, TOPIC)
        assert status.reason == "ConnectionError: not yet"
        assert place.failures[1].retry_in is not None
        assert status.since is not None
        assert status.due == pytest.approx(status.since + place.failures[1].retry_in, abs=1)
        with pytest.raises(ResultTimeoutError, match=r"its attempt 2 failed, and another one is due: .*: not yet\. "):
            await place.client.result(flaky, timeout=1)()
        assert await place.client.result(flaky)() == "done"
    assert (await place.client.status(flaky)()).state == "done"
    assert await note(place, call_hash) is None


@virtually
async def test_call_without_a_handler_is_retrying_for_that_reason(place: Place) -> None:
    await place.client.schedule("absent", topic=TOPIC)()
    async with place.worker({"flaky": failing(place, 0)}, backoff=100):
        await asyncio.sleep(1)
        status = await place.client.status("absent")()
    assert (status.state, status.attempt) == ("retrying", 1)
    assert "this worker has no handler 'absent'" in (status.reason or "")


@virtually
async def test_deferral_and_dead_letter_remove_the_note_of_a_failed_attempt(place: Place) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        if app.attempt == 1:
            raise ConnectionError("not yet")
        return await app.call("leaf", topic="elsewhere", returns=int)()

    dead = failing(place, 1000)
    hashes = [(await place.client.schedule(task, topic=TOPIC)()).call_hash for task in (top, dead)]
    async with place.worker({"top": top, "flaky": dead}, max_attempts=2, park=0):
        await until(lambda: len(place.failures) == 2)
        await asyncio.sleep(0.1)
        assert [(await place.client.status_of(call_hash)).state for call_hash in hashes] == ["retrying"] * 2
        await place.dead()
        await asyncio.sleep(10)
    assert [(await place.client.status_of(call_hash)).state for call_hash in hashes] == ["scheduled", "dead-lettered"]
    assert [await note(place, call_hash) for call_hash in hashes] == [None, None]


@virtually
async def test_attempt_that_fails_after_the_outcome_leaves_no_note(place: Place) -> None:
    @brrr.handler
    async def late(app: brrr.ActiveWorker) -> int:
        await place.client.complete(late)()(5)  # as another worker would, while this one is frozen
        raise ConnectionError("not yet")

    call_hash = (await place.client.schedule(late, topic=TOPIC)()).call_hash
    async with place.worker({"late": late}):
        await until(lambda: place.failures)
        await asyncio.sleep(0.5)
        assert await note(place, call_hash) is None
    assert await place.client.result(late)() == 5


@virtually
async def test_attempt_is_retried_although_its_note_cannot_be_written(place: Place) -> None:
    @brrr.handler
    async def flaky(app: brrr.ActiveWorker) -> str:
        place.seen.append(app.attempt)
        if app.attempt == 1:
            place.away = ("store",)
            raise ConnectionError("not yet")
        return "done"

    await place.client.schedule(flaky, topic=TOPIC)()
    async with place.worker({"flaky": flaky}):
        await until(lambda: place.failures)
        await asyncio.sleep(20)
        assert (await place.backend.queue.stats(TOPIC)).ready == 0
        place.away = ()
        assert await place.client.result(flaky)() == "done"
    assert place.seen == [1, 2]
