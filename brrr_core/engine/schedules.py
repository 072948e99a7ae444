"""The recurring schedules of a worker: they run concurrently with its loop, and their failures do not end it.

The engine knows only when a schedule wants to run. brrr-cron has the times and the cursor that all workers share.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias

from brrr_core.engine.policy import Policy
from brrr_core.errors import ArgumentError

if TYPE_CHECKING:
    from brrr_core.engine.connection import Connection
    from brrr_core.engine.running import RunHandler

__all__ = ["RecurringSchedule", "Tick", "begin_schedules", "keep_ticking"]

LONGEST_SLEEP: Final = 60.0
"""Seconds between two looks at the clock. A clock that is set, or a machine that wakes up, is noticed within them."""

LONGEST_RETRY: Final = 10.0
"""The most seconds before a schedule that failed is tried again, so that its tick is still on time after an outage."""

Tick: TypeAlias = Callable[[float], Awaitable[float]]
"""Schedules the calls that are due at the present unix time, and returns the unix time at which to call it again."""


class RecurringSchedule(Protocol):
    """A recurring schedule, for the `schedules` of `Connection.loop`. The distribution brrr-cron makes them."""

    @property
    def name(self) -> str:
        """Name of the schedule; no two of one worker have the same."""
        ...

    def begin(self, connection: "Connection", handle: "RunHandler", topic: str) -> Tick:
        """Return the function that does the work of this schedule in one loop, and check that it can.

        The function can be cancelled at any time, and called again after any error.

        Args:
            connection: The connection of the loop.
            handle: `AppWorker.handle`.
            topic: The topic of the loop.
        """
        ...


def begin_schedules(
    schedules: Iterable[RecurringSchedule], connection: "Connection", handle: "RunHandler", topic: str
) -> list[Tick]:
    """Begin the schedules of a loop.

    Raises:
        ArgumentError: Two schedules have one name.
    """
    ticks: dict[str, Tick] = {}
    for schedule in schedules:
        if schedule.name in ticks:
            raise ArgumentError(
                f"two schedules have the name {schedule.name!r}", remedy="Give each a `name` of its own."
            )
        ticks[schedule.name] = schedule.begin(connection, handle, topic)
    return list(ticks.values())


async def keep_ticking(
    tick: Tick, *, clock: Callable[[], float], policy: Policy, report: Callable[[BaseException], None]
) -> NoReturn:
    """Do the work of a schedule at its times, until the task is cancelled. Report errors, and retry."""
    tries = 0
    while True:
        try:
            due, tries = await tick(clock()), 0
        except Exception as error:  # noqa: BLE001 - a schedule never ends the worker
            report(error)
            tries += 1
            due = clock() + min(policy.retry_delay(tries), LONGEST_RETRY)
        while (left := due - clock()) > 0:  # noqa: ASYNC110 - no event tells that a clock was set
            await asyncio.sleep(min(left, LONGEST_SLEEP))
