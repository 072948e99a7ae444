"""Options of the backend, and its largest body and value."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from brrr_core.backend import Duration, Secret, check_durations, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_BODY", "MAX_VALUE", "RedisOptions"]

MIB: Final = 1024 * 1024
MAX_BODY: Final = 16 * MIB
"""Largest message body, in bytes. Keep bodies small: an acknowledgement sends the body again."""

MAX_VALUE: Final = 64 * MIB
"""Largest value, in bytes. The limit of Redis is 512 MiB, but a server does nothing else while it copies a value."""

LEASE: Final = Duration(30)
COUNTER_TTL: Final = Duration(7 * 24 * 3600)
SWEEP: Final = Duration(2)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(15)

HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Options of all schemes. Durations are in seconds, greater than 0 and at most ten years.

    Attributes:
        prefix: Text in all keys of a fleet, which separates them from other fleets. Workers in other languages use keys
            without a prefix.
        db: Number of the database, if the path of the URL does not name it.
        lease: How long a delivery belongs to its receiver.
        ttl: How long a value and its call stay after the value was last written or read; without `ttl`, forever.
        counter_ttl: How long a message counter stays after its last increment.
        sweep: How often a waiting receiver looks for messages that other processes delayed or lost. Such a message is
            late by at most this time.
        connect_timeout: How long to wait for a connection.
        eviction: `refuse` does not open a server that evicts keys when it is full; `allow` does.
        timeout: How long to wait for a reply.
        retry_for: How long to retry an operation, or opening, while the server restarts, loads data or fails over.
        tls: Whether to use TLS. `rediss:` always does.
        ca: File with the certificates to trust, instead of those of the system.
        cert: File with the certificate of this client.
        key: File with the key of `cert`, if `cert` does not contain it.
        verify: Whether to check the certificate and the name of the server.
        sentinel_username: Name of the login at the sentinels, if they have one.
        sentinel_password: Password of the login at the sentinels.
        client: A client of `redis.asyncio` that the program has: its servers, login, TLS and timeouts are used.
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
    client: object | None = field(default=None, repr=False)  # older versions of redis-py show its password

    def __post_init__(self) -> None:
        check_durations(self)
        check_ttl(self.ttl, self.lease)
        if self.db is not None and self.db < 0:
            raise OptionError(f"db is {self.db}", remedy="Database numbers begin at 0.")
        if "{" in self.prefix and not HASH_TAG.fullmatch(self.prefix):
            raise OptionError(
                f"the prefix {self.prefix!r} has an incomplete hash tag",
                remedy="Close it, as in {fleet}:, which puts all keys on one server; or remove the braces.",
            )
        if not self.prefix.isascii() or not (self.prefix == "" or self.prefix.isprintable()):
            raise OptionError(f"the prefix {self.prefix!r} is not printable US-ASCII", remedy="Use letters and colons.")
