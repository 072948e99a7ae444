"""The settings of workers and schedules: limits, retries and timeouts."""

import random
from dataclasses import dataclass, fields
from typing import Final

from brrr_core.errors import PolicyError

__all__ = ["RETURNS_LIMIT", "Policy"]

RETURNS_LIMIT: Final = 1_000
"""The most returns in one pending record. It keeps the record of a widely shared child below a megabyte."""

_COUNTS: Final = ("spawn_limit", "max_attempts", "max_deliveries", "max_crashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a connection's workers and schedules.

    Attributes:
        spawn_limit: The most messages that one schedule may cause, including all its calls and wake-ups. `schedule` can
            set another limit for one schedule.
        max_attempts: A call is dead-lettered after its handler raised this many times. Other deliveries do not count.
        max_deliveries: A message that was delivered more often than this is dead-lettered without running.
        max_crashes: A call is dead-lettered after it ended its worker process this many times while it ran alone.
        backoff: Seconds before the second attempt. Each further attempt waits twice as long.
        backoff_limit: The most seconds between two attempts.
        grace: Seconds that running handlers have to finish when a worker stops.
        unavailable_timeout: Seconds that a worker retries a queue that does not answer, before its loop raises the
            error. Also the seconds that it keeps a message whose store does not answer, before it releases the message.
        cache_bytes: The most bytes of values that a worker keeps in memory.
        check: Compare the calls of each re-run with those of the run before. A handler that makes other calls is not
            deterministic, and its call is dead-lettered.
    """

    spawn_limit: int = 1_000_000
    max_attempts: int = 10
    max_deliveries: int = 100
    max_crashes: int = 3
    backoff: float = 1.0
    backoff_limit: float = 300.0
    grace: float = 30.0
    unavailable_timeout: float = 60.0
    cache_bytes: int = 4 * 1024 * 1024
    check: bool = False

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PolicyError: A limit is less than 1, a time or size is less than 0, or a setting is not a number.
        """
        for setting in fields(self):
            value: object = getattr(self, setting.name)
            least = 1 if setting.name in _COUNTS else 0
            if not isinstance(value, int | float) or not value >= least:
                raise PolicyError(
                    f"{setting.name} is {value!r}", remedy=f"Set {setting.name} to a number of at least {least}."
                )

    def retry_delay(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt.

        The delay doubles with each attempt. Half of it is random, so that retries do not come at the same time.
        """
        full = min(self.backoff * 2.0 ** min(attempt - 1, 60), self.backoff_limit)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
