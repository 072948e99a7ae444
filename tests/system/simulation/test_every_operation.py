"""A fault at any backend operation of any step: the workflow still ends correctly after any crash or loss.

A run without faults counts the operations. Then the worker is killed, cut off or cancelled at each of them in turn,
before its effect and after it.
"""

import asyncio
import random
from typing import Any

import pytest

from brrr_core.errors import BackendClosedError, BackendUnavailableError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.scenarios import LEASE, TOPIC, stage
from tests.support.sweeps import LONG, SCENARIOS, Scenario, Single, operations_of
from tests.support.virtual import run_virtually


async def killed(scenario: Scenario, number: int, *, after: bool) -> None:
    """The worker's process dies at that operation; another takes over."""
    async with stage(steps=scenario.steps) as on:
        await scenario.begin(on)
        died = asyncio.Event()
        instrument = Instrument()

        async def die(operation: Operation) -> None:
            if operation.number == number:
                instrument.dead = True
                died.set()
                raise BackendClosedError("killed")

        setattr(instrument, "after" if after else "before", die)
        worker, _ = on.worker(instrument, handlers=scenario.handlers)
        outside = asyncio.create_task(scenario.outside(on))
        await died.wait()
        await on.kill(worker, instrument)
        heir, connection = on.worker(handlers=scenario.handlers)
        await outside
        await on.verify(scenario.result, scenario.dead)
        await on.stop(heir, connection)


async def cut_off(scenario: Scenario, number: int, *, after: bool) -> None:
    """That operation fails, or its answer is lost; the worker continues."""
    async with stage(steps=scenario.steps) as on:
        await scenario.begin(on)
        failed = asyncio.Event()

        async def fail(operation: Operation) -> None:
            if operation.number == number:
                failed.set()
                raise BackendUnavailableError("the line is cut")

        instrument = Instrument(after=fail) if after else Instrument(before=fail)
        worker, connection = on.worker(instrument, handlers=scenario.handlers)
        await scenario.outside(on)
        await on.verify(scenario.result, scenario.dead)
        await failed.wait()  # the last receive waits long for nothing
        await on.stop(worker, connection)


async def cancelled(scenario: Scenario, number: int, *, after: bool) -> None:
    """The worker is cancelled during that operation, without any grace; another takes over at once."""
    async with stage(steps=scenario.steps) as on:
        await scenario.begin(on)
        tasks: list[asyncio.Task[None]] = []

        async def cancel(operation: Operation) -> None:
            if operation.number == number:
                tasks[0].cancel()
                await asyncio.sleep(0)

        instrument = Instrument(after=cancel) if after else Instrument(before=cancel)
        worker, connection = on.worker(instrument, handlers=scenario.handlers)
        tasks.append(worker)
        outside = asyncio.create_task(scenario.outside(on))
        await asyncio.wait({worker})
        assert worker.cancelled()
        await connection.close()
        begin = asyncio.get_running_loop().time()
        while (await on.backend.queue.stats(TOPIC)).leased:  # nothing but what only a lease can bring back
            assert operation_leases(instrument, number)
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() - begin <= LEASE + 1
        heir, connection = on.worker(handlers=scenario.handlers)
        await outside
        await on.verify(scenario.result, scenario.dead)
        await on.stop(heir, connection)


def operation_leases(instrument: Instrument, number: int) -> bool:
    """An operation that is cancelled may have leased messages. They come back when their lease has run out."""
    return instrument.operations[number - 1].name in {"queue.receive", "steps.receive", "steps.commit"}


FAULTS = {
    f"{fault.__name__}-{'after' if after else 'before'}": (fault, after)
    for after in (False, True)
    for fault in (killed, cut_off, cancelled)
}
SINGLE = {"workflow": FAULTS.keys(), "failing": {"killed-before"}, "crowded": {"killed-before"}}
"""The faults of scenarios whose workers use single operations only, as on a backend without steps."""

AS_BEFORE_THE_NEXT = {"killed-after", "cancelled-after"}
"""Faults after an operation that are like those before the next one. Scenarios of hundreds of operations skip them."""

CASES = [
    pytest.param(
        (kind, steps),
        *how,
        id=f"{name}-{fault}{'' if steps else '-single'}",
        marks=() if quick else pytest.mark.exhaustive,
    )
    for name, kind in SCENARIOS.items()
    for fault, how in FAULTS.items()
    for steps in (True, False)
    if (steps or fault in SINGLE.get(name, ())) and not (name in LONG and fault in AS_BEFORE_THE_NEXT)
    for quick in [
        (name == "workflow" or (fault == "killed-before" and name not in LONG))
        if steps
        else (name == "workflow" and fault in {"killed-before", "cut_off-after"})
    ]
]

STEPPED = {"steps.receive", "steps.commit", "store.read"}
SIMPLE = {"queue.receive", "queue.put", "queue.ack", "store.read", "store.write", "store.swap"}


@pytest.mark.parametrize(("scenario", "fault", "after"), CASES, indirect=["scenario"])
def test_workflow_survives_a_fault_at_any_operation(scenario: Scenario, fault: Any, after: bool) -> None:
    operations = operations_of(scenario)
    assert {operation.name for operation in operations} >= (STEPPED if scenario.steps else SIMPLE)
    wrong: list[str] = []
    for operation in operations:
        random.seed(1)
        try:
            run_virtually(fault(scenario, operation.number, after=after))
        except (AssertionError, TimeoutError) as error:
            wrong.append(f"{operation.number} of {len(operations)}, {operation.name}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong[:20])


def test_scenarios_use_every_operation_of_a_worker() -> None:
    names = {operation.name for kind in (Scenario, Single) for operation in operations_of(kind())}
    assert names == {
        *("queue.put", "queue.receive", "queue.ack", "queue.release", "queue.extend"),
        *("store.read", "store.write", "store.swap", "cache.increment", "steps.receive", "steps.commit"),
    }
