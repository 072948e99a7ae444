"""What a DynamoDB backend can be told, and the largest value that it takes."""

from dataclasses import dataclass, fields
from typing import Final

from brrr_core.backend import Duration
from brrr_core.backend.checks import LONGEST_DURATION, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_VALUE", "DynamoOptions"]

MAX_VALUE: Final = 16 * 1024 * 1024
"""The largest value, in bytes. It is kept in some 43 items; writing it takes 16,400 write units, reading it 4,200."""

COUNTER_TTL: Final = Duration(7 * 24 * 3600)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(30)
SHORTEST_TTL: Final = 1.0
LONGEST_WAIT: Final = 3600.0
"""A head that waits longer for its turn could find its parts taken for what a crash left (`brrr_dynamo.parts`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoOptions:
    """The options of the scheme `dynamo`. Durations are seconds, more than 0; lives at most ten years, waits an hour.

    Attributes:
        region: The region, where it is not the environment's or the profile's.
        endpoint: The URL of DynamoDB, where it is not AWS' own.
        profile: The profile of the user's AWS files that signs in, where it is not the environment's.
        ttl: How long records of calls are kept after they were written last; forever unless given. Those of unfinished
            calls end too, so it must be longer than the longest workflow.
        counter_ttl: How long a root's counter of messages is kept after it was counted last.
        connect_timeout: How long to wait for a connection.
        timeout: How long to wait for an answer.
        retry_for: How long an operation, or opening, is tried again while DynamoDB throttles, fails or is not there.
    """

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    ttl: Duration | None = None
    counter_ttl: Duration = COUNTER_TTL
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR

    def __post_init__(self) -> None:
        for option in fields(self):
            value: object = getattr(self, option.name)
            lives = option.name.endswith("ttl")
            shortest, longest = (SHORTEST_TTL, LONGEST_DURATION) if lives else (0.001, LONGEST_WAIT)
            if isinstance(value, Duration) and not shortest <= value <= longest:
                most = "ten years (3650d)" if lives else "an hour (1h)"
                raise OptionError(
                    f"{option.name} is {value:g} s", remedy=f"Give {option.name} from {shortest:g} s to {most}."
                )
        check_ttl(self.ttl)
