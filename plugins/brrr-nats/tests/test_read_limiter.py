"""What reads have under way together stays within what a connection carries."""

import asyncio

import pytest

from brrr_nats.store.read_limiter import LARGEST, MOST, ROOM, SAFE, Flights


@pytest.fixture
async def flights():
    return Flights()


async def test_at_first_no_more_is_sent_than_has_room_whatever_comes(flights):
    assert await flights.begin(2000, least=1, each=0) == (SAFE, ROOM)


async def test_more_is_sent_when_answers_are_small_and_less_as_soon_as_one_is_not(flights):
    for _ in range(200):
        flight = await flights.begin(2000, least=1, each=0)
        flights.learn(200)
        flights.end(flight)
    assert flight.requests == MOST
    flights.learn(LARGEST)
    assert (await flights.begin(2000, least=1, each=0)).requests == SAFE


async def test_what_has_no_room_waits_in_turn(flights):
    order = []

    async def fly(number, size):
        flight = await flights.begin(1, least=1, each=size)
        order.append(number)
        return flight

    first = await flights.begin(1, least=1, each=ROOM)
    others = [asyncio.create_task(fly(number, ROOM // 2)) for number in range(3)]
    await asyncio.sleep(0)
    assert order == []
    flights.end(first)
    await asyncio.wait(others[:2])
    assert order == [0, 1]
    flights.end(others[0].result())
    flights.end(others[1].result())
    flights.end(await others[2])
    assert (await flights.begin(2000, least=1, each=0)) == (SAFE, ROOM)


async def test_what_never_has_room_goes_alone(flights):
    alone = await flights.begin(1, least=2, each=ROOM)
    waiting = asyncio.create_task(flights.begin(1, least=1, each=1))
    await asyncio.sleep(0)
    assert alone.requests == 2
    assert not waiting.done()
    flights.end(alone)
    assert (await waiting).requests == 1


@pytest.mark.parametrize("given", [False, True])
async def test_whoever_is_cancelled_keeps_no_room(flights, given):
    first = await flights.begin(1, least=1, each=ROOM)
    waiting = asyncio.create_task(flights.begin(1, least=1, each=ROOM))
    after = asyncio.create_task(flights.begin(1, least=1, each=ROOM))
    await asyncio.sleep(0)
    if given:
        flights.end(first)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    if not given:
        flights.end(first)
    assert (await after).requests == 1
