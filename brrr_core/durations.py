"""Durations: seconds, a `timedelta`, or a text such as `30s` or `1.5h`."""

import re
from datetime import timedelta
from typing import Final, TypeAlias

from brrr_core.errors import ArgumentError

__all__ = ["DurationLike", "parse_duration", "seconds"]

DurationLike: TypeAlias = float | str | timedelta
"""A number of seconds, a `timedelta`, or a text with a unit of ms, s, m, h or d: `"250ms"`, `"72h"`."""

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d|)")


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as `30s`.

    Raises:
        ValueError: The text is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    return float(match[1]) * _UNITS[match[2]]


def seconds(duration: DurationLike, name: str = "delay") -> float:
    """Return a duration in seconds.

    Args:
        duration: The duration.
        name: The name of the argument, for the error.

    Raises:
        ArgumentError: It is not a duration, negative, or not finite.
    """
    given: object = duration
    try:
        if isinstance(given, str):
            given = parse_duration(given)
        elif isinstance(given, timedelta):
            given = given.total_seconds()
    except ValueError:
        pass
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < float("inf"):
        return float(given)
    raise ArgumentError(
        f"{name} is {duration!r}",
        remedy='Pass seconds (0 or more), a timedelta, or a text such as "250ms", "30s", "5m", "72h" or "7d".',
    )
