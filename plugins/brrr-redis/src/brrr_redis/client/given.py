"""Reads the servers, the login, TLS and the timeouts from a redis-py client of the program.

brrr opens its own connections: one is shared by all operations, and others block. It does not use the client or its
pool. It takes over:

- the servers: a host and a port, a Unix socket, the service of sentinels, or the start nodes of a cluster with
  `address_remap`;
- `username`, `password`, `credential_provider`, `db`, `client_name`, `driver_info`, everything of TLS, the socket
  options, `socket_timeout` and `socket_connect_timeout`.

It ignores `protocol`, and the settings for replies, retries and pools. It refuses a client whose connections it cannot
open in the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.credentials import StreamingCredentialProvider

from brrr_core.backend import BackendUrl, Secret
from brrr_core.errors import OptionError
from brrr_redis.client.cluster import Remap
from brrr_redis.client.login import CLIENT_NAME, ConnectionSettings
from brrr_redis.location import SOCKET, Address, Location, Topology
from brrr_redis.options import CONNECT_TIMEOUT, TIMEOUT, RedisOptions

__all__ = ["GivenClient", "read_client"]

KINDS: Final[Mapping[type, type[AbstractConnection]]] = {
    Connection: Connection,
    SSLConnection: SSLConnection,
    UnixDomainSocketConnection: UnixDomainSocketConnection,
    SentinelManagedConnection: Connection,
    SentinelManagedSSLConnection: SSLConnection,
}
"""For each connection class of a client, the class of brrr's own connections to the same servers."""

ARGUMENTS: Final = (
    *("username", "password", "credential_provider", "db", "client_name"),
    *("driver_info", "lib_name", "lib_version"),
    *("socket_keepalive", "socket_keepalive_options", "socket_type", "socket_read_size"),
)
"""The arguments of a client's connections that brrr takes over, in addition to those of TLS."""

TLS_PREFIX: Final = "ssl_"
CONNECTION_OPTIONS: Final = (
    *("db", "tls", "ca", "cert", "key", "verify"),
    *("sentinel_username", "sentinel_password"),
)
"""The options that describe a connection. They are refused together with a client."""


@dataclass(frozen=True, slots=True)
class GivenClient:
    """The settings of a client of the program.

    Attributes:
        location: The servers.
        settings: The settings of connections to the servers.
        sentinel_settings: The settings of connections to the sentinels, if there are sentinels.
        remap: The client's `address_remap`, if it has one.
        secrets: The passwords. A username without a password may be a token, and counts as one.
    """

    location: Location
    settings: ConnectionSettings
    sentinel_settings: ConnectionSettings | None = None
    remap: Remap | None = None
    secrets: tuple[Secret, ...] = ()


def read_client(url: BackendUrl, options: RedisOptions) -> GivenClient:
    """Return the settings of the client in `options`.

    Raises:
        OptionError: The option is not a client of `redis.asyncio`, or brrr cannot connect as the client does, or the
            URL or another option also describes a connection.
    """
    _check_url(url, options)
    client: Any = options.client
    if isinstance(client, RedisCluster):
        return _read_cluster(client, options)
    if not isinstance(client, Redis):
        _refuse(
            f"is a {type(client).__module__}.{type(client).__qualname__}",
            "Pass a redis.asyncio.Redis or a redis.asyncio.RedisCluster.",
        )
    pool: Any = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _read_sentinels(pool, options)
    arguments = pool.connection_kwargs
    settings = _settings(pool.connection_class, arguments, options)
    address = _address(settings.kind, arguments)
    return GivenClient(_location(Topology.SINGLE, (address,), settings), settings, secrets=_secrets(arguments))


def _read_sentinels(pool: Any, options: RedisOptions) -> GivenClient:
    if not pool.is_master:
        _refuse("is for replicas, which take no writes", "Pass the client of `Sentinel.master_for`.")
    settings = _settings(pool.connection_class, pool.connection_kwargs, options)
    sentinels = [each.connection_pool for each in pool.sentinel_manager.sentinels]
    watching = _settings(sentinels[0].connection_class, sentinels[0].connection_kwargs, options)
    addresses = tuple(_address(watching.kind, each.connection_kwargs) for each in sentinels)
    return GivenClient(
        _location(Topology.SENTINEL, addresses, settings, service=str(pool.service_name)),
        settings,
        watching,
        secrets=_secrets(pool.connection_kwargs) + _secrets(sentinels[0].connection_kwargs),
    )


def _read_cluster(client: Any, options: RedisOptions) -> GivenClient:
    arguments = dict(client.connection_kwargs)
    # The client sets this function if it reads from replicas. brrr reads from primaries.
    if arguments.get("redis_connect_func") == client.on_connect:
        del arguments["redis_connect_func"]
    settings = _settings(arguments["connection_class"], arguments, options)
    manager = client.nodes_manager
    addresses = tuple(Address(node.host, int(node.port)) for node in manager.startup_nodes.values())
    return GivenClient(
        _location(Topology.CLUSTER, addresses, settings),
        settings,
        remap=cast("Remap | None", manager.address_remap),
        secrets=_secrets(arguments),
    )


def _settings(kind: type, arguments: Mapping[str, Any], options: RedisOptions) -> ConnectionSettings:
    """Return the settings of a pool's connections. A timeout of the options wins if it is not the default."""
    if kind not in KINDS:
        _refuse(
            f"has connections of the class {kind.__module__}.{kind.__qualname__}",
            "Pass a client with the connections of redis-py.",
        )
    if arguments.get("redis_connect_func") is not None:
        _refuse("has a redis_connect_func", "Pass a client without it.")
    if isinstance(arguments.get("credential_provider"), StreamingCredentialProvider):
        _refuse(
            "has a credential provider that logs its open connections in again",
            "Pass a client whose provider has only get_credentials; brrr calls it for every connection.",
        )
    taken = {name: value for name, value in arguments.items() if name in ARGUMENTS or name.startswith(TLS_PREFIX)}
    taken["client_name"] = taken.get("client_name") or CLIENT_NAME
    timeout, connect_timeout = arguments.get("socket_timeout"), arguments.get("socket_connect_timeout")
    return ConnectionSettings(
        KINDS[kind],
        taken,
        options.timeout if timeout is None or options.timeout != TIMEOUT else float(timeout),
        options.connect_timeout
        if connect_timeout is None or options.connect_timeout != CONNECT_TIMEOUT
        else float(connect_timeout),
    )


def _address(kind: type, arguments: Mapping[str, Any]) -> Address:
    if kind is UnixDomainSocketConnection:
        return Address(str(arguments["path"]), SOCKET)
    return Address(str(arguments.get("host", "localhost")), int(arguments.get("port", 6379)))


def _location(
    topology: Topology, addresses: tuple[Address, ...], settings: ConnectionSettings, *, service: str = ""
) -> Location:
    return Location(
        topology, addresses, service, int(settings.arguments.get("db") or 0), tls=settings.kind is SSLConnection
    )


def _secrets(arguments: Mapping[str, Any]) -> tuple[Secret, ...]:
    login = arguments.get("password") or arguments.get("username")
    return tuple(Secret(str(each)) for each in (login, arguments.get("ssl_password")) if each)


def _check_url(url: BackendUrl, options: RedisOptions) -> None:
    if url != BackendUrl("redis"):
        raise OptionError(
            f"the URL {url} describes a connection, and so does the option 'client'",
            remedy="Write open_backend('redis:', client=…), without servers in the URL.",
        )
    defaults = {each.name: each.default for each in fields(RedisOptions)}
    both = [name for name in CONNECTION_OPTIONS if getattr(options, name) != defaults[name]]
    if both:
        raise OptionError(
            f"the options {', '.join(both)} describe a connection, and so does the option 'client'",
            remedy="Leave them out: the settings of the client are used.",
        )


def _refuse(what: str, remedy: str) -> NoReturn:
    raise OptionError(f"the option 'client' of redis: {what}", remedy=remedy)
