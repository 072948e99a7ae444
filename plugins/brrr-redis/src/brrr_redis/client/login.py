"""Opens connections with the classes of redis-py, a login and TLS."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from brrr_core.backend import Secret
from brrr_core.errors import BackendError
from brrr_redis.client.connection import OnMessage, PipelinedConnection
from brrr_redis.location import SOCKET, Address, Location
from brrr_redis.options import RedisOptions

__all__ = ["CLIENT_NAME", "ConnectionSettings", "Connector", "settings_from_options"]

CLIENT_NAME: Final = "brrr"
"""The name of connections in CLIENT LIST, unless a client of the program has another."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """The settings of connections to servers that have the same login.

    Attributes:
        kind: The class of redis-py for TCP, TLS or a Unix socket.
        arguments: Its arguments for the login, the database and TLS.
        timeout: Seconds to wait for a reply.
        connect_timeout: Seconds to wait for a connection and its login.
    """

    kind: type[AbstractConnection]
    arguments: Mapping[str, Any] = field(repr=False)
    timeout: float
    connect_timeout: float


def settings_from_options(
    options: RedisOptions, location: Location, *, username: str | None, password: Secret | None, database: int
) -> ConnectionSettings:
    """Return the settings for a URL and its options.

    Raises:
        BackendError: A file that the options name is not readable.
    """
    kind: type[AbstractConnection] = Connection
    arguments: dict[str, Any] = {
        "username": username,
        "password": None if password is None else password.reveal(),
        "db": database,
        "client_name": CLIENT_NAME,
    }
    if location.addresses[0].port == SOCKET:
        kind = UnixDomainSocketConnection
    elif location.tls:
        kind = SSLConnection
        _check_files(options)
        arguments |= {
            "ssl_ca_certs": options.ca,
            "ssl_certfile": options.cert,
            "ssl_keyfile": options.key,
            "ssl_cert_reqs": "required" if options.verify else "none",
            "ssl_check_hostname": options.verify,
        }
    return ConnectionSettings(kind, arguments, options.timeout, options.connect_timeout)


def _check_files(options: RedisOptions) -> None:
    for name in ("ca", "cert", "key"):
        path: str | None = getattr(options, name)
        if path is not None and not os.access(path, os.R_OK):
            raise BackendError(
                f"the file {path} of the option {name} cannot be read", remedy="Check the path and its permissions."
            )


class Connector:
    """Opens connections with one login.

    The timeouts and retries of redis-py are off, because `PipelinedConnection` and `Client` have their own. The timeout
    of redis-py, five seconds for every reply, would also end blocking commands. The protocol is RESP2: the rest of this
    package expects its replies.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    async def connect(
        self, address: Address, *, extra_timeout: float = 0, on_message: OnMessage | None = None
    ) -> PipelinedConnection:
        """Open a connection.

        Args:
            address: The server.
            extra_timeout: Seconds to wait for a reply beyond `timeout`, for blocking commands.
            on_message: Called with the channel of each message, if the connection subscribes to channels.

        Raises:
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        settings = self._settings
        return await PipelinedConnection.open(
            self._transport(address),
            address,
            timeout=settings.timeout + extra_timeout,
            connect_timeout=settings.connect_timeout,
            on_message=on_message,
        )

    def _transport(self, address: Address) -> AbstractConnection:
        if address.port == SOCKET:
            server: dict[str, Any] = {"path": address.host}
        else:
            server = {"host": address.host, "port": address.port}
        return self._settings.kind(
            **server,
            **self._settings.arguments,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._settings.connect_timeout,
            health_check_interval=0,
        )
