"""Finds the server of a key: the only server, or the primary that sentinels name. For clusters, see `cluster`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from redis.exceptions import AskError, RedisError

from brrr_redis.client.connection import PipelinedConnection
from brrr_redis.client.errors import NoPrimaryError, WrongTopologyError, cluster_member_error, no_primary_error
from brrr_redis.client.login import Connector
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.location import Address

__all__ = ["Router", "SentinelRouter", "SingleServerRouter"]


class Router(ABC):
    """Finds the server of a key, and the connection to it."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    @abstractmethod
    def ready(self, key: bytes) -> PipelinedConnection | None:
        """Return the connection for a key if it is open and its server is known, else None."""

    def known(self, key: bytes) -> Address | None:
        """Return the server that has the key in a cluster, as far as is known; None if all keys are on one server."""
        return None

    @abstractmethod
    async def address(self, key: bytes) -> Address:
        """Return the address of the server that has the key.

        Raises:
            RedisError: No server reports it.
            TimeoutError: No server reported it in time.
        """

    async def connection(self, key: bytes) -> PipelinedConnection:
        """Return the connection for a key, opened if necessary.

        Raises the same errors as `address` and `ConnectionPool.get`.
        """
        return self.ready(key) or await self.pool.get(await self.address(key))

    async def primaries(self) -> Sequence[Address]:
        """Return every server that takes writes. Raises the same errors as `address`."""
        return (await self.address(b""),)

    def groups(self, keys: Sequence[bytes]) -> Iterable[Sequence[int]]:
        """Return the indexes of the keys, in groups of keys that one command may name."""
        return (range(len(keys)),)

    def invalidate(self, connection: PipelinedConnection | None) -> None:
        """Find the server again before the next command, because this connection failed or has the wrong server."""
        if connection is not None and connection.alive:
            self.pool.discard(connection)

    def redirected(self, error: AskError, connection: PipelinedConnection) -> Address:
        """Apply a redirection, and return the address that it names.

        Raises:
            BackendError: The server belongs to a cluster, but the URL does not begin with `redis+cluster:`.
        """
        raise cluster_member_error(str(connection.address)) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()


class SingleServerRouter(Router):
    """Routes every key to one server."""

    def __init__(self, pool: ConnectionPool, address: Address) -> None:
        super().__init__(pool)
        self._address = address

    def ready(self, key: bytes) -> PipelinedConnection | None:
        """Return the connection to the server if it is open."""
        return self.pool.ready(self._address)

    async def address(self, key: bytes) -> Address:
        """Return the address of the server."""
        return self._address


class SentinelRouter(Router):
    """Routes every key to the primary that sentinels name.

    Args:
        pool: The connections to the servers.
        sentinels: Addresses of the sentinels.
        service: Name of the service at the sentinels.
        connector: Opens connections to the sentinels, with their login.
    """

    def __init__(self, pool: ConnectionPool, sentinels: Sequence[Address], service: str, connector: Connector) -> None:
        super().__init__(pool)
        self._sentinels = list(sentinels)
        self._service = service
        self._sentinel_pool = ConnectionPool(connector)
        self._primary: Address | None = None

    def ready(self, key: bytes) -> PipelinedConnection | None:
        """Return the connection to the primary if it is open and was not invalidated."""
        return None if self._primary is None else self.pool.ready(self._primary)

    async def address(self, key: bytes) -> Address:
        """Ask the sentinels for the primary, one after another. Then ask that server whether it is the primary."""
        if self._primary is not None:
            return self._primary
        failures: dict[Address, Exception] = {}
        for sentinel in tuple(self._sentinels):
            try:
                primary = await self._ask_for_primary(sentinel)
            except (RedisError, OSError) as error:
                failures[sentinel] = error
                continue
            # Ask the sentinel that answered first next time, as the guide for clients demands:
            # https://redis.io/docs/latest/develop/reference/sentinel-clients/
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            self._primary = primary
            return primary
        raise no_primary_error(f"no sentinel names a primary of {self._service!r}", failures)

    def invalidate(self, connection: PipelinedConnection | None) -> None:
        """Ask the sentinels again before the next command."""
        super().invalidate(connection)
        self._primary = None

    async def close(self) -> None:
        """Close every connection, including those to the sentinels."""
        await self._sentinel_pool.close()
        await super().close()

    async def _ask_for_primary(self, sentinel: Address) -> Address:
        sentinel_connection = await self._sentinel_pool.get(sentinel)
        named = await sentinel_connection.send(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        if isinstance(named, Exception):
            raise NoPrimaryError(str(named)) from named
        if not named:
            raise WrongTopologyError(f"knows no service {self._service!r}")
        primary = Address(named[0].decode(), int(named[1]))
        role = await (await self.pool.get(primary)).send(("ROLE",))
        if isinstance(role, list) and role[0] == b"master":
            return primary
        raise NoPrimaryError(f"names {primary}, which is not the primary now")
