"""Reads in flight stay within the limit of a connection."""

import asyncio

import pytest

from brrr_nats.store.reads import (
    MAX_BYTES_IN_FLIGHT,
    MAX_REPLY_BYTES,
    MAX_REQUESTS_IN_FLIGHT,
    SAFE_REQUESTS,
    ReadLimiter,
)


@pytest.fixture
async def limiter():
    return ReadLimiter()


async def test_first_permit_fits_replies_of_any_size(limiter):
    assert await limiter.acquire(2000, minimum=1, reply_bytes=0) == (SAFE_REQUESTS, MAX_BYTES_IN_FLIGHT)


async def test_permit_grows_with_small_replies_and_shrinks_after_a_large_one(limiter):
    permit = None
    for _ in range(200):
        permit = await limiter.acquire(2000, minimum=1, reply_bytes=0)
        limiter.note_largest(200)
        limiter.release(permit)
    assert permit is not None
    assert permit.requests == MAX_REQUESTS_IN_FLIGHT
    limiter.note_largest(MAX_REPLY_BYTES)
    assert (await limiter.acquire(2000, minimum=1, reply_bytes=0)).requests == SAFE_REQUESTS


async def test_reads_without_room_wait_in_line(limiter):
    order = []

    async def acquire_one(number, size):
        permit = await limiter.acquire(1, minimum=1, reply_bytes=size)
        order.append(number)
        return permit

    first = await limiter.acquire(1, minimum=1, reply_bytes=MAX_BYTES_IN_FLIGHT)
    others = [asyncio.create_task(acquire_one(number, MAX_BYTES_IN_FLIGHT // 2)) for number in range(3)]
    await asyncio.sleep(0)
    assert order == []
    limiter.release(first)
    await asyncio.wait(others[:2])
    assert order == [0, 1]
    limiter.release(others[0].result())
    limiter.release(others[1].result())
    limiter.release(await others[2])
    assert (await limiter.acquire(2000, minimum=1, reply_bytes=0)) == (SAFE_REQUESTS, MAX_BYTES_IN_FLIGHT)


async def test_read_larger_than_the_limit_runs_alone(limiter):
    alone = await limiter.acquire(1, minimum=2, reply_bytes=MAX_BYTES_IN_FLIGHT)
    waiting = asyncio.create_task(limiter.acquire(1, minimum=1, reply_bytes=1))
    await asyncio.sleep(0)
    assert alone.requests == 2
    assert not waiting.done()
    limiter.release(alone)
    assert (await waiting).requests == 1


@pytest.mark.parametrize("given", [False, True])
async def test_cancelled_read_keeps_no_room(limiter, given):
    first = await limiter.acquire(1, minimum=1, reply_bytes=MAX_BYTES_IN_FLIGHT)
    waiting = asyncio.create_task(limiter.acquire(1, minimum=1, reply_bytes=MAX_BYTES_IN_FLIGHT))
    after = asyncio.create_task(limiter.acquire(1, minimum=1, reply_bytes=MAX_BYTES_IN_FLIGHT))
    await asyncio.sleep(0)
    if given:
        limiter.release(first)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    if not given:
        limiter.release(first)
    assert (await after).requests == 1
