"""How connections are made: the address, the login, TLS."""

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
    """Opens pool with one login to one database.

    What redis-py does by itself is switched off: a connection has timeouts and retries of its own, and redis-py's five
    seconds for any answer would cut every blocking command.

    Args:
        options: Timeouts and TLS.
        username: The login's name, if any.
        password: Its password, if any.
        database: The database's number.
        tls: Whether to use TLS.

    Raises:
        BackendError: A file of the options cannot be read.
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
                    f"the file {path} of the option {name} cannot be read", remedy="Check its name and who may read it."
                )

    async def connect(self, address: Address, *, extra_timeout: float = 0) -> PipelinedConnection:
        """Open a connection.

        Args:
            address: The server.
            extra_timeout: Seconds that an answer may take beyond the option `timeout`, for commands that block.

        Raises:
            RedisError: There is no connection, or the server refuses the login.
            TimeoutError: It takes too long.
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
