"""Opens connections: address, login and TLS."""

import os
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from brrr_core.backend import Secret
from brrr_core.errors import BackendError
from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.location import SOCKET, Address
from brrr_redis.options import RedisOptions

__all__ = ["Connector"]


class Connector:
    """Opens connections to one database with one login.

    The timeouts and retries of redis-py are switched off. `PipelinedConnection` and `Client` have their own, and the
    timeout of redis-py, five seconds for every reply, would end blocking commands.

    Args:
        options: Timeouts and TLS.
        username: Name of the login, if any.
        password: Password of the login, if any.
        database: Number of the database.
        tls: Whether to use TLS.

    Raises:
        BackendError: A file that the options name is not readable.
    """

    def __init__(
        self, options: RedisOptions, *, username: str | None, password: Secret | None, database: int, tls: bool
    ) -> None:
        self._options = options
        self._username = username
        self._password = password
        self._database = database
        self._tls = tls
        for name in ("ca", "cert", "key") if tls else ():
            path: str | None = getattr(options, name)
            if path is not None and not os.access(path, os.R_OK):
                raise BackendError(
                    f"the file {path} of the option {name} cannot be read", remedy="Check the path and its permissions."
                )

    async def connect(self, address: Address, *, extra_timeout: float = 0) -> PipelinedConnection:
        """Open a connection.

        Args:
            address: The server.
            extra_timeout: Seconds to wait for a reply beyond the option `timeout`, for blocking commands.

        Raises:
            RedisError: The server is not reachable, or refuses the login.
            TimeoutError: The server did not answer in time.
        """
        options = self._options
        return await PipelinedConnection.open(
            self._transport(address),
            address,
            timeout=options.timeout + extra_timeout,
            connect_timeout=options.connect_timeout,
        )

    def _transport(self, address: Address) -> AbstractConnection:
        settings: dict[str, Any] = {
            "username": self._username,
            "password": None if self._password is None else self._password.reveal(),
            "db": self._database,
            "client_name": "brrr",
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": self._options.connect_timeout,
            "health_check_interval": 0,
        }
        if address.port == SOCKET:
            return UnixDomainSocketConnection(path=address.host, **settings)
        if not self._tls:
            return Connection(host=address.host, port=address.port, **settings)
        return SSLConnection(
            host=address.host,
            port=address.port,
            ssl_ca_certs=self._options.ca,
            ssl_certfile=self._options.cert,
            ssl_keyfile=self._options.key,
            ssl_cert_reqs="required" if self._options.verify else "none",
            ssl_check_hostname=self._options.verify,
            **settings,
        )
