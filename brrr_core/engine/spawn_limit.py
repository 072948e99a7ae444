"""The spawn limit: each message is counted for its root before it is put (`docs/reference/protocol.md`, Cache)."""

from collections.abc import Sequence
from typing import Final

from brrr_core.engine.operations import Operations
from brrr_core.engine.root_ids import MAX_SPAWN_LIMIT, parse_root_id
from brrr_core.errors import ArgumentError, SpawnLimitError
from brrr_core.wire import count_key

__all__ = ["SpawnBudget", "check_spawn_limit"]

SHARED_LIMIT: Final = 10_000
"""The count above which workers of every SDK refuse a root. The counter of a root with its own limit starts at
`SHARED_LIMIT` minus that limit, so that workers that do not know the limit honour it too."""


def check_spawn_limit(limit: int | None) -> None:
    """Check the spawn limit of one schedule.

    Raises:
        ArgumentError: The limit is less than 1 or too large.
    """
    if limit is not None and not 1 <= limit <= MAX_SPAWN_LIMIT:
        raise ArgumentError(f"spawn_limit is {limit}", remedy=f"Set it to a number from 1 to {MAX_SPAWN_LIMIT}.")


class SpawnBudget:
    """The message counters of all roots, and the limit of the roots that have no limit of their own."""

    def __init__(self, operations: Operations, limit: int) -> None:
        self._operations = operations
        self._limit = limit

    async def open(self, root_id: str) -> bool:
        """Start the counter of a root and count its first message. True if the message may be put."""
        own = parse_root_id(root_id).spawn_limit
        start = 0 if own is None else SHARED_LIMIT - own
        return (await self._charge([(root_id, start + 1)]))[0]

    async def charge(self, root_ids: Sequence[str]) -> list[bool]:
        """Count one message for each root id. True for each whose message may be put."""
        return await self._charge([(root_id, 1) for root_id in root_ids])

    async def _charge(self, charges: Sequence[tuple[str, int]]) -> list[bool]:
        counts = await self._operations.count([(count_key(root_id), amount) for root_id, amount in charges])
        return [
            count <= (self._limit if parse_root_id(root_id).spawn_limit is None else SHARED_LIMIT)
            for (root_id, _), count in zip(charges, counts, strict=True)
        ]

    def exceeded(self, root_id: str) -> SpawnLimitError:
        """Return the error of a root that has used up its messages."""
        limit = parse_root_id(root_id).spawn_limit or self._limit
        return SpawnLimitError(
            f"the schedule {root_id} caused more than {limit} messages",
            remedy="If its call graph is that large, schedule the call again with a higher limit: schedule(..., "
            "spawn_limit=N) or brrr schedule --spawn-limit N. Finished calls do not run again. Otherwise look for an "
            "endless recursion or a handler that is not deterministic.",
        )
