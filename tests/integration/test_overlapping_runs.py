"""Two runs of one call overlap while it is cancelled. Only calls that the cancelled handler knows take effect."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_testkit.faults.instrument import Instrument, Operation
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import TOPIC, UNPARKED, Fleet, over, working

PLANS = ["call", "return", "fail", "send", "gather", "wide"]
"""The plans of an order after its first step. In the last plan, its cleanup is wide."""


@pytest.fixture(autouse=True)
def _quick_guard_and_narrow_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brrr_core.engine.cancelling.GUARD_DELAY", 0.2)
    monkeypatch.setattr("brrr_core.engine.run.BATCH_LIMIT", 4)
    monkeypatch.setattr("brrr_core.engine.run.RECHECK_LIMIT", 2)


class World:
    """Events outside, and a gate before the charge is undone."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.undoing = asyncio.Event()
        self.gate = asyncio.Event()

    def handlers(self) -> Mapping[str, Any]:
        """Return an order that charges, continues by its plan, and undoes the steps that it began."""

        @brrr.handler_no_arg
        async def do(step: str) -> str:
            if step == "undo charge":
                self.undoing.set()
                await self.gate.wait()
            self.events.append(step)
            return step

        @brrr.handler
        async def order(app: brrr.ActiveWorker, plan: str) -> str:
            begun: list[str] = []

            async def step(name: str) -> None:
                begun.append(name)
                await app.call(do)(name)

            try:
                await step("charge")
                if plan in {"call", "wide"}:
                    await step("ship")
                elif plan == "send":
                    await app.send(do)("notify")
                elif plan == "gather":
                    await app.gather(*(app.call(do)(f"ship {n}") for n in range(10)))
                elif plan == "fail":
                    raise brrr.TerminalError("declined")
            except brrr.Cancelled:
                if plan == "wide":
                    await app.gather(*(app.call(do)(f"{begun} {n}") for n in range(10)))
                for name in reversed(begun):
                    await app.call(do)(name)
                    await app.call(do)(f"undo {name}")
                raise
            return "done"

        return {"do": do, "order": order}


def cleaned_up(plan: str) -> list[str]:
    """Return the final effects of an order that got `Cancelled` at the charge."""
    wide = [f"['charge'] {n}" for n in range(10 * (plan == "wide"))]
    return sorted(["charge", "undo charge", *wide])


class Stage:
    """A backend with the marker of cancellation, a client, and workers that hold one call at a time and park none."""

    def __init__(self, stack: AsyncExitStack, backend: Any, client: brrr.AppConsumer, *, steps: bool) -> None:
        self.world = World()
        self.client = client
        self.charge = self._value_of("do", "charge")
        self._stack = stack
        self._backend = backend
        self._steps = steps
        self._fleets: list[Fleet] = []

    def _value_of(self, task: str, argument: str) -> Key:
        return Key("value", self.client._catalogue.encode(task, (argument,), {}).call_hash)

    def stores_place(self, operation: Operation, plan: str) -> bool:
        """Whether an operation stores where the order got `Cancelled`."""
        state = Key("value", f"brrr.state/{self._value_of('order', plan).call_hash}")
        return operation.name == "store.swap" and operation.items[0].key == state

    async def worker(self, hold: Callable[[Operation], Awaitable[None]] | None = None) -> Instrument:
        """Start a worker, which awaits `hold` before each operation."""
        instrument = Instrument() if hold is None else Instrument(before=hold)
        connection = over(instrument.wrap(self._backend), policy=UNPARKED, steps=self._steps)
        self._stack.push_async_callback(connection.close)
        self._fleets.append(
            await self._stack.enter_async_context(working(connection, self.world.handlers(), concurrency=1))
        )
        return instrument

    async def idle(self) -> None:
        """Wait until no message is left."""
        await self._fleets[0].idle()


@asynccontextmanager
async def stage(url: str, *, steps: bool) -> AsyncGenerator[Stage]:
    """Set the stage."""
    async with brrr.connect(url) as connection, brrr.open_backend(url) as backend, AsyncExitStack() as stack:
        await backend.store.write([(Key("value", "brrr.control"), b"0")])
        yield Stage(stack, backend, brrr.AppConsumer(codec="json", connection=connection), steps=steps)


class Held:
    """Holds the first operation that fits, until it may continue."""

    def __init__(self, fits: Callable[[Operation], bool]) -> None:
        self._fits = fits
        self.there = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, operation: Operation) -> None:
        """Hold the operation if it is the first that fits."""
        if not self.there.is_set() and self._fits(operation):
            self.there.set()
            await self.go.wait()


@pytest.mark.parametrize("late", [False, True], ids=["one is asked", "both are asked"])
@pytest.mark.parametrize("steps", [True, False], ids=["steps", "composed"])
@pytest.mark.parametrize("plan", PLANS)
async def test_late_run_has_no_effect_that_the_cancelled_handler_does_not_undo(
    memory: str, plan: str, *, steps: bool, late: bool
) -> None:
    """The first run looks for the charge after the second got `Cancelled` there. It finds a value, and continues."""
    async with stage(memory, steps=steps) as on:
        looks = Held(lambda operation: operation.name == "store.read" and on.charge in operation.items)
        await on.client.schedule("order", topic=TOPIC)(plan)
        if late:
            await on.client.cancel("order", topic=TOPIC)(plan)
        first = await on.worker(looks)
        await looks.there.wait()
        if not late:
            await on.client.cancel("order", topic=TOPIC)(plan)
        await on.worker()
        await on.world.undoing.wait()
        looks.go.set()
        await until(lambda: first.items["queue.ack"], "the first run is settled")
        on.world.gate.set()
        with pytest.raises(brrr.CallFailedError) as caught:
            await on.client.result("order")(plan)
        assert caught.value.cancelled
        await on.idle()
    assert sorted(on.world.events) == cleaned_up(plan)


@asynccontextmanager
async def both_asked(url: str, plan: str, *, steps: bool) -> AsyncGenerator[tuple[Stage, Held, Held]]:
    """Hold a run that found the charge before it ends, and one that missed it before it gets `Cancelled` there."""
    async with stage(url, steps=steps) as on:
        looks = Held(lambda operation: operation.name == "store.read" and on.charge in operation.items)
        ends, stores_place = (Held(lambda operation: on.stores_place(operation, plan)) for _ in range(2))

        async def look_and_end(operation: Operation) -> None:
            await looks(operation)
            await ends(operation)

        await on.client.schedule("order", topic=TOPIC)(plan)
        await on.client.cancel("order", topic=TOPIC)(plan)
        await on.worker(look_and_end)
        await looks.there.wait()
        await on.worker(stores_place)
        await stores_place.there.wait()
        await on.client.schedule("do", topic=TOPIC)("charge")
        await on.worker()
        await on.client.result("do")("charge")
        looks.go.set()
        await ends.there.wait()
        yield on, ends, stores_place
        on.world.gate.set()
        await on.idle()


@pytest.mark.parametrize("steps", [True, False], ids=["steps", "composed"])
@pytest.mark.parametrize(("plan", "sent"), [("return", []), ("send", ["notify"])])
async def test_run_does_not_get_cancelled_if_another_one_found_a_value_there_and_ended_the_call(
    memory: str, plan: str, sent: list[str], *, steps: bool
) -> None:
    async with both_asked(memory, plan, steps=steps) as (on, ends, stores_place):
        ends.go.set()
        assert await on.client.result("order")(plan) == "done"
        stores_place.go.set()
    assert on.world.events == ["charge", *sent]


@pytest.mark.parametrize("steps", [True, False], ids=["steps", "composed"])
@pytest.mark.parametrize("plan", ["send", "wide"])
async def test_run_puts_nothing_while_another_run_may_get_cancelled_earlier(
    memory: str, plan: str, *, steps: bool
) -> None:
    async with both_asked(memory, plan, steps=steps) as (on, ends, stores_place):
        stores_place.go.set()
        await on.world.undoing.wait()
        ends.go.set()
        on.world.gate.set()
        with pytest.raises(brrr.CallFailedError):
            await on.client.result("order")(plan)
    assert sorted(on.world.events) == cleaned_up(plan)
