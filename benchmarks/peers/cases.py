"""The measured cases: call graphs with their sizes, and the value that each must return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """One workload with its sizes.

    Attributes:
        name: Its name in the tables and on the command line.
        kind: "call" runs one root and waits for it; "independent" starts `size` roots at once; "latency" starts them
            one by one, on an idle fleet.
        task: The task of the roots.
        size: The size for most engines.
        small: The size for engines that need about a millisecond or more for each call.
        arguments: Makes the arguments of a root from the size, without the name of the run, which is the last one.
        calls: The number of calls for a size.
        value: The expected value for a size. For several roots it is the sum of their values.
        repeat: How often a measurement runs the root, one after another. Short cases need it to measure CPU time.
        workers: The number of worker processes.
        large: Whether it runs only on request.
    """

    name: str
    kind: Literal["call", "independent", "latency"]
    task: str
    size: int
    small: int
    arguments: Callable[[int], list[Any]]
    calls: Callable[[int], int]
    value: Callable[[int], int]
    repeat: int = 1
    workers: int = 1
    large: bool = False


def _sum(size: int) -> int:
    """Return the sum of the values of `size` leaves."""
    return size * (size - 1) // 2


def _size(size: int) -> int:
    return size


def _and_parent(size: int) -> int:
    return size + 1


def _fan_out(name: str, size: int, small: int, *, large: bool = False) -> Case:
    return Case(name, "call", "fan_out", size, small, lambda width: [width], _and_parent, _sum, large=large)


def _steps(name: str, size: int, small: int, *, repeat: int = 1, large: bool = False) -> Case:
    arguments = _one
    return Case(name, "call", "steps", size, small, arguments, _and_parent, _sum, repeat=repeat, large=large)


def _one(size: int) -> list[Any]:
    return [size]


def _tree(name: str, workers: int) -> Case:
    return Case(
        name,
        "call",
        "tree",
        10,
        6,
        lambda depth: [depth, 1],
        lambda depth: 2 ** (depth + 1) - 1,
        lambda depth: 2**depth,
        workers=workers,
    )


CASES: Final = (
    Case("independent", "independent", "leaf", 2_000, 200, _one, _size, _sum),
    _fan_out("fan-out", 1_000, 200),
    _tree("tree", workers=1),
    Case("chain", "call", "chain", 300, 50, _one, _and_parent, _size),
    _steps("steps", 300, 100),
    Case("shared-child", "call", "shared_child", 500, 100, _one, lambda parents: parents + 2, _sum),
    Case("latency", "latency", "leaf", 50, 50, _one, _size, _sum),
    _fan_out("fan-out 10k", 10_000, 10_000, large=True),
    _fan_out("fan-out 100k", 100_000, 100_000, large=True),
    _steps("steps 30", 30, 30, repeat=20, large=True),
    _steps("steps 3k", 3_000, 3_000, large=True),
    _tree("tree, 2 workers", workers=2),
)
"""Cases with more worker processes come last, because the workers start again for them."""
