"""Cancel, complete and retry while a fault hits any operation of the requesting program. A repetition completes it."""

import asyncio
import random
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendClosedError, BackendUnavailableError, BrrrError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.requests import CANCELLED, approvals, broken, cancel_sagas, sagas
from tests.support.scenarios import TOPIC, Stage, stage
from tests.support.virtual import run_virtually


class Cancelled:
    """Cancel three running calls and one that is queued."""

    handlers = staticmethod(sagas)
    result: Any = CANCELLED

    async def begin(self, on: Stage) -> None:
        """Put the workflow, and return when it is time for the request."""
        await on.client.schedule("queued", topic=TOPIC, delay=60)()
        await on.client.schedule("top", topic=TOPIC)()
        await asyncio.sleep(20)

    async def request(self, client: brrr.AppConsumer) -> None:
        """Make the request."""
        await cancel_sagas(client)

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


class Completed:
    """Complete an event for which two calls wait."""

    handlers = staticmethod(approvals)
    result: Any = 23

    async def begin(self, on: Stage) -> None:
        """Put the workflow, and return when it waits."""
        await on.client.schedule("top", topic=TOPIC)()
        await asyncio.sleep(1)

    async def request(self, client: brrr.AppConsumer) -> None:
        """Make the request."""
        await client.event("approval").complete(10)

    async def end(self, on: Stage) -> None:
        """Check what is not in the result."""
        await on.client.result("top")()


async def asked(scenario: Any, number: int, fault: str, *, after: bool) -> list[Operation]:
    """Make the request with a fault at that operation of it, then again without any. 0 means no fault."""
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


@pytest.mark.parametrize("scenario", [Cancelled(), Completed(), Retried()], ids=["cancelled", "completed", "retried"])
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
def test_repeating_a_request_completes_it(scenario: Any, fault: str, *, after: bool) -> None:
    random.seed(1)
    operations = run_virtually(asked(scenario, 0, fault, after=after))
    assert len(operations) >= 8
    wrong: list[str] = []
    for operation in operations:
        random.seed(1)
        try:
            run_virtually(asked(scenario, operation.number, fault, after=after))
        except (AssertionError, TimeoutError, BrrrError) as error:
            wrong.append(f"{operation.number} of {len(operations)}, {operation.name}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)
