"""Await several awaitables of a handler concurrently, let all of them end, and raise the error that ends the run."""

import asyncio
from collections.abc import Awaitable, Sequence
from operator import methodcaller
from typing import Any, NamedTuple, TypeVar

from brrr_core.engine.calls import Again, Cancelled, Defer

__all__ = ["Exit", "gather_any", "outcome_of", "without_exit"]

T = TypeVar("T")


class Exit(NamedTuple):
    """The SystemExit of a helper. A task that raised it would end the event loop."""

    error: SystemExit


async def without_exit(awaitable: Awaitable[T]) -> T | Exit:
    """Return the result of an awaitable, or its SystemExit."""
    try:
        return await awaitable
    except SystemExit as error:
        return Exit(error)


def outcome_of(outcome: T | Exit) -> T:
    """Return the result that `without_exit` returned, or raise the SystemExit."""
    try:
        if isinstance(outcome, Exit):
            raise outcome.error
        return outcome
    finally:
        del outcome  # this frame must not keep the error, whose traceback holds this frame


async def gather_any(awaitables: Sequence[Awaitable[Any]], *, return_exceptions: bool) -> list[Any]:
    """Return the results of awaitables, some of which are not calls. See `ActiveWorker.gather`."""
    futures = [each if asyncio.isfuture(each) else asyncio.ensure_future(without_exit(each)) for each in awaitables]
    outcomes: list[Any] = []
    try:
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        endings: tuple[type[BaseException], ...] = (Defer, Again, Cancelled) if return_exceptions else (Defer,)
        aborted = next((each for kind in endings for each in outcomes if isinstance(each, kind)), None)
        if aborted is not None:
            raise aborted
        if return_exceptions:
            return [outcome.error if isinstance(outcome, Exit) else outcome for outcome in outcomes]
        return list(map(outcome_of, map(methodcaller("result"), futures)))
    finally:
        aborted = None  # as above
        del outcomes
        futures.clear()
