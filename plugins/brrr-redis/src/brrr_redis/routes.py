"""Which server has a key: the only one, the primary that sentinels name, or the one that has the key's slot."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from redis.exceptions import AskError, RedisError

from brrr_redis.dialling import Dialler
from brrr_redis.failures import NoPrimaryError, UnfitError, elsewhere, no_primary
from brrr_redis.link import Link
from brrr_redis.links import Links
from brrr_redis.location import Address

__all__ = ["Routes", "SentinelRoutes", "SingleRoutes"]


class Routes(ABC):
    """Leads from a key to the link to its server."""

    def __init__(self, links: Links) -> None:
        self.links = links

    @abstractmethod
    def ready(self, key: bytes) -> Link | None:
        """The link for a key, where it is open and known to be the right one."""

    @abstractmethod
    async def address(self, key: bytes) -> Address:
        """The server that has the key.

        Raises:
            RedisError: Nobody says which it is.
            TimeoutError: Nobody says it in time.
        """

    async def link(self, key: bytes) -> Link:
        """The link for a key, opened if need be. Raises what `address` and `Links.get` raise."""
        return self.ready(key) or await self.links.get(await self.address(key))

    async def primaries(self) -> Sequence[Address]:
        """Every server that takes writes. Raises what `address` raises."""
        return (await self.address(b""),)

    def groups(self, keys: Sequence[bytes]) -> Iterable[Sequence[int]]:
        """The places of the keys, those together that one command may name."""
        return (range(len(keys)),)

    def doubt(self, link: Link | None) -> None:
        """A server was not there, or was not the right one: make sure before the next command."""
        if link is not None and link.alive:
            self.links.end(link)

    def moved(self, error: AskError, link: Link) -> Address:
        """Learn from a redirection. The server that it names.

        Raises:
            BackendError: There are redirections in clusters only, and this is not used as one.
        """
        raise elsewhere(str(link.address)) from error

    async def close(self) -> None:
        """Close every link."""
        await self.links.close()


class SingleRoutes(Routes):
    """One server has every key."""

    def __init__(self, links: Links, address: Address) -> None:
        super().__init__(links)
        self._address = address

    def ready(self, key: bytes) -> Link | None:
        """The link to the server."""
        return self.links.ready(self._address)

    async def address(self, key: bytes) -> Address:
        """The server."""
        return self._address


class SentinelRoutes(Routes):
    """The primary has every key, and sentinels know which server that is.

    Args:
        links: To the servers.
        sentinels: Where the sentinels are.
        service: What they call the servers.
        dialler: Opens links to sentinels, with their login.
    """

    def __init__(self, links: Links, sentinels: Sequence[Address], service: str, dialler: Dialler) -> None:
        super().__init__(links)
        self._sentinels = list(sentinels)
        self._service = service
        self._watchers = Links(dialler)
        self._primary: Address | None = None

    def ready(self, key: bytes) -> Link | None:
        """The link to the primary, until somebody doubts it."""
        return None if self._primary is None else self.links.ready(self._primary)

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
        raise no_primary(f"no sentinel names a primary of {self._service!r}", failures)

    def doubt(self, link: Link | None) -> None:
        """Ask the sentinels again."""
        super().doubt(link)
        self._primary = None

    async def close(self) -> None:
        """Close every link, the sentinels' too."""
        await self._watchers.close()
        await super().close()

    async def _ask(self, sentinel: Address) -> Address:
        watcher = await self._watchers.get(sentinel)
        named = await watcher.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        if isinstance(named, Exception):
            raise NoPrimaryError(str(named)) from named
        if not named:
            raise UnfitError(f"knows no service {self._service!r}")
        primary = Address(named[0].decode(), int(named[1]))
        role = await (await self.links.get(primary)).ask(("ROLE",))
        if isinstance(role, list) and role[0] == b"master":
            return primary
        raise NoPrimaryError(f"names {primary}, which is not the primary now")
