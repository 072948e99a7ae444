"""The parts of brrr that use the CPU, and the share of each."""

from collections.abc import Iterable, Mapping
from typing import Final

from benchmarks.profiles.sampling import Call, Stacks

__all__ = ["PARTS", "part_of", "shares"]

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "event loop": ("asyncio", "selectors"),
    "engine": ("brrr_core.engine", "brrr_core.hooks"),
    "batching": ("brrr_core.engine.batching", "brrr_core.engine.operations"),
    "encoding": ("brrr_core.wire", "brrr_core.codec"),
    "handlers": ("brrr_core.app", "benchmarks.workloads"),
    "backend": ("brrr_core.backend", "brrr_redis", "brrr_sqlite"),
    "client": ("brrr_redis.client", "redis", "brrr_sqlite.connection"),
}
"""The modules of each part; the longest name that fits counts. The thread of SQLite belongs to its connection."""

_LONGEST_FIRST: Final = sorted(
    ((module, part) for part, modules in PARTS.items() for module in modules), key=lambda each: -len(each[0])
)


def part_of(stack: Iterable[Call]) -> str | None:
    """Return the part of the innermost call that belongs to one. The standard library counts for its caller."""
    for call in reversed(tuple(stack)):
        for module, part in _LONGEST_FIRST:
            if call.module == module or call.module.startswith(f"{module}."):
                return part
    return None


def shares(stacks: Stacks) -> dict[str, float]:
    """Return the share of each part in the CPU time of these stacks, between 0 and 1."""
    spent = dict.fromkeys(PARTS, 0)
    for stack, nanoseconds in stacks.items():
        if part := part_of(stack):
            spent[part] += nanoseconds
    total = stacks.total() or 1
    return {part: each / total for part, each in spent.items()}
