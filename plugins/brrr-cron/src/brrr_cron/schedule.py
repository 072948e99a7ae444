"""A recurring schedule: its times, its task, and the cursor that all workers share."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import brrr_core as brrr
from brrr_core.backend import check_topic
from brrr_core.errors import ArgumentError, HandlerError
from brrr_cron.cursor import Cursor
from brrr_cron.times import Times, text_of

__all__ = ["CronSchedule", "Missed", "every"]

Missed: TypeAlias = Literal["none", "last", "all"]
"""Which missed ticks run when a worker starts again."""

ON_TIME: Final = timedelta(minutes=1)
"""A tick that a worker handles within this time is not missed."""

NAME_LIMIT: Final = 200
"""The most characters of a name."""

TickTask: TypeAlias = brrr.TypedTask[Callable[[str], Any]] | brrr.TypedTask[Callable[[datetime], Any]] | str
"""A task that takes the instant of a tick."""


@dataclass(frozen=True)
class CronSchedule:
    """A recurring schedule. `every` makes it.

    Attributes:
        name: The name of the cursor.
        spec: The cron expression.
        task: The task, or its name.
        topic: The topic of its calls; None means the topic of the loop.
        timezone: The name of the time zone of the expression.
        missed: Which missed ticks run.
    """

    name: str
    spec: str
    task: TickTask
    topic: str | None
    timezone: str
    missed: Missed
    _times: Times = field(repr=False, compare=False)

    def next(self, after: datetime) -> datetime:
        """Return the first tick after an instant, in UTC.

        Raises:
            ArgumentError: The instant has no time zone.
        """
        if after.tzinfo is None:
            raise ArgumentError(f"{after!r} has no time zone", remedy="Pass datetime.now(UTC), for example.")
        return next(self._times.after(after))

    def begin(self, connection: brrr.Connection, handle: object, topic: str) -> Callable[[float], Awaitable[float]]:
        """Return the function that the loop calls: it puts the due calls, and returns the unix time of its next call.

        Args:
            connection: The connection of the loop.
            handle: `app.handle`. Its application encodes the calls.
            topic: The topic of the loop.

        Raises:
            ArgumentError: `handle` is not the method of an application.
            HandlerError: The task is not a handler.
            UnknownTaskError: The handler is not among the application's handlers.
        """
        app = getattr(handle, "__self__", None)
        if not isinstance(app, brrr.AppConsumer):
            raise ArgumentError(
                f"the schedule {self.name!r} needs an application to encode its calls",
                remedy="Pass the method `app.handle` of an AppWorker to `conn.loop`, not a function that calls it.",
            )
        put = app.schedule(cast("str", self.task), topic=self.topic or topic)
        return Cursor(self.name, self._times, self._choose, connection.store, put).tick

    def _choose(self, due: Sequence[datetime], present: datetime) -> Sequence[datetime]:
        """Return the due ticks to run: all that are on time, and missed ones according to `missed`."""
        if self.missed == "all":
            return due
        on_time = [tick for tick in due if present - tick <= ON_TIME]
        return on_time or (due[-1:] if self.missed == "last" else ())


def every(
    spec: str,
    task: TickTask,
    *,
    name: str | None = None,
    topic: str | None = None,
    timezone: str = "UTC",
    missed: Missed = "last",
) -> CronSchedule:
    """Schedule a task at each time of a cron expression: `every("0 3 * * *", nightly)`.

    Give it to the loops of your workers. All of them may have it, and each tick happens once. The task receives the
    instant of its tick as text, for example `"2026-03-29T01:00:00Z"`. A parameter with the annotation `datetime` gets
    a datetime in UTC.

    Args:
        spec: Minute, hour, day of the month, month and day of the week. A sixth field in front is the second.
        task: The handler, or the name of a task of other workers. It takes one argument.
        name: The name of the cursor. By default the task's name, the expression and the time zone, so that another
            expression is a new schedule. With a name of yours, the new expression continues at the old cursor.
        topic: The topic of the calls; that of the loop by default.
        timezone: The time zone of the expression.
        missed: The ticks to run that passed while no worker ran: `"none"`, the `"last"`, or `"all"` (at most the last
            1,000). A tick counts as missed after a minute.

    Raises:
        ArgumentError: The expression, the time zone, the name, the topic or `missed` is not valid.
        HandlerError: The task is neither a handler nor a name.
        SignatureError: The handler does not take one argument.
    """
    if missed not in get_args(Missed):
        raise ArgumentError(f"missed is {missed!r}", remedy='Set it to "none", "last" or "all".')
    if topic is not None:
        check_topic(topic)
    if isinstance(task, brrr.Task):
        task.arrange((text_of(datetime.now(UTC)),), {})
    elif not isinstance(task, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise HandlerError(
            f"{task!r} is neither a handler nor a name", remedy="Decorate it with `brrr.handler`, or pass a name."
        )
    times = Times(spec, timezone)
    if name is None:
        task_name = task if isinstance(task, str) else task.name
        name = f"{ascii(task_name)[1:-1]} {' '.join(spec.split())} {timezone}"
    if not name.isascii() or not name.isprintable() or not 1 <= len(name) <= NAME_LIMIT:
        raise ArgumentError(
            f"{name!r} cannot name a schedule", remedy=f"Pass `name=` with 1 to {NAME_LIMIT} characters of ASCII."
        )
    return CronSchedule(name, spec, task, topic, timezone, missed, times)
