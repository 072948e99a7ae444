"""`WaitingReceivers` gives waiting receivers their turns: in order, on time, and past cancelled ones."""

import asyncio

import pytest
import uvloop

from brrr_core.backend import WaitingReceivers
from brrr_core.errors import BackendClosedError

LATER = float("inf")


async def begun(receivers: WaitingReceivers, number: int, turns: list[int] | None = None) -> list[asyncio.Task[None]]:
    """Return receivers that wait, the first one first. Each notes its number when it has the turn."""

    async def receive(index: int) -> None:
        await receivers.wait(LATER)
        if turns is not None:
            turns.append(index)

    tasks = [asyncio.create_task(receive(index)) for index in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_receiver_that_has_waited_longest_has_the_turn() -> None:
    receivers, turns = WaitingReceivers(), list[int]()
    tasks = await begun(receivers, 3, turns)

    for _ in range(3):
        assert receivers.wake()
    await asyncio.gather(*tasks)

    assert turns == [0, 1, 2]
    assert not receivers.wake()


async def test_cancelled_receiver_passes_its_turn_on() -> None:
    unused = list[str]()
    receivers, turns = WaitingReceivers(unused=lambda: unused.append("turn")), list[int]()
    first, second = await begun(receivers, 2, turns)
    receivers.wake()
    first.cancel()  # in the turn of the loop in which it was woken

    await second

    assert turns == [1]
    assert first.cancelled()
    assert unused == []


async def test_turn_of_the_last_receiver_is_reported_if_it_is_cancelled() -> None:
    unused = list[str]()
    receivers = WaitingReceivers(unused=lambda: unused.append("turn"))
    (only,) = await begun(receivers, 1)
    receivers.wake()
    only.cancel()
    await asyncio.wait({only})

    assert unused == ["turn"]


async def test_receiver_cancelled_without_the_turn_leaves() -> None:
    unused = list[str]()
    receivers = WaitingReceivers(unused=lambda: unused.append("turn"))
    first, second = await begun(receivers, 2)
    first.cancel()
    await asyncio.wait({first})
    receivers.wake()

    await second
    assert unused == []


async def test_wait_ends_at_its_deadline() -> None:
    receivers = WaitingReceivers()
    async with asyncio.timeout(30):
        await receivers.wait(asyncio.get_running_loop().time() + 0.01)
    assert not receivers.wake()


async def test_receiver_that_leaves_is_not_present() -> None:
    receivers = WaitingReceivers()
    (waiting,) = await begun(receivers, 1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not receivers.present.is_set()


@pytest.mark.parametrize("known", ["when it waits", "later", "by a look"])
async def test_receiver_has_the_turn_when_a_message_becomes_due(known: str) -> None:
    receivers = WaitingReceivers()
    waiting = asyncio.create_task(receivers.wait(LATER, 0.01 if known == "when it waits" else LATER))
    await asyncio.sleep(0)
    if known == "later":
        receivers.expect(0.01)
    elif known == "by a look":
        receivers.looked(0, 0.01)

    async with asyncio.timeout(30):
        await waiting


async def test_look_that_leaves_messages_gives_the_turn_to_the_next() -> None:
    receivers = WaitingReceivers()
    (waiting,) = await begun(receivers, 1)
    receivers.looked(1, LATER)
    await waiting


async def test_receiver_looks_again_without_an_event() -> None:
    receivers = WaitingReceivers(recheck=0.01)
    async with asyncio.timeout(30):
        await receivers.wait(LATER)


async def test_presence_is_known() -> None:
    receivers = WaitingReceivers()
    assert not receivers.present.is_set()
    (waiting,) = await begun(receivers, 1)
    assert receivers.present.is_set()
    receivers.wake()
    await waiting
    assert not receivers.present.is_set()


async def test_end_fails_every_wait() -> None:
    receivers = WaitingReceivers()
    tasks = await begun(receivers, 2)
    receivers.end()

    for task in tasks:
        with pytest.raises(BackendClosedError):
            await task
    with pytest.raises(BackendClosedError):
        await receivers.wait(LATER)


def test_receivers_wait_on_uvloop_for_a_message_that_is_overdue() -> None:
    async def wait() -> list[int]:
        receivers, turns = WaitingReceivers(), list[int]()
        (only,) = await begun(receivers, 1, turns)
        receivers.expect(-1)
        receivers.expect(-2)
        await only
        return turns

    assert uvloop.run(wait()) == [0]
