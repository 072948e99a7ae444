"""Options of the SQS backend."""

from dataclasses import dataclass, field
from typing import Final

from brrr_core.backend import Duration, check_durations
from brrr_core.errors import OptionError

__all__ = ["MAX_LEASE_SECONDS", "SqsOptions"]

LEASE: Final = Duration(60)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(30)

MAX_LEASE_SECONDS: Final = 12 * 3600
"""Longest time that SQS hides a message, in seconds from its receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """Options of the scheme `sqs`. Durations are in seconds, more than 0, and at most ten years.

    Attributes:
        region: The region; by default the environment's or the profile's.
        endpoint: The URL of SQS; by default AWS' own.
        profile: The profile in the user's AWS files that signs in; by default the environment's.
        session: A session of aioboto3 or aiobotocore that the program has; by default a new one.
        lease: How long a delivery stays with its receiver, at most twelve hours. Rounded up to whole seconds.
        create: Whether to create a missing queue on first use. Otherwise `brrr setup` creates those of `topics`.
        topics: The topics whose queues `brrr setup` creates, separated by commas.
        connect_timeout: How long to wait for a connection.
        timeout: How long to wait for a response, in addition to a receive's wait for messages.
        retry_for: How long to retry an operation, or opening, while SQS throttles, fails or is unreachable.
    """

    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    session: object | None = field(default=None, repr=False)
    lease: Duration = LEASE
    create: bool = True
    topics: str = ""
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR

    def __post_init__(self) -> None:
        check_durations(self)
        if self.lease > MAX_LEASE_SECONDS:
            raise OptionError(f"lease is {self.lease:g} s", remedy="Set lease to at most 12h.")
