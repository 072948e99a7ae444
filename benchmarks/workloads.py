"""The workloads: six shapes of call graphs, each large enough to run for a second or more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import brrr_core as brrr

__all__ = ["HANDLERS", "WORKLOADS", "Workload"]


@brrr.handler_no_arg
async def leaf(index: int, run: str) -> int:
    """Do nothing, so that only the engine is measured. `run` makes the calls of each run different."""
    del run
    return index


@brrr.handler
async def fan_out(app: brrr.ActiveWorker, width: int, run: str) -> int:
    """Call `width` children from one parent."""
    return sum(await app.gather(*(app.call(leaf)(index, run) for index in range(width))))


@brrr.handler
async def chain(app: brrr.ActiveWorker, length: int, run: str) -> int:
    """Call the next of `length` calls, and wait for it."""
    return 0 if length == 0 else 1 + await app.call(chain)(length - 1, run)


@brrr.handler
async def steps(app: brrr.ActiveWorker, count: int, run: str) -> int:
    """Await `count` calls one after another."""
    total = 0
    for index in range(count):
        total += await app.call(leaf)(index, run)
    return total


@brrr.handler
async def tree(app: brrr.ActiveWorker, depth: int, index: int, run: str) -> int:
    """Call a binary tree of 2 ** (depth + 1) - 1 calls."""
    if depth == 0:
        return 1
    left, right = app.call(tree)(depth - 1, 2 * index, run), app.call(tree)(depth - 1, 2 * index + 1, run)
    return sum(await app.gather(left, right))


@brrr.handler
async def sharer(app: brrr.ActiveWorker, index: int, run: str) -> int:
    """Call the child that all sharers share."""
    return index + await app.call(leaf)(0, run)


@brrr.handler
async def shared_child(app: brrr.ActiveWorker, parents: int, run: str) -> int:
    """Call many parents that all call the same child."""
    return sum(await app.gather(*(app.call(sharer)(index, run) for index in range(parents))))


HANDLERS: Final[Mapping[str, brrr.Task]] = {
    "leaf": leaf,
    "fan_out": fan_out,
    "chain": chain,
    "steps": steps,
    "tree": tree,
    "sharer": sharer,
    "shared_child": shared_child,
}


@dataclass(frozen=True, slots=True)
class Workload:
    """One shape with a size.

    Attributes:
        name: Its name on the command line.
        task: The name of the scheduled handler.
        arguments: Makes the arguments from the name of the run; one tuple for each independent root.
        calls: The number of calls in one run.
    """

    name: str
    task: str
    arguments: Callable[[str], list[tuple[Any, ...]]]
    calls: int


WORKLOADS: Final[Mapping[str, Workload]] = {
    workload.name: workload
    for workload in (
        Workload("independent", "leaf", lambda run: [(index, run) for index in range(2_000)], 2_000),
        Workload("fan-out", "fan_out", lambda run: [(1_000, run)], 1_001),
        Workload("chain", "chain", lambda run: [(300, run)], 301),
        Workload("steps", "steps", lambda run: [(300, run)], 301),
        Workload("tree", "tree", lambda run: [(10, 1, run)], 2_047),
        Workload("shared-child", "shared_child", lambda run: [(500, run)], 502),
    )
}
