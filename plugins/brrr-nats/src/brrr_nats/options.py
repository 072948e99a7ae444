"""What a NATS backend can be told, and the largest body and value that it takes."""

import re
from dataclasses import dataclass
from typing import Final

from brrr_core.backend import Duration, Secret
from brrr_core.backend.checks import check_durations, check_ttl
from brrr_core.errors import OptionError

__all__ = ["MAX_BODY", "MAX_VALUE", "NatsOptions"]

KIB: Final = 1024
MAX_BODY: Final = 960 * KIB
"""The largest message body, in bytes. A server takes 1 MiB unless it is told otherwise, headers included: what is left
holds why a message was buried."""

MAX_VALUE: Final = 64 * KIB * KIB
"""The largest value, in bytes. Those over a message's size are kept in parts."""

LEASE: Final = Duration(30)
COUNTER_TTL: Final = Duration(7 * 24 * 3600)
CONNECT_TIMEOUT: Final = Duration(5)
TIMEOUT: Final = Duration(10)
RETRY_FOR: Final = Duration(15)

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
TAKEN_STREAM: Final = re.compile(r"^KV_|-(?:dead|counters)$")
TAKEN_BUCKET: Final = re.compile(r"^KV_")
"""A fleet has the streams STREAM, STREAM-dead, KV_BUCKET and BUCKET-counters: no name of one may be another's."""

INBOX: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """The options of brrr-nats. Durations are in seconds, more than 0, and at most ten years.

    Attributes:
        stream: The name of the queue's stream; the dead letters' is that with `-dead`. Fleets with streams of different
            names share nothing of the queue.
        bucket: The name that the store's and the counters' streams begin with.
        replicas: On how many servers of a cluster each stream is kept, where it is made here: 1, 3 or 5.
        lease: How long a delivery stays with its receiver.
        ttl: How long records of calls are kept after they were written last; forever unless given. Those of unfinished
            calls end too, so it must be longer than the longest workflow.
        counter_ttl: How long a root's counter of messages is kept after it was counted last.
        connect_timeout: How long to wait for a connection, for each server.
        timeout: How long to wait for an answer.
        retry_for: How long an operation, or opening, is tried again while servers restart or elect a leader.
        inbox: What the subjects of answers begin with; an account may permit others than `_INBOX`.
        domain: The JetStream domain, where it is not the servers' own.
        creds: A file with this client's credentials, its JWT and seed.
        nkey_seed_file: A file with the seed of this client's NKey.
        nkey_seed: The seed itself.
        token: The servers' token.
        tls: Use TLS. Servers that ask for it get it anyway.
        tls_first: Begin with TLS, where servers are configured with `handshake_first`.
        ca: A file of the certificates to trust, instead of the system's.
        cert: A file with this client's certificate.
        key: A file with the key of `cert`, where `cert` does not hold it.
        verify: Whether the server's certificate and name are checked.
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
            if isinstance(value, str) and not NAME.fullmatch(value):
                raise OptionError(
                    f"{name} is {value!r}", remedy="Use up to 64 letters and digits of US-ASCII, hyphens, underscores."
                )
        for name, value, taken in (("stream", self.stream, TAKEN_STREAM), ("bucket", self.bucket, TAKEN_BUCKET)):
            if taken.search(value):
                raise OptionError(
                    f"{name} is {value!r}, and streams of other fleets may have that name",
                    remedy="Begin it unlike KV_, and end a stream's name unlike -dead and -counters.",
                )
        if not INBOX.fullmatch(self.inbox):
            raise OptionError(
                f"inbox is {self.inbox!r}",
                remedy="Use letters, digits, hyphens, underscores, full stops.",
            )
        if self.replicas not in {1, 3, 5}:
            raise OptionError(f"replicas is {self.replicas}", remedy="Give 1, 3 or 5: a majority must be left.")
        check_ttl(self.ttl, self.lease)
