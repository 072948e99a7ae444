"""The workloads: six shapes of call graphs. Each has a size that runs for a second or more, and a small one."""

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
        size: The width, length, depth or number of parents in a run that is timed.
        small: The size in a run that is only counted.
        arguments_of: Makes the arguments from a size and the name of the run; one tuple for each independent root.
        calls_of: Computes the number of calls in a run of a size.
    """

    name: str
    task: str
    size: int
    small: int
    arguments_of: Callable[[int, str], list[tuple[Any, ...]]]
    calls_of: Callable[[int], int]

    def arguments(self, run: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each root of a timed run with this name."""
        return self.arguments_of(self.size, run)

    @property
    def calls(self) -> int:
        """Number of calls in a timed run."""
        return self.calls_of(self.size)


def _independent(count: int, run: str) -> list[tuple[Any, ...]]:
    return [(index, run) for index in range(count)]


WORKLOADS: Final[Mapping[str, Workload]] = {
    workload.name: workload
    for workload in (
        Workload("independent", "leaf", 2_000, 256, _independent, lambda count: count),
        Workload("fan-out", "fan_out", 1_000, 256, lambda width, run: [(width, run)], lambda width: width + 1),
        Workload("chain", "chain", 300, 64, lambda length, run: [(length, run)], lambda length: length + 1),
        Workload("steps", "steps", 300, 64, lambda count, run: [(count, run)], lambda count: count + 1),
        Workload("tree", "tree", 10, 7, lambda depth, run: [(depth, 1, run)], lambda depth: 2 ** (depth + 1) - 1),
        Workload(
            "shared-child", "shared_child", 500, 128, lambda parents, run: [(parents, run)], lambda parents: parents + 2
        ),
    )
}
