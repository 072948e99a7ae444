"""Running independent requests side by side, a bounded number at a time."""

from asyncio import CancelledError, TaskGroup
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from brrr_core.backend import cancelled_from_outside

__all__ = ["spread"]

ThingT = TypeVar("ThingT")
ResultT = TypeVar("ResultT")


async def spread(
    run: Callable[[ThingT], Awaitable[ResultT]], things: Sequence[ThingT], *, limit: int, to_the_end: bool = False
) -> list[ResultT]:
    """The results of `run` for each thing, in their order; at most `limit` run at the same time.

    What runs when another fails may end: a write that is cut off may have been done or not, and leaves its connection
    useless. A cancellation cancels all.

    Args:
        run: What to do.
        things: With each of these.
        limit: How many at a time.
        to_the_end: Whether after a failure the rest is still begun.

    Raises:
        Exception: What the first one raised that failed.
        BackendClosedError: One was cancelled, and not the caller.
    """
    if len(things) == 1:
        return [await run(things[0])]
    results: dict[int, ResultT] = {}
    failures: list[BaseException] = []
    places = iter(range(len(things)))

    async def work() -> None:
        for place in places:
            if failures and not to_the_end:
                return
            try:
                results[place] = await run(things[place])
            except Exception as error:  # noqa: BLE001 - which one it is, the caller looks at
                failures.append(error)
            except BaseException as error:
                failures.append(error)  # a cancellation of this one alone must not pass for a result
                raise

    async with TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(min(limit, len(things)))]
    if failures and not isinstance(failures[0], CancelledError):
        raise failures[0]
    if any(task.cancelled() for task in tasks):  # one may be cancelled before it begins
        raise cancelled_from_outside()
    return [results[place] for place in range(len(things))]
