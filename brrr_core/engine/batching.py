"""Batch concurrent backend operations: the one layer between the engine and a backend.

Operations that are submitted in one turn of the event loop, or while an earlier batch runs, share the next batch. So
concurrent handlers share round trips, and backends need no batching of their own. If an operation is the only one, as
in sequential work, it can run in the task of its caller.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from brrr_core.backend.tasks import cancelled_from_outside, start_task
from brrr_core.errors import BackendClosedError, BackendUnavailableError

__all__ = ["BATCH_LIMIT", "Batcher", "retrieve_error"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

BATCH_LIMIT = 1_000
"""The most items in one batch. It bounds the batches of a large call graph."""

DIRECT_AFTER: Final = 8
"""After this number of batches in a row with only one request, the next request does not wait for others."""


class _Request(NamedTuple, Generic[ItemT, ResultT]):
    items: Sequence[ItemT]
    future: "asyncio.Future[list[ResultT]]"


class Batcher(Generic[ItemT, ResultT]):
    """The batches of one backend operation. At most one batch runs at a time, on the event loop of the caller.

    Args:
        run: Runs one batch of 1 to `limit` items, and returns one result for each item, in order.
        limit: The most items in a batch. A request with more items is split.
    """

    def __init__(
        self, run: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]], *, limit: int = BATCH_LIMIT
    ) -> None:
        self._run = run
        self._limit = limit
        self._queued: deque[_Request[ItemT, ResultT]] = deque()
        self._in_flight: list[_Request[ItemT, ResultT]] = []
        self._task: asyncio.Task[None] | None = None
        self._direct = False
        """Whether a request runs in the task of its caller."""
        self._closing: asyncio.Future[None] | None = None
        """Done when that request has ended."""
        self._alone = 0
        """How many batches in a row had only one request."""
        self._loop = asyncio.get_running_loop()

    def submit(self, items: Sequence[ItemT]) -> "asyncio.Future[list[ResultT]]":
        """Return a future with the results of `items`, in order. A cancelled operation may still take place."""
        future: asyncio.Future[list[ResultT]] = asyncio.Future(loop=self._loop)
        if not items:
            future.set_result([])
            return future
        self._queued.append(_Request(items, future))
        if not self.busy:
            self._start()
        return future

    async def run(self, items: Sequence[ItemT]) -> Sequence[ResultT]:
        """Return the results of `items`, in order. If the caller is cancelled, the operation may be cancelled, too.

        If the previous batches had only one request each, this one probably has only one, too. Then the request runs in
        the task of its caller, and requests that arrive while it runs share the next batch.
        """
        if self._alone < DIRECT_AFTER or self.busy or not 0 < len(items) <= self._limit:
            return await self.submit(items)
        self._direct = True
        try:
            return await self._run(items)
        finally:
            self._direct = False
            if self._closing is not None:
                self._closing.set_result(None)
                self._closing = None
            if self._queued:
                self._queued = deque(request for request in self._queued if not request.future.done())  # not cancelled
            if self._queued:
                self._start()

    @property
    def busy(self) -> bool:
        """Whether an operation was submitted that has not ended."""
        return self._task is not None or self._direct

    async def close(self) -> None:
        """Wait until all submitted operations are done."""
        while self.busy:
            if self._task is not None:
                await asyncio.wait({self._task})
            else:
                self._closing = self._closing or self._loop.create_future()
                await asyncio.wait({self._closing})

    def _start(self) -> None:
        self._task = start_task(self._drain())
        self._task.add_done_callback(self._ended)

    async def _drain(self) -> None:
        while self._queued:
            self._in_flight = self._take_batch()
            self._alone = self._alone + 1 if len(self._in_flight) == 1 else 0
            await self._complete(self._in_flight)
        self._in_flight, self._task = [], None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Fail the requests that a cancelled task left open. The task may have been cancelled before its first step."""
        if self._task is not task:
            return
        left, self._in_flight, self._task = [*self._in_flight, *self._queued], [], None
        self._queued.clear()
        for request in left:
            if not request.future.done():
                request.future.set_exception(cancelled_from_outside())

    def _take_batch(self) -> list[_Request[ItemT, ResultT]]:
        requests = [self._queued.popleft()]
        size = len(requests[0].items)
        while self._queued and size + len(self._queued[0].items) <= self._limit:
            requests.append(self._queued.popleft())
            size += len(requests[-1].items)
        return requests

    async def _complete(self, requests: list[_Request[ItemT, ResultT]]) -> None:
        try:
            if len(requests) == 1:
                results = await self._run_split(requests[0].items)
            else:
                results = await self._run([item for request in requests for item in request.items])
        except Exception as error:  # noqa: BLE001 - the callers get it
            await self._fail(requests, error)
            del requests  # their futures hold the error, whose traceback holds this frame
            return
        start = 0
        for items, future in requests:
            end = start + len(items)
            if not future.done():
                future.set_result(list(results[start:end]))
            start = end

    async def _run_split(self, items: Sequence[ItemT]) -> Sequence[ResultT]:
        if len(items) <= self._limit:
            return await self._run(items)
        results: list[ResultT] = []
        for start in range(0, len(items), self._limit):
            results.extend(await self._run(items[start : start + self._limit]))
        return results

    async def _fail(self, requests: list[_Request[ItemT, ResultT]], error: Exception) -> None:
        if len(requests) == 1 or isinstance(error, BackendUnavailableError | BackendClosedError):
            for request in requests:
                if not request.future.done():
                    request.future.set_exception(error)
            return
        # One bad item, for example one that is too large, must not fail the others. Every operation may be repeated.
        for request in requests:
            await self._complete([request])


def retrieve_error(future: "asyncio.Future[Any]") -> None:
    """Retrieve the error of an ended operation that nothing may await, because asyncio would log it."""
    if not future.cancelled():
        future.exception()
