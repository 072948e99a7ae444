"""Parses a URL: one server, a Unix socket, a cluster, or servers that sentinels watch."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, NoReturn

from brrr_core.backend import BackendUrl
from brrr_core.errors import OptionError, UrlError
from brrr_redis.options import RedisOptions

__all__ = ["Address", "Location", "Topology", "parse_location"]

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SOCKET: Final = 0


class Address(NamedTuple):
    """Address of a server: a host and a port, or the path of a Unix socket and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.port == SOCKET:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Topology(Enum):
    """How the servers of a URL work together."""

    SINGLE = "one server"
    CLUSTER = "a cluster"
    SENTINEL = "servers watched by sentinels"


@dataclass(frozen=True, slots=True)
class Location:
    """The servers that a URL and its options name.

    Attributes:
        topology: How the servers work together.
        addresses: The server, some servers of the cluster, or the sentinels.
        service: Name of the service at the sentinels.
        database: Number of the database.
        tls: Whether to use TLS.
    """

    topology: Topology
    addresses: tuple[Address, ...]
    service: str
    database: int
    tls: bool

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def parse_location(url: BackendUrl, options: RedisOptions) -> Location:
    """Parse a URL of any scheme.

    Raises:
        UrlError: The URL lacks a part, or has one that its scheme does not allow.
        OptionError: An option does not fit the scheme.
    """
    topology = {"redis+cluster": Topology.CLUSTER, "redis+sentinel": Topology.SENTINEL}.get(url.scheme, Topology.SINGLE)
    tls = options.tls or url.scheme == "rediss"
    _check_tls(url, options, tls=tls)
    if url.scheme == "redis+unix":
        if url.hosts or len(url.path) < 2:
            _refuse(url, "names no socket", "Write three slashes before the path: redis+unix:///run/redis.sock")
        return Location(topology, (Address(url.path, SOCKET),), "", options.db or 0, tls=False)
    service, path = "", url.path.strip("/")
    if topology is Topology.SENTINEL:
        service, _, path = path.partition("/")
        if not service or not url.hosts:
            _refuse(url, "names no service", "Write redis+sentinel://HOST,HOST/SERVICE")
    elif len(url.hosts) > 1 and topology is Topology.SINGLE:
        _refuse(url, "names several hosts", "Use redis+cluster: for a cluster, or redis+sentinel: for sentinels")
    port = SENTINEL_PORT if topology is Topology.SENTINEL else PORT
    addresses = tuple(Address(host, given or port) for host, given in url.hosts) or (Address("localhost", port),)
    database = _database(url, path, options)
    if topology is Topology.CLUSTER and database:
        _refuse(url, f"names database {database}", "A cluster has only database 0")
    return Location(topology, addresses, service, database, tls)


def _database(url: BackendUrl, path: str, options: RedisOptions) -> int:
    if not path:
        return options.db or 0
    if not (path.isascii() and path.isdecimal() and len(path) < 6):
        _refuse(url, "names a database that is not a number", "Write redis://HOST/0")
    if options.db is not None and options.db != int(path):
        raise OptionError(
            f"the URL names database {path}, and the option db names {options.db}", remedy="Name one database."
        )
    return int(path)


def _check_tls(url: BackendUrl, options: RedisOptions, *, tls: bool) -> None:
    if url.scheme == "redis+unix" and tls:
        raise OptionError("a Unix socket has no TLS", remedy="Remove `tls`.")
    given = [name for name in ("ca", "cert", "key") if getattr(options, name) is not None]
    given += [] if options.verify else ["verify"]
    if given and not tls:
        raise OptionError(
            f"without TLS, these options have no effect: {', '.join(given)}",
            remedy="Begin the URL with rediss:, or add tls=true.",
        )
    if options.key is not None and options.cert is None:
        raise OptionError("`key` is set without `cert`", remedy="Set `cert` to the certificate of the key.")


def _refuse(url: BackendUrl, why: str, remedy: str) -> NoReturn:
    raise UrlError(f"{url} {why}", remedy=f"{remedy}.")
