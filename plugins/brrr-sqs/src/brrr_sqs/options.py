"""What an SQS backend can be told."""

from dataclasses import dataclass
from typing import Final

from brrr_core.backend import Duration
from brrr_core.backend.checks import check_durations
from brrr_core.errors import OptionError

__all__ = ["LONGEST_LEASE", "SqsOptions"]

LEASE: Final = Duration(60)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(30)

LONGEST_LEASE: Final = 12 * 3600
"""Seconds that SQS hides a message at most, from when it was received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """The options of the scheme `sqs`. Durations are in seconds, more than 0, and at most ten years.

    Attributes:
        region: The region, where it is not the environment's or the profile's.
        endpoint: The URL of SQS, where it is not AWS' own.
        profile: The profile of the user's AWS files that signs in, where it is not the environment's.
        lease: How long a delivery stays with its receiver: whole seconds, at most twelve hours.
        create: Whether a queue is made when it is used and not there. Otherwise `brrr setup` makes those of `topics`.
        topics: The topics whose queues `brrr setup` makes, separated by commas.
        connect_timeout: How long to wait for a connection.
        timeout: How long to wait for an answer, beyond what a receive waits for messages.
        retry_for: How long an operation, or opening, is tried again while SQS throttles, fails or cannot be reached.
    """

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    lease: Duration = LEASE
    create: bool = True
    topics: str = ""
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR

    def __post_init__(self) -> None:
        check_durations(self)
        if not (1 <= self.lease <= LONGEST_LEASE and self.lease.is_integer()):
            raise OptionError(f"lease is {self.lease:g} s", remedy="SQS has leases of whole seconds, from 1s to 12h.")
