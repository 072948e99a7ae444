"""How many messages a root may cause: every message is charged to its root before it is put (PROTOCOL.md, Cache)."""

from collections.abc import Sequence

from brrr_core.engine.operations import Operations
from brrr_core.errors import SpawnLimitError
from brrr_core.wire import count_key

__all__ = ["SpawnBudget"]


class SpawnBudget:
    """The counters of all roots, and the limit that they share."""

    def __init__(self, operations: Operations, limit: int) -> None:
        self._operations = operations
        self._limit = limit

    async def charge(self, root_ids: Sequence[str]) -> list[bool]:
        """Count one message for each root id. True for each whose message may be put."""
        counts = await self._operations.count([(count_key(root_id), 1) for root_id in root_ids])
        return [count <= self._limit for count in counts]

    def exceeded(self, root_id: str) -> SpawnLimitError:
        """The error of a root that has used up its messages."""
        return SpawnLimitError(
            f"the schedule {root_id} caused more than {self._limit} messages",
            remedy="Look for a recursion without end or a handler that is not deterministic, or raise `spawn_limit`.",
        )
