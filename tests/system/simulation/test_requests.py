"""Cancel and retry while a fault hits any operation of the program that asks for it. Asking again completes it."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError, BackendUnavailableError, BrrrError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.scenarios import TOPIC, Stage, World, stage
from tests.support.virtual import run_virtually


def sagas(world: World) -> Mapping[str, Any]:
    """Two sagas, one that waits for a call and one that is busy itself, and a plain call that is queued."""

    @brrr.handler_no_arg
    async def book(thing: str) -> str:
        return thing

    @brrr.handler_no_arg
    async def undo(thing: str) -> str:
        return f"no {thing}"

    @brrr.handler_no_arg
    async def approve(name: str) -> None:
        if "approved" not in world.failed:
            raise brrr.Again(after=20.0)

    @brrr.handler
    async def saga(app: brrr.ActiveWorker, name: str, busy: float) -> list[str]:
        booked: list[str] = []
        try:
            for thing in ("hotel", "flight"):
                booked.append(await app.call(book)(f"{thing} of {name}"))  # noqa: PERF401 - also if cancelled half-way
            await asyncio.sleep(busy)
            await app.call(approve)(name)
        except brrr.Cancelled:
            return list(await app.gather(*(app.call(undo)(thing) for thing in booked)))
        return ["approved"]

    @brrr.handler
    async def strict(app: brrr.ActiveWorker) -> None:
        try:
            await app.call(approve)("strict")
        finally:
            await app.call(undo)("strict")

    @brrr.handler_no_arg
    async def queued() -> None:
        world.failed.add("queued call ran")

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[object]:
        calls = (app.call(saga)("one", 0), app.call(saga)("two", 90), app.call(strict)(), app.call(queued)())
        outcomes = await app.gather(*calls[:3], return_exceptions=True)
        outcomes += await app.gather(calls[3], return_exceptions=True)
        return [each.cancelled if isinstance(each, brrr.CallFailedError) else each for each in outcomes]

    tasks = (book, undo, approve, saga, strict, queued, top)
    return {task.name: task for task in tasks}


def broken(world: World) -> Mapping[str, Any]:
    """A tree whose leaf fails until the world is repaired, and a witness of the failure that goes on."""

    @brrr.handler_no_arg
    async def leaf() -> int:
        if "repaired" not in world.failed:
            raise brrr.TerminalError("broken")
        return 1

    @brrr.handler_no_arg
    async def slow() -> int:
        await asyncio.sleep(60)
        return 100

    @brrr.handler
    async def witness(app: brrr.ActiveWorker) -> int:
        seen = await app.gather(app.call(leaf)(), return_exceptions=True)
        return await app.call(slow)() + sum(isinstance(each, int) for each in seen)

    @brrr.handler
    async def middle(app: brrr.ActiveWorker) -> int:
        return 10 * await app.call(leaf)()

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[int]:
        return [await app.call(middle)() + await app.call(leaf)(), await app.call(witness)()]

    tasks = (leaf, slow, witness, middle, top)
    return {task.name: task for task in tasks}


class Cancelled:
    """Cancel three running calls and one that is queued."""

    handlers = staticmethod(sagas)
    result: Any = [["no hotel of one", "no flight of one"], ["no hotel of two", "no flight of two"], True, True]  # noqa: RUF012

    async def begin(self, on: Stage) -> None:
        """Put the workflow, and return when it is time for the request."""
        await on.client.schedule("queued", topic=TOPIC, delay=60)()
        await on.client.schedule("top", topic=TOPIC)()
        await asyncio.sleep(20)

    async def request(self, client: brrr.AppConsumer) -> None:
        """Make the request."""
        await client.cancel("queued", topic=TOPIC)()
        await client.cancel("saga", topic=TOPIC)("one", 0)
        await client.cancel("saga", topic=TOPIC)("two", 90)
        await client.cancel("strict", topic=TOPIC)()

    async def end(self, on: Stage) -> None:
        """Check what is not in the result."""
        await on.client.result("top")()
        assert "queued call ran" not in on.world.failed
        on.world.failed.add("approved")


class Retried:
    """Retry a tree whose leaf failed, while another parent has seen the failure."""

    handlers = staticmethod(broken)
    result: Any = [11, 100]  # noqa: RUF012

    async def begin(self, on: Stage) -> None:
        """Put the workflow, and return when it has failed."""
        await on.client.schedule("witness", topic=TOPIC)()
        await on.client.schedule("top", topic=TOPIC)()
        with pytest.raises(brrr.CallFailedError):
            await on.client.result("top")()
        await asyncio.sleep(10)
        on.world.failed.add("repaired")

    async def request(self, client: brrr.AppConsumer) -> None:
        """Make the request."""
        await client.retry("top", topic=TOPIC)()

    async def end(self, on: Stage) -> None:
        """Check what is not in the result."""
        await on.client.result("top")()


async def asked(scenario: Cancelled | Retried, number: int, fault: str, *, after: bool) -> list[Operation]:
    """Make the request with a fault at that operation of it, then again without any. 0 is no fault."""
    async with stage() as on:
        worker, connection = on.worker(handlers=scenario.handlers)
        await scenario.begin(on)

        async def fail(operation: Operation) -> None:
            if operation.number != number:
                return
            if fault == "cancelled":
                asking.cancel()
                await asyncio.sleep(0)
                return
            instrument.dead = fault == "killed"
            raise BackendClosedError("killed") if instrument.dead else BackendUnavailableError("the line is cut")

        instrument = Instrument(after=fail) if after else Instrument(before=fail)
        asking = asyncio.create_task(scenario.request(on.another_client(instrument)))
        await asyncio.wait({asking})
        ended_well = not asking.cancelled() and asking.exception() is None
        assert ended_well == (not number)
        if number:
            await scenario.request(on.client)
        await scenario.end(on)
        await on.verify(scenario.result)
        await on.stop(worker, connection)
        return list(instrument.operations)


@pytest.mark.parametrize("scenario", [Cancelled(), Retried()], ids=["cancelled", "retried"])
@pytest.mark.parametrize(
    ("fault", "after"),
    [
        pytest.param("killed", False, id="killed-before"),
        pytest.param("cut off", True, id="cut off-after"),
        pytest.param("killed", True, id="killed-after", marks=pytest.mark.exhaustive),
        pytest.param("cancelled", False, id="cancelled-before", marks=pytest.mark.exhaustive),
        pytest.param("cut off", False, id="cut off-before", marks=pytest.mark.exhaustive),
        pytest.param("cancelled", True, id="cancelled-after", marks=pytest.mark.exhaustive),
    ],
)
def test_request_is_completed_by_asking_again(scenario: Cancelled | Retried, fault: str, *, after: bool) -> None:
    random.seed(1)
    operations = run_virtually(asked(scenario, 0, fault, after=after))
    assert len(operations) >= 12
    wrong: list[str] = []
    for operation in operations:
        random.seed(1)
        try:
            run_virtually(asked(scenario, operation.number, fault, after=after))
        except (AssertionError, TimeoutError, BrrrError) as error:
            wrong.append(f"{operation.number} of {len(operations)}, {operation.name}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)
