"""The routes of a cluster: a map from slots to servers, learnt from any of them and mended by redirections."""

from asyncio import Task, wait
from collections.abc import Iterable, Sequence
from typing import Final

from redis.exceptions import AskError, MovedError, RedisError

from brrr_core.backend import cancelled_from_outside, start_task
from brrr_redis.failures import NoPrimaryError, UnfitError, closed, no_primary
from brrr_redis.link import Link, Reply
from brrr_redis.links import Links, seen
from brrr_redis.location import Address
from brrr_redis.routes import Routes
from brrr_redis.slots import SLOTS, slot_of

__all__ = ["ClusterRoutes"]

NO_CLUSTER: Final = "cluster support disabled"


class ClusterRoutes(Routes):
    """The server that has a key's slot has the key.

    Args:
        links: To the servers.
        seeds: Some of the servers, to ask first.
    """

    def __init__(self, links: Links, seeds: Sequence[Address]) -> None:
        super().__init__(links)
        self._seeds = tuple(seeds)
        self._servers: list[Address | None] = [None] * SLOTS
        self._stale = True
        self._learning: Task[None] | None = None
        self._closed = False

    def ready(self, key: bytes) -> Link | None:
        """The link for the key's slot, while the map is trusted."""
        if self._stale:
            return None
        server = self._servers[slot_of(key)]
        return None if server is None else self.links.ready(server)

    async def address(self, key: bytes) -> Address:
        """The server that has the slot, from a new map where the old one is doubted."""
        if self._stale:
            await self._learn()
        server = self._servers[slot_of(key)]
        if server is None:
            self._stale = True
            raise NoPrimaryError(f"no server has the slot {slot_of(key)}")
        return server

    def groups(self, keys: Sequence[bytes]) -> Iterable[Sequence[int]]:
        """Keys of one slot together."""
        groups: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(place)
        return groups.values()

    async def primaries(self) -> Sequence[Address]:
        """Each server that has a slot, from a new map where the old one is doubted."""
        if self._stale:
            await self._learn()
        return tuple(dict.fromkeys(each for each in self._servers if each is not None))

    def doubt(self, link: Link | None) -> None:
        """Ask for the map again. The link is kept: a server that lost one slot has others."""
        self._stale = True

    def moved(self, error: AskError, link: Link) -> Address:
        """Mend the map where a slot has moved for good."""
        host: str = error.host  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - redis-py does not say
        address = Address(host or link.address.host, error.port)
        if isinstance(error, MovedError):
            self._servers[error.slot_id] = address
        return address

    async def close(self) -> None:
        """Close every link."""
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await wait({self._learning})
        await super().close()

    async def _learn(self) -> None:
        """One of those who need the map asks for it; the others wait for the same answer."""
        if self._learning is None:
            self._learning = start_task(self._ask_around(), name="brrr learns a cluster's slots")
            self._learning.add_done_callback(self._on_learned)
        task = self._learning
        await wait({task})
        if task.cancelled():
            raise closed() if self._closed else cancelled_from_outside()
        task.result()

    def _on_learned(self, task: Task[None]) -> None:
        self._learning = None
        seen(task)

    async def _ask_around(self) -> None:
        failures: dict[Address, Exception] = {}
        for server in dict.fromkeys([*(each for each in self._servers if each is not None), *self._seeds]):
            try:
                self._take(await (await self.links.get(server)).ask(("CLUSTER", "SLOTS")), server)
            except (RedisError, OSError) as error:
                failures[server] = error
            else:
                self._stale = False
                return
        raise no_primary("no server of the cluster can be asked for its slots", failures)

    def _take(self, answer: Reply, server: Address) -> None:
        if isinstance(answer, Exception):
            raise (UnfitError if NO_CLUSTER in str(answer) else NoPrimaryError)(str(answer)) from answer
        if not answer:
            raise NoPrimaryError("it has no slots to tell of")
        servers: list[Address | None] = [None] * SLOTS
        # https://redis.io/docs/latest/commands/cluster-slots/
        for first, last, (host, port, *_), *_ in answer:
            # An empty host means the one that was asked.
            primary = Address(host.decode() if host else server.host, port)
            servers[first : last + 1] = [primary] * (last + 1 - first)
        self._servers = servers
