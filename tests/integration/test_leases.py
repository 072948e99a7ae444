"""A lost lease and a blocked event loop are reported. In virtual time."""

import asyncio

import brrr_core as brrr
from brrr_core.hooks import LeaseLost, LoopBlocked
from brrr_testkit.workloads.fleet import TOPIC
from tests.support.places import LEASE, Place, virtually


@brrr.handler_no_arg
async def blocks(seconds: float) -> str:
    """Advance the virtual clock, as if the handler had computed for this time."""
    await asyncio.sleep(1)
    asyncio.get_running_loop().virtual.now += seconds  # type: ignore[attr-defined]
    return "done"


@brrr.handler_no_arg
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


HANDLERS = {"blocks": blocks, "sleeps": sleeps}


async def lease_events(
    place: Place, task: object, seconds: float, *, away: tuple[str, ...] = ()
) -> list[LeaseLost | LoopBlocked]:
    """Return the lease events that the hooks receive while a call runs."""
    await place.client.schedule(task, topic=TOPIC)(seconds)  # type: ignore[arg-type]
    async with place.worker(HANDLERS):
        await asyncio.sleep(0.5)
        place.away = away
        await asyncio.sleep(seconds + LEASE)
        place.away = ()
        assert await place.client.result(task)(seconds) == "done"  # type: ignore[arg-type]
    return place.leases


@virtually
async def test_loop_blocked_for_a_large_part_of_the_lease_is_reported(place: Place) -> None:
    (event,) = await lease_events(place, blocks, 0.5 * LEASE + LEASE / 3)
    assert isinstance(event, LoopBlocked)
    assert (event.topic, event.lease, event.task_names) == (TOPIC, LEASE, ("blocks",))
    assert LEASE / 3 < event.seconds < LEASE


@virtually
async def test_lease_that_expires_while_the_loop_is_blocked_is_reported(place: Place) -> None:
    blocked, lost = await lease_events(place, blocks, 2 * LEASE)
    assert isinstance(blocked, LoopBlocked)
    assert isinstance(lost, LeaseLost)
    assert (lost.topic, lost.lease, lost.task_name) == (TOPIC, LEASE, "blocks")
    assert lost.seconds == 2 * LEASE + 1


@virtually
async def test_lost_lease_is_reported_once(place: Place) -> None:
    (lost,) = await lease_events(place, sleeps, 1.9 * LEASE, away=("queue.extend",))
    assert isinstance(lost, LeaseLost)
    assert lost.task_name == "sleeps"
    assert LEASE < lost.seconds <= LEASE + LEASE / 3


@virtually
async def test_long_handler_that_does_not_block_is_not_reported(place: Place) -> None:
    assert await lease_events(place, sleeps, 10 * LEASE) == []


@virtually
async def test_worker_that_waits_for_its_store_drops_deliveries_with_lost_leases(place: Place) -> None:
    await place.client.schedule(sleeps, topic=TOPIC)(1)
    place.away = ("store", "cache", "queue.extend")
    async with place.worker(HANDLERS, unavailable_timeout=1e9) as connection:
        await asyncio.sleep(10 * LEASE)  # the message has come about ten times by now
        (worker,) = connection._workers
        assert len(worker._running) <= 3
        place.away = ()
        assert await place.client.result(sleeps)(1) == "done"
