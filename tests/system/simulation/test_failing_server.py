"""A server that fails inside a step, after any of its effects: the workflow still ends correctly.

The contract allows this: such a step has only the first of its effects, in the order of the fields of `Step`.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from brrr_core.backend import Step
from brrr_core.errors import BackendClosedError, BackendUnavailableError
from brrr_testkit.faults.instrument import Instrument, Operation
from tests.support.scenarios import stage
from tests.support.sweeps import LONG, SCENARIOS, Scenario, operations_of
from tests.support.virtual import run_virtually


def prefix(steps: Sequence[Step], effects: int) -> list[Step]:
    """Return the steps as applied by a server that fails after this number of effects."""
    left: list[Step] = []
    for step in steps:
        parts: list[Any] = []
        for part in step[1:]:
            parts.append(part[: max(effects, 0)])
            effects -= len(part)
        left.append(Step(step.expected, *parts))
        if effects <= 0:
            break
    return left


async def torn(scenario: Scenario, number: int, effects: int, *, dies: bool) -> None:
    """The server fails in that commit, after this number of effects. The worker continues, or dies and is replaced."""
    async with stage(steps=scenario.steps) as on:
        await scenario.begin(on)
        failed = asyncio.Event()
        commits = 0

        async def fail(operation: Operation) -> None:
            nonlocal commits
            commits += operation.name == "steps.commit"
            if commits == number and not failed.is_set():
                assert on.backend.steps is not None
                begun = prefix(operation.items, effects)
                on.observer(operation._replace(items=begun), await on.backend.steps.commit(begun))
                instrument.dead = dies
                failed.set()
                raise BackendClosedError("killed") if dies else BackendUnavailableError("the server failed")

        instrument = Instrument(before=fail)
        worker, connection = on.worker(instrument, handlers=scenario.handlers)
        outside = asyncio.create_task(scenario.outside(on))
        if dies:
            ends = [asyncio.create_task(each) for each in (failed.wait(), on.client.result("top")())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)  # root ids are random, and so is some order
            for end in ends:
                end.cancel()
            await on.kill(worker, instrument)
            worker, connection = on.worker(handlers=scenario.handlers)
        await outside
        await on.verify(scenario.result, scenario.dead)
        await on.stop(worker, connection)


@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["continues", "dies"])
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param((kind, True), id=name, marks=() if name == "workflow" else pytest.mark.exhaustive)
        for name, kind in SCENARIOS.items()
        if name not in LONG
    ],
    indirect=True,
)
def test_workflow_survives_a_server_that_fails_inside_a_step(scenario: Scenario, *, dies: bool) -> None:
    commits = [each.items for each in operations_of(scenario) if each.name == "steps.commit"]
    assert len(commits) >= 2
    wrong: list[str] = []
    for number, steps in enumerate(commits, 1):
        for effects in range(1, sum(len(part) for step in steps for part in step[1:])):
            random.seed(1)
            try:
                run_virtually(torn(scenario, number, effects, dies=dies))
            except (AssertionError, TimeoutError) as error:
                wrong.append(f"commit {number} after {effects} effects: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong[:20])
