"""One run of a handler: the values that it finds, and the children that it misses."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from brrr_core.backend.contracts import Key
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.engine.calls import Child
from brrr_core.engine.determinism import compare, merge
from brrr_core.engine.local_cache import PREFETCH_LIMIT, RECHECK_LIMIT, PreviousRun, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.errors import BackendError, CycleError
from brrr_core.wire import Call

__all__ = ["Run"]


class Run:
    """What a handler sees of the engine while it runs.

    Attributes:
        root_id: The schedule on whose behalf it runs.
        call: The call that is run.
        topic: The topic that its message came from, and that its children go to where none is named.
        attempt: The number of this attempt, from 1: one more than the handler raised before, as far as that is counted.
        missing: The children that have no value yet, by their call hashes; not all of a very wide gather.
        failure: What a backend raised while it was asked for the handler; the run is then worth nothing.
    """

    __slots__ = (
        "_asked",
        "_cache",
        "_operations",
        "_own",
        "_reads",
        "_schedule",
        "_side_by_side",
        "attempt",
        "call",
        "failure",
        "missing",
        "root_id",
        "topic",
    )

    def __init__(
        self,
        *,
        root_id: str,
        call: Call,
        topic: str,
        attempt: int,
        operations: Operations,
        cache: ValueCache,
        schedule: Callable[[str, Sequence[Child]], Awaitable[object]],
        check: bool,
    ) -> None:
        self.root_id = root_id
        self.call = call
        self.topic = topic
        self.attempt = attempt
        self.missing: dict[str, Child] = {}
        self.failure: BackendError | None = None
        self._operations = operations
        self._cache = cache
        self._schedule = schedule
        self._reads: list[str] = []
        self._asked: list[Call] | None = [] if check else None
        self._own: asyncio.Task[Any] | None = None
        self._side_by_side = False
        self.adopt()

    def adopt(self) -> None:
        """Take the current task for the handler's own: a sync handler's calls come from one task after the other."""
        if self._asked is not None:
            self._own = asyncio.current_task()

    async def look_up(self, children: Sequence[Child]) -> list[bytes | None]:
        """The values of the children, in their order; None for those that have none yet: this run will defer for them.

        The caller that gets a None must raise `Defer` once it has looked up all that it knows of.

        Raises:
            CycleError: One of the children is this very call.
        """
        try:
            return await self._look_up(children)
        except BackendError as error:
            self.failure = error
            raise

    async def _look_up(self, children: Sequence[Child]) -> list[bytes | None]:
        cached = self._cache.get
        values = [cached(child.call.call_hash) for child in children]
        unknown = [index for index, value in enumerate(values) if value is None]
        if unknown:
            found = await self._operations.read([Key("value", children[index].call.call_hash) for index in unknown])
            for index, value in zip(unknown, found, strict=True):
                child = children[index]
                if value is None:
                    self._miss(child)
                else:
                    values[index] = value
                    self._cache.add(child.call.call_hash, value)
        if len(self._reads) < PREFETCH_LIMIT:
            self._reads.extend(child.call.call_hash for child in children)
        if self._asked is not None:
            self._asked.extend(child.call for child in children)
            self._side_by_side = self._side_by_side or asyncio.current_task() is not self._own
        if len(self.missing) > BATCH_LIMIT:
            await self._schedule_early()
        return values

    def check(self, previous: PreviousRun) -> None:
        """Compare the calls of this run, which has ended, with those of the last one.

        Where tasks that the handler started make calls, and one of them aborts the run, it is a matter of chance which
        calls the others have come to: these are compared once a run is not aborted.

        Raises:
            NondeterminismError: A call was not made again.
        """
        asked = self._asked or []
        if self.missing and self._side_by_side:
            self._asked = merge(previous.asked, asked)
        else:
            compare(self.call, previous.asked, asked)

    def summary(self) -> PreviousRun:
        """What is worth remembering of this run when it defers."""
        missing = tuple(self.missing.values())[-RECHECK_LIMIT:]
        return PreviousRun(tuple(self._reads[:PREFETCH_LIMIT]), missing, tuple(self._asked or ()))

    def _miss(self, child: Child) -> None:
        if child.call.call_hash == self.call.call_hash:
            raise CycleError(
                f"the handler {self.call.task_name!r} called itself with its own arguments",
                remedy="Its call would wait for itself for ever; end the recursion, or call it with other arguments.",
            )
        self.missing[child.call.call_hash] = child

    async def _schedule_early(self) -> None:
        """Put all but the last missing children now, so that a wide fan-out is never held whole (invariant I4)."""
        early = list(self.missing.values())[:-RECHECK_LIMIT]
        for child in early:
            del self.missing[child.call.call_hash]
        await self._schedule(self.root_id, early)
