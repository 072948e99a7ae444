"""Which server has a key: the only one, the primary that sentinels name, or the one that has the key's slot."""

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
    """Leads from a key to the connection to its server."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    @abstractmethod
    def ready(self, key: bytes) -> PipelinedConnection | None:
        """The connection for a key, where it is open and known to be the right one."""

    @abstractmethod
    async def address(self, key: bytes) -> Address:
        """The server that has the key.

        Raises:
            RedisError: Nobody says which it is.
            TimeoutError: Nobody says it in time.
        """

    async def connection(self, key: bytes) -> PipelinedConnection:
        """The connection for a key, opened if need be. Raises what `address` and `ConnectionPool.get` raise."""
        return self.ready(key) or await self.pool.get(await self.address(key))

    async def primaries(self) -> Sequence[Address]:
        """Every server that takes writes. Raises what `address` raises."""
        return (await self.address(b""),)

    def groups(self, keys: Sequence[bytes]) -> Iterable[Sequence[int]]:
        """The places of the keys, those together that one command may name."""
        return (range(len(keys)),)

    def invalidate(self, connection: PipelinedConnection | None) -> None:
        """A server was not there, or was not the right one: make sure before the next command."""
        if connection is not None and connection.alive:
            self.pool.discard(connection)

    def redirected(self, error: AskError, connection: PipelinedConnection) -> Address:
        """Learn from a redirection. The server that it names.

        Raises:
            BackendError: There are redirections in clusters only, and this is not used as one.
        """
        raise cluster_member_error(str(connection.address)) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()


class SingleServerRouter(Router):
    """One server has every key."""

    def __init__(self, pool: ConnectionPool, address: Address) -> None:
        super().__init__(pool)
        self._address = address

    def ready(self, key: bytes) -> PipelinedConnection | None:
        """The connection to the server."""
        return self.pool.ready(self._address)

    async def address(self, key: bytes) -> Address:
        """The server."""
        return self._address


class SentinelRouter(Router):
    """The primary has every key, and sentinels know which server that is.

    Args:
        pool: To the servers.
        sentinels: Where the sentinels are.
        service: What they call the servers.
        connector: Opens pool to sentinels, with their login.
    """

    def __init__(self, pool: ConnectionPool, sentinels: Sequence[Address], service: str, connector: Connector) -> None:
        super().__init__(pool)
        self._sentinels = list(sentinels)
        self._service = service
        self._sentinel_pool = ConnectionPool(connector)
        self._primary: Address | None = None

    def ready(self, key: bytes) -> PipelinedConnection | None:
        """The connection to the primary, until somebody doubts it."""
        return None if self._primary is None else self.pool.ready(self._primary)

    async def address(self, key: bytes) -> Address:
        """Ask one sentinel after the other which server is the primary, and that server whether it agrees."""
        if self._primary is not None:
            return self._primary
        failures: dict[Address, Exception] = {}
        for sentinel in tuple(self._sentinels):
            try:
                primary = await self._ask(sentinel)
            except (RedisError, OSError) as error:
                failures[sentinel] = error
                continue
            # The one that answered is asked first next time, as Redis' guide for clients has it:
            # https://redis.io/docs/latest/develop/reference/sentinel-clients/
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            self._primary = primary
            return primary
        raise no_primary_error(f"no sentinel names a primary of {self._service!r}", failures)

    def invalidate(self, connection: PipelinedConnection | None) -> None:
        """Ask the sentinels again."""
        super().invalidate(connection)
        self._primary = None

    async def close(self) -> None:
        """Close every connection, the sentinels' too."""
        await self._sentinel_pool.close()
        await super().close()

    async def _ask(self, sentinel: Address) -> Address:
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
