"""A wait must not be longer than the store keeps the values that its call reads afterwards."""

from collections.abc import AsyncGenerator
from math import inf

import pytest

import brrr_core as brrr
from brrr_core.backend import REFRESH_SHARE, Key, call_record_of, may_expire
from brrr_core.engine.wait_limits import CACHE_SHARE, WAIT_SHARE, check_wait
from brrr_core.errors import WaitTooLongError
from brrr_core.wire import Call
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
