"""The times of a cron expression in a time zone, as instants in UTC."""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from brrr_core.errors import ArgumentError

__all__ = ["Times", "read_text", "text_of"]

FIRST_WINDOW: Final = timedelta(hours=1)
"""The length of the first window in which `latest` searches. Each further window is `GROWTH` times as long."""

GROWTH: Final = 24

MAX_TIMES: Final = 1_000
"""The most times that `latest` returns."""

_SPEC_REMEDY: Final = (
    'Write minute, hour, day of the month, month and day of the week: "30 3 * * *" is 3:30 each day, "0 9 * * 1-5" is '
    "9:00 from Monday to Friday. A sixth field in front is the second."
)


class Times:
    """The times of a cron expression.

    Args:
        spec: The expression, with five fields, or six if the first is the second.
        timezone: The name of the time zone of the expression.

    Raises:
        ArgumentError: The expression or the time zone is not valid, or no time matches the expression.
    """

    def __init__(self, spec: str, timezone: str) -> None:
        self._spec = spec
        self._zone = _zone(timezone)
        try:
            found = next(self.after(datetime.now(UTC)), None)
        except (CronSimError, AttributeError, ValueError) as error:  # its parser raises all three
            raise ArgumentError(f"{spec!r} is not a cron expression: {error}", remedy=_SPEC_REMEDY) from error
        if found is None:
            raise ArgumentError(f"no time matches the cron expression {spec!r}", remedy=_SPEC_REMEDY)

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the times after an instant, in order."""
        for local in CronSim(self._spec, instant.astimezone(self._zone)):
            found = local.astimezone(UTC)
            if found > instant:  # if the local time of the instant exists twice, the search begins an hour early
                yield found

    def latest(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the last `MAX_TIMES` times after an instant, up to and including another, in order."""
        window = FIRST_WINDOW
        while True:  # search backwards, because a schedule for every minute has half a million times a year
            begin = max(after, until - window)
            found = deque(takewhile(lambda time: time <= until, self.after(begin)), maxlen=MAX_TIMES)
            if begin == after or len(found) == MAX_TIMES:
                return list(found)
            window *= GROWTH


def text_of(instant: datetime) -> str:
    """Return an instant in UTC as text: `2026-03-29T01:00:00Z`."""
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def read_text(text: str) -> datetime:
    """Read the text of an instant.

    Raises:
        ValueError: The text has another form.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # needs no time zone data
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ArgumentError(
            f"there is no time zone {name!r}",
            remedy='Use a name such as "Europe/Berlin". If the system has no time zones, install the package tzdata.',
        ) from error
