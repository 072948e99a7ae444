"""A client that settles a call from outside may die at any of its operations, while parents register at any of them."""

import asyncio
import random
from contextlib import suppress

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.requests import approvals
from tests.support.scenarios import TOPIC, Stage, stage
from tests.support.virtual import run_virtually

SETTLED = 100.0
"""Virtual seconds within which a parent notices an outcome, even if the client that wrote it died."""


async def act(client: brrr.AppConsumer) -> None:
    await client.event("approval").complete(10)


async def begin(on: Stage) -> None:
    """Start the workflow, and let it run until it waits for the event."""
    await on.client.schedule("top", topic=TOPIC)()
    await asyncio.sleep(1)


async def finished(on: Stage) -> int | None:
    try:
        return int(await on.client.read("top")())
    except brrr.NotFoundError:
        return None


async def run(comes: int, dies: int, *, after: bool) -> int:
    """The parents come at one operation of the client, and the client dies at another: 0 is before all, and never.

    Return the number of operations of the client.
    """
    async with stage() as on:
        worker, connection = on.worker(handlers=approvals)
        if not comes:
            await begin(on)

        async def pause(operation: Operation) -> None:
            if operation.number == comes:
                await begin(on)
            if operation.number == dies:
                instrument.dead = True
                raise BackendClosedError("killed")

        instrument = Instrument(after=pause) if after else Instrument(before=pause)
        try:
            await act(on.another_client(instrument))
        except BackendClosedError:
            assert dies
        if comes > len(instrument.operations):  # without parents there are fewer operations
            await begin(on)
        await asyncio.sleep(SETTLED)
        with suppress(brrr.NotFoundError):
            assert await on.client.event("approval").read() == 10
            assert await finished(on) == 23  # without any help
        await act(on.client)
        await on.verify(23)
        await on.stop(worker, connection)
        return len(instrument.operations)


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.exhaustive), True], ids=["before", "after"])
def test_outcome_from_outside_reaches_every_parent(*, after: bool) -> None:
    random.seed(1)
    operations = run_virtually(run(0, 0, after=after))
    assert operations >= 5
    wrong: list[str] = []
    for comes in range(operations + 1):
        for dies in (0, *range(max(comes, 1), operations + 1)):
            random.seed(1)
            try:
                run_virtually(run(comes, dies, after=after))
            except (AssertionError, TimeoutError, brrr.BrrrError) as error:
                wrong.append(f"they come at {comes}, it dies at {dies}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)
