"""Options of the DynamoDB backend, and its largest value."""

from dataclasses import dataclass, field, fields
from typing import Final

from brrr_core.backend import LONGEST_DURATION, Duration, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_VALUE", "DynamoOptions"]

MAX_VALUE: Final = 16 * 1024 * 1024
"""Largest value, in bytes. It takes about 43 items, 16,400 write units to write and 4,200 read units to read."""

COUNTER_TTL: Final = Duration(7 * 24 * 3600)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(30)
MIN_TTL: Final = 1.0
"""Shortest time to live, in seconds."""

MIN_TIMEOUT: Final = 0.001
"""Shortest timeout, in seconds."""

MAX_TIMEOUT: Final = 3600.0
"""Longest timeout, in seconds. `brrr setup` could take the parts of a value for orphans if their head came later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoOptions:
    """Options of the scheme `dynamo`. A time to live is at most ten years, and a timeout at most an hour.

    Attributes:
        region: The region; by default the environment's or the profile's.
        endpoint: The URL of DynamoDB; by default AWS' own.
        profile: The profile in the user's AWS files that signs in; by default the environment's.
        session: A session of aioboto3 or aiobotocore that the program has; by default a new one.
        ttl: How long a value is kept after it was last written or read, with its call; by default forever.
        counter_ttl: How long the message counter of a root is kept after its last increment.
        connect_timeout: How long to wait for a connection.
        timeout: How long to wait for a response.
        retry_for: How long to retry an operation, or opening, while DynamoDB throttles, fails or is unreachable.
    """

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    session: object | None = field(default=None, repr=False)
    ttl: Duration | None = None
    counter_ttl: Duration = COUNTER_TTL
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR

    def __post_init__(self) -> None:
        for option in fields(self):
            value: object = getattr(self, option.name)
            is_ttl = option.name.endswith("ttl")
            shortest, longest = (MIN_TTL, LONGEST_DURATION) if is_ttl else (MIN_TIMEOUT, MAX_TIMEOUT)
            if isinstance(value, Duration) and not shortest <= value <= longest:
                most = "ten years (3650d)" if is_ttl else "an hour (1h)"
                raise OptionError(
                    f"{option.name} is {value:g} s", remedy=f"Set {option.name} to between {shortest:g} s and {most}."
                )
        check_ttl(self.ttl)
