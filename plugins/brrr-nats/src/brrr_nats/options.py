"""The options of the backend, and the limits of bodies and values."""

import re
from dataclasses import dataclass
from typing import Final

from brrr_core.backend import Duration, Secret, check_durations, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_BODY", "MAX_VALUE", "NatsOptions"]

KIB: Final = 1024
MAX_BODY: Final = 960 * KIB
"""The largest message body in bytes. By default, a server accepts 1 MiB with headers; the rest is for the headers of a
dead letter."""

MAX_VALUE: Final = 64 * KIB * KIB
"""The largest value in bytes. A value larger than a message is kept in parts."""

LEASE: Final = Duration(30)
COUNTER_TTL: Final = Duration(7 * 24 * 3600)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(15)

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED_STREAM: Final = re.compile(r"^KV_|-(?:dead|counters)$")
RESERVED_BUCKET: Final = re.compile(r"^KV_")
"""A fleet has the streams STREAM, STREAM-dead, KV_BUCKET and BUCKET-counters. Reserved names keep two fleets from
sharing one."""

INBOX_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """The options of brrr-nats. Durations are in seconds, more than 0, and at most ten years.

    Attributes:
        stream: Name of the queue's stream; dead letters are in the stream with `-dead` added. Fleets with different
            names share nothing of the queue.
        bucket: Prefix of the streams for the store and the counters.
        replicas: Number of servers that keep each stream that is created here: 1, 3 or 5.
        lease: Time that a delivery belongs to its receiver.
        ttl: Time that a value is kept after it was last written or read, with its call; without it, they do not expire.
        counter_ttl: Time that a root's counter of messages is kept after its last increment.
        connect_timeout: Time to wait for a connection, for each server.
        timeout: Time to wait for a reply; in a batch, since the last reply.
        retry_for: Time for which an operation, or opening, is retried while servers restart or elect a leader.
        inbox: Prefix of the subjects for replies; an account may permit another than `_INBOX`.
        domain: The JetStream domain, if it is not the servers' own.
        creds: File with this client's credentials, its JWT and seed.
        nkey_seed_file: File with the seed of this client's NKey.
        nkey_seed: The seed itself.
        token: The servers' token.
        tls: Use TLS. Servers that require TLS get it without this option.
        tls_first: Begin with the TLS handshake, for servers with `handshake_first`.
        ca: File with the certificates to trust, instead of the system's.
        cert: File with this client's certificate.
        key: File with the key of `cert`, unless `cert` contains it.
        verify: Whether to check the server's certificate and name.
    """

    stream: str = "brrr"
    bucket: str = "brrr"
    replicas: int = 1
    lease: Duration = LEASE
    ttl: Duration | None = None
    counter_ttl: Duration = COUNTER_TTL
    connect_timeout: Duration = CONNECT_TIMEOUT
    timeout: Duration = TIMEOUT
    retry_for: Duration = RETRY_FOR
    inbox: str = "_INBOX"
    domain: str | None = None
    creds: str | None = None
    nkey_seed_file: str | None = None
    nkey_seed: Secret | None = None
    token: Secret | None = None
    tls: bool = False
    tls_first: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        check_durations(self)
        for name in ("stream", "bucket", "domain"):
            value = getattr(self, name)
            if isinstance(value, str) and not NAME_PATTERN.fullmatch(value):
                raise OptionError(
                    f"{name} is {value!r}", remedy="Use up to 64 letters and digits of US-ASCII, hyphens, underscores."
                )
        for name, value, reserved in (
            ("stream", self.stream, RESERVED_STREAM),
            ("bucket", self.bucket, RESERVED_BUCKET),
        ):
            if reserved.search(value):
                raise OptionError(
                    f"{name} is {value!r}, and streams of other fleets may have that name",
                    remedy="Choose a name that does not begin with KV_ (for a stream, nor end in -dead or -counters).",
                )
        if not INBOX_PATTERN.fullmatch(self.inbox):
            raise OptionError(
                f"inbox is {self.inbox!r}",
                remedy="Use letters, digits, hyphens, underscores, full stops.",
            )
        if self.replicas not in {1, 3, 5}:
            raise OptionError(f"replicas is {self.replicas}", remedy="Give 1, 3 or 5, so that a majority can survive.")
        check_ttl(self.ttl, self.lease)
