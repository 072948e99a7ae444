"""How a worker behaves where the user has a choice: limits, retries, patience."""

import random
from dataclasses import dataclass, fields
from typing import Final

from brrr_core.errors import PolicyError

__all__ = ["RETURNS_LIMIT", "Policy"]

RETURNS_LIMIT: Final = 1_000
"""The most returns that a pending record holds, so that a hot shared child does not make a record of megabytes."""

_COUNTS: Final = ("spawn_limit", "max_attempts", "max_deliveries", "max_crashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a connection's workers and schedules.

    Attributes:
        spawn_limit: The most messages that one schedule may cause, all its calls and wake-ups included. A schedule may
            have a limit of its own instead.
        max_attempts: A call whose handler raised so many times is given up. Other deliveries do not count.
        max_deliveries: A message that was delivered more often than this, whatever for, is given up unseen.
        max_crashes: A call that ended its worker process so many times while it ran alone is given up.
        backoff: Seconds before the second attempt; each further one waits twice as long.
        backoff_limit: The most seconds between two attempts.
        grace: Seconds that running handlers get to finish when a worker stops.
        patience: Seconds that a worker bears a queue which does not answer, before its loop raises the error; and
            seconds that it keeps a message whose store does not answer, before another worker may try.
        cache_bytes: The most bytes of values that a worker remembers.
        check: Compare the calls of each re-run with those of the run before, and bury what is not deterministic.
    """

    spawn_limit: int = 1_000_000
    max_attempts: int = 10
    max_deliveries: int = 100
    max_crashes: int = 3
    backoff: float = 1.0
    backoff_limit: float = 300.0
    grace: float = 30.0
    patience: float = 60.0
    cache_bytes: int = 4 * 1024 * 1024
    check: bool = False

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PolicyError: A limit is less than 1, a time or size less than 0, or one of them no number.
        """
        for setting in fields(self):
            value: object = getattr(self, setting.name)
            least = 1 if setting.name in _COUNTS else 0
            if not isinstance(value, int | float) or not value >= least:
                raise PolicyError(
                    f"{setting.name} is {value!r}", remedy=f"Give {setting.name} a number from {least} up."
                )

    def retry_delay(self, attempt: int) -> float:
        """Seconds to wait after the failed `attempt`: exponential, with half of it jitter so that retries spread."""
        full = min(self.backoff * 2.0 ** min(attempt - 1, 60), self.backoff_limit)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
