"""The backend class: connects, sees that the streams are there, and puts the roles on the connection."""

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_nats.cache import NatsCache
from brrr_nats.client.requests import Link
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_nats.queue.queue import NatsQueue
from brrr_nats.store.store import NatsStore

__all__ = ["NatsBackend"]


class NatsBackend(Backend):
    """Queue, store and cache on NATS JetStream, on one connection.

    Args:
        url: `nats://HOST:PORT`, or several hosts of one cluster, separated by commas.
        options: Names of streams, lease, timeouts, logins, TLS.

    Raises:
        UrlError: The URL has a path.
        OptionError: The options do not fit each other.
    """

    def __init__(self, url: BackendUrl, options: NatsOptions | None = None) -> None:
        self._options = NatsOptions() if options is None else options
        self.retry_for = self._options.retry_for
        self._location = location_of(url, self._options)
        self._link: Link | None = None
        self._queue: NatsQueue | None = None

    async def start(self) -> Roles:
        """Connect, and make the streams that are missing."""
        link = self._link = Link(self._location, self._options)
        await link.connect()
        queue = self._queue = NatsQueue(link, self._options)
        store, cache = NatsStore(link, self._options), NatsCache(link, self._options)
        for role in (queue, store, cache):
            await role.prepare()
        return Roles(queue=queue, store=store, cache=cache)

    async def stop(self) -> None:
        """End every wait, give back what nobody has taken, and close the connection."""
        queue, self._queue = self._queue, None
        link, self._link = self._link, None
        try:
            if queue is not None:
                await queue.close()
        finally:
            if link is not None:
                await link.close()

    async def setup(self) -> list[str]:
        """Make the streams that are missing, and change those that can be mended. Says what it did.

        Raises:
            BackendError: A stream is made for something else, or the user may not make or change it.
        """
        link = Link(self._location, self._options)
        try:
            await link.connect()
            said: list[str] = []
            for role in (
                NatsQueue(link, self._options),
                NatsStore(link, self._options),
                NatsCache(link, self._options),
            ):
                said += await role.prepare(change=True)
            return said or [f"nats at {link.where}: every stream is there already"]
        finally:
            await link.close()
