"""Running independent requests side by side, a bounded number at a time."""

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["spread"]

ThingT = TypeVar("ThingT")
ResultT = TypeVar("ResultT")


async def spread(run: Callable[[ThingT], Awaitable[ResultT]], things: Sequence[ThingT], *, limit: int) -> list[ResultT]:
    """The results of `run` for each thing, in their order; at most `limit` run at the same time.

    Raises:
        Exception: What the first one raised that failed; the others are cancelled by then.
    """
    if len(things) == 1:
        return [await run(things[0])]
    results: dict[int, ResultT] = {}
    places = iter(range(len(things)))

    async def work() -> None:
        for place in places:
            results[place] = await run(things[place])

    try:
        async with TaskGroup() as group:
            for _ in range(min(limit, len(things))):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    return [results[place] for place in range(len(things))]
