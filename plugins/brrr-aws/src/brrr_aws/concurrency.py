"""Concurrent requests, with a limit on how many run at the same time."""

from asyncio import CancelledError, TaskGroup
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from brrr_core.backend import cancelled_from_outside

__all__ = ["run_concurrently"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def run_concurrently(
    run: Callable[[ItemT], Awaitable[ResultT]], items: Sequence[ItemT], *, limit: int, keep_going: bool = False
) -> list[ResultT]:
    """Await `run` for each item, at most `limit` at the same time, and return the results in order.

    If one fails, those that already run continue to their end: cutting off a write would leave its outcome unknown and
    its connection unusable. A cancellation cancels all.

    Args:
        run: Operation on one item.
        items: The items.
        limit: Most operations at the same time.
        keep_going: Whether to start the remaining operations after a failure.

    Raises:
        Exception: The first failure.
        BackendClosedError: One operation was cancelled, but the caller was not.
    """
    if len(items) == 1:
        return [await run(items[0])]
    results: dict[int, ResultT] = {}
    failures: list[BaseException] = []
    indexes = iter(range(len(items)))

    async def work() -> None:
        for index in indexes:
            if failures and not keep_going:
                return
            try:
                results[index] = await run(items[index])
            except Exception as error:  # noqa: BLE001 - the caller gets the first one
                failures.append(error)
            except BaseException as error:
                failures.append(error)  # the cancellation of this operation alone must not pass for a result
                raise

    async with TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(min(limit, len(items)))]
    if failures and not isinstance(failures[0], CancelledError):
        raise failures[0]
    if any(task.cancelled() for task in tasks):  # a task may be cancelled before it begins
        raise cancelled_from_outside()
    return [results[index] for index in range(len(items))]
