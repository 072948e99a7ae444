"""A wait must not be longer than the store keeps the values that its call reads afterwards."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import inf

import pytest

import brrr_core as brrr
from brrr_core.backend import REFRESH_SHARE, Key, call_record_of, may_expire
from brrr_core.engine.wait_limits import CACHE_SHARE, WAIT_SHARE, check_wait
from brrr_core.errors import WaitTooLongError
from brrr_core.wire import Call
from brrr_testkit.faults.instrument import Instrument
from brrr_testkit.workloads.fleet import TOPIC, over, working

TTL = 7200.0
CALL = Call("h", b"[]", "task")


@pytest.fixture
async def expiring() -> AsyncGenerator[brrr.Connection]:
    """A connection to a store whose values expire after two hours."""
    async with brrr.open_backend("memory:") as backend:
        backend.store.expires_after = TTL
        yield brrr.Connection(backend.queue, backend.store, backend.cache)


def test_value_outlives_the_longest_wait_after_a_read_from_memory() -> None:
    assert WAIT_SHARE + CACHE_SHARE < 1 - REFRESH_SHARE


@pytest.mark.parametrize(("seconds", "ttl"), [(0, TTL), (TTL / 2, TTL), (inf, None)])
def test_wait_within_the_limit_is_allowed(seconds: float, ttl: float | None) -> None:
    check_wait("the sleep", seconds, ttl)


def test_longer_wait_is_refused_with_the_setting_to_change() -> None:
    with pytest.raises(WaitTooLongError, match="the sleep is 3601 s, more than half of the store's `ttl`") as caught:
        check_wait("the sleep", 3601, TTL)
    assert caught.value.remedy == "Set `ttl` to at least 7202s, or leave `ttl` out of the store's URL."
    assert not caught.value.retry


def test_wait_without_end_is_refused() -> None:
    with pytest.raises(WaitTooLongError, match="the event has no end") as caught:
        check_wait("the event", inf, TTL)
    assert "deadline of at most 3600 s" in caught.value.remedy


async def test_schedule_refuses_a_delay_before_it_writes(expiring: brrr.Connection) -> None:
    with pytest.raises(WaitTooLongError, match="the delay is 3601 s"):
        await expiring.schedule(CALL, TOPIC, delay=3601)
    assert await expiring.store.read([Key("call", "h")]) == [None]


async def test_again_after_more_than_half_the_ttl_is_dead_lettered() -> None:
    @brrr.handler_no_arg
    async def poll() -> int:
        raise brrr.Again(after=3601)

    async with brrr.open_backend("memory:") as backend:
        backend.store.expires_after = TTL
        async with working(over(backend), {"poll": poll}) as fleet:
            await fleet.app.schedule(poll, topic=TOPIC)()
            (reason,) = await fleet.dead(1)
    assert "BRRR-BACKEND-10" in reason
    assert "the delay of `Again` in 'poll' is 3601 s" in reason


Begin = Callable[[brrr.ActiveWorker], Awaitable[object]]
WAITS: dict[str, Begin] = {
    "sleep": lambda app: app.sleep(3601),
    "sleep_until": lambda app: app.sleep_until(time.time() + 3605),
    "deadline": lambda app: app.call("never", deadline="61m")(),
    "delay": lambda app: app.call("never", delay=3601)(),
    "send": lambda app: app.send("never", delay=3601)(),
    "event": lambda app: app.event("approval", deadline="61m"),
    "event without deadline": lambda app: app.event("approval"),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_handler_that_waits_for_more_than_half_the_ttl_is_dead_lettered(wait: str) -> None:
    @brrr.handler
    async def waits(app: brrr.ActiveWorker) -> None:
        await WAITS[wait](app)

    async with brrr.open_backend("memory:") as backend:
        backend.store.expires_after = TTL
        async with working(over(backend), {"waits": waits}) as fleet:
            await fleet.app.schedule(waits, topic=TOPIC)()
            (reason,) = await fleet.dead(1)
    assert "WaitTooLongError: [BRRR-BACKEND-10]" in reason.splitlines()[0]


async def test_value_in_constant_use_is_read_from_the_store_every_eighth_of_the_ttl() -> None:
    """Otherwise a value that a worker has in its memory would expire in the store."""
    now = [1_000_000.0]

    @brrr.handler_no_arg
    async def child() -> int:
        return 1

    @brrr.handler
    async def parent(app: brrr.ActiveWorker, n: int) -> int:
        return n + await app.call(child)()

    instrument = Instrument()
    async with brrr.open_backend("memory:") as backend:
        backend.store.expires_after = TTL
        roles = instrument.wrap(backend)
        async with working(over(roles, clock=lambda: now[0]), {"parent": parent, "child": child}) as fleet:
            key = Key("value", (await fleet.app.schedule(child, topic=TOPIC)()).call_hash)
            await fleet.run(parent, 0)
            read: list[int] = []
            for n, later in enumerate((0, TTL / 8 - 1, 1, 1), 1):
                now[0] += later
                instrument.operations.clear()
                await fleet.run(parent, n)
                read.append(sum(key in each.items for each in instrument.operations if each.name == "store.read"))
    assert read == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("key", "expires", "call"),
    [
        (Key("value", "h"), True, Key("call", "h")),
        (Key("call", "h"), False, None),
        (Key("pending_returns", "h"), False, None),
        (Key("value", "brrr.wait/h/0"), True, None),
        (Key("value", "brrr.state/h"), True, None),
        (Key("value", "brrr.control"), False, None),
        (Key("value", "brrr.cron/nightly"), False, None),
    ],
)
def test_values_expire_and_records_of_a_fleet_do_not(key: Key, expires: bool, call: Key | None) -> None:
    assert may_expire(key) == expires
    assert call_record_of(key) == call
