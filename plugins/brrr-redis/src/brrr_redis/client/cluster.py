"""Routing in a cluster: a map from slots to servers, read from any server and corrected by redirections."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

from redis.exceptions import AskError, MovedError, RedisError

from brrr_core.backend import Gate
from brrr_redis.client.connection import PipelinedConnection, Reply
from brrr_redis.client.errors import NoPrimaryError, WrongTopologyError, no_primary_error
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.client.routing import Router
from brrr_redis.client.slots import SLOTS, slot_of
from brrr_redis.location import Address

__all__ = ["ClusterRouter", "Remap"]

Remap: TypeAlias = Callable[[tuple[str, int]], tuple[str, int]]
"""Maps the address that the cluster names to one that this program can reach, for example through a NAT."""

CLUSTER_DISABLED: Final = "cluster support disabled"


class ClusterRouter(Router):
    """Routes a key to the server that has its slot.

    Args:
        pool: The connections to the servers.
        seeds: Servers to ask for the first map.
        remap: Maps addresses of the cluster to ones that this program can reach.
    """

    def __init__(self, pool: ConnectionPool, seeds: Sequence[Address], *, remap: Remap | None = None) -> None:
        super().__init__(pool)
        self._remap = remap
        self._seeds = tuple(seeds)
        self._servers: list[Address | None] = [None] * SLOTS
        self._stale = True
        self._gate = Gate()

    def ready(self, key: bytes) -> PipelinedConnection | None:
        """Return the connection for the slot of the key if the map is valid."""
        if self._stale:
            return None
        server = self._servers[slot_of(key)]
        return None if server is None else self.pool.ready(server)

    def known(self, key: bytes) -> Address | None:
        """Return the server of the slot in the map, which may be old; None if no server has the slot."""
        return self._servers[slot_of(key)]

    async def address(self, key: bytes) -> Address:
        """Return the server of the slot, from a new map if the old one was invalidated."""
        if self._stale:
            await self._refresh_slots()
        server = self._servers[slot_of(key)]
        if server is None:
            self._stale = True
            raise NoPrimaryError(f"no server has slot {slot_of(key)}")
        return server

    def groups(self, keys: Sequence[bytes]) -> Iterable[Sequence[int]]:
        """Return the indexes of the keys, in groups of one slot."""
        groups: dict[int, list[int]] = {}
        for index, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(index)
        return groups.values()

    async def primaries(self) -> Sequence[Address]:
        """Return every server that has a slot, from a new map if the old one was invalidated."""
        if self._stale:
            await self._refresh_slots()
        return tuple(dict.fromkeys(each for each in self._servers if each is not None))

    def invalidate(self, connection: PipelinedConnection | None) -> None:
        """Read the map again before the next command. Keep the connection, because its server may have other slots."""
        self._stale = True

    def redirected(self, error: AskError, connection: PipelinedConnection) -> Address:
        """Return the address that a redirection names. Correct the map if the slot has moved (MOVED)."""
        host: str = cast("Any", error).host or ""  # redis-py has no type for it
        address = self._address(host, connection.address, error.port)
        if isinstance(error, MovedError):
            self._servers[error.slot_id] = address
        return address

    async def close(self) -> None:
        """Close every connection."""
        await self._gate.close()
        await super().close()

    async def _refresh_slots(self) -> None:
        """Read the map once for all concurrent callers."""
        await self._gate.shared("slots", self._load_slots, name="brrr reads the slots of a cluster")

    async def _load_slots(self) -> None:
        failures: dict[Address, Exception] = {}
        for server in dict.fromkeys([*(each for each in self._servers if each is not None), *self._seeds]):
            try:
                self._store_slots(await (await self.pool.get(server)).send(("CLUSTER", "SLOTS")), server)
            except (RedisError, OSError) as error:
                failures[server] = error
            else:
                self._stale = False
                return
        raise no_primary_error("no server of the cluster reports its slots", failures)

    def _store_slots(self, reply: Reply, server: Address) -> None:
        if isinstance(reply, Exception):
            raise (WrongTopologyError if CLUSTER_DISABLED in str(reply) else NoPrimaryError)(str(reply)) from reply
        if not reply:
            raise NoPrimaryError("it reports no slots")
        servers: list[Address | None] = [None] * SLOTS
        # https://redis.io/docs/latest/commands/cluster-slots/
        for first, last, (host, port, *_), *_ in reply:
            primary = self._address(host.decode(), server, port)
            servers[first : last + 1] = [primary] * (last + 1 - first)
        self._servers = servers

    def _address(self, host: str, replying: Address, port: int) -> Address:
        """Return an address that a server names. An empty host stands for the server that replied."""
        if not host:
            return Address(replying.host, port)
        return Address(host, port) if self._remap is None else Address(*self._remap((host, port)))
