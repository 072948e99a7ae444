"""What a Redis backend can be told, and the largest body and value that it takes."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from brrr_core.backend import Duration, Secret
from brrr_core.backend.checks import check_durations, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_BODY", "MAX_VALUE", "RedisOptions"]

MIB: Final = 1024 * 1024
MAX_BODY: Final = 16 * MIB
"""The largest message body, in bytes. A body travels back with its acknowledgement: it is meant to be small."""

MAX_VALUE: Final = 64 * MIB
"""The largest value, in bytes: a server does nothing else while it copies one. Redis ends at 512 MiB."""

LEASE: Final = Duration(30)
COUNTER_TTL: Final = Duration(7 * 24 * 3600)
SWEEP: Final = Duration(2)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(15)

HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """The options of all schemes of brrr-redis. Durations are in seconds, more than 0, and at most ten years.

    Attributes:
        prefix: Keeps a fleet's keys apart from those of every other prefix. Workers in other languages know only keys
            without a prefix.
        db: The database's number, where the URL's path does not give it.
        lease: How long a delivery stays with its receiver.
        ttl: How long a call and its value are kept after the call finished; forever unless given.
        counter_ttl: How long a root's counter of messages is kept after it was counted last.
        sweep: How often a consumer that waits looks for what others delayed, left or lost. It bounds how late that is.
        connect_timeout: How long to wait for a connection.
        eviction: Whether a server may evict keys when it is full: `refuse` refuses to open such a server.
        timeout: How long to wait for an answer.
        retry_for: How long an operation, or opening, is tried again while the server restarts, loads or fails over.
        tls: Use TLS. `rediss:` does so by itself.
        ca: A file of the certificates to trust, instead of the system's.
        cert: A file with this client's certificate.
        key: A file with the key of `cert`, where `cert` does not hold it.
        verify: Whether the server's certificate and name are checked.
        sentinel_username: The login for the sentinels, where they have one.
        sentinel_password: Its password.
    """

    prefix: str = ""
    db: int | None = None
    lease: Duration = LEASE
    ttl: Duration | None = None
    counter_ttl: Duration = COUNTER_TTL
    sweep: Duration = SWEEP
    eviction: Literal["refuse", "allow"] = "refuse"
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None

    def __post_init__(self) -> None:
        check_durations(self)
        check_ttl(self.ttl, self.lease)
        if self.db is not None and self.db < 0:
            raise OptionError(f"db is {self.db}", remedy="Databases are numbered from 0.")
        if "{" in self.prefix and not HASH_TAG.fullmatch(self.prefix):
            raise OptionError(
                f"the prefix {self.prefix!r} has half a hash tag",
                remedy="Close it, as in {fleet}: (all keys are then on one server), or leave braces out.",
            )
        if not self.prefix.isascii() or not (self.prefix == "" or self.prefix.isprintable()):
            raise OptionError(f"the prefix {self.prefix!r} is not printable US-ASCII", remedy="Use letters and colons.")
