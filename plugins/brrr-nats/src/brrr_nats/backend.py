"""The backend class: connects, checks the streams, and creates the roles on one connection."""

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_nats.cache import NatsCache
from brrr_nats.client.requests import RequestClient
from brrr_nats.connect_options import ConnectOptions
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_nats.queue.queue import NatsQueue
from brrr_nats.store.store import NatsStore

__all__ = ["NatsBackend"]


class NatsBackend(Backend):
    """Queue, store and cache on NATS JetStream, on one connection.

    Args:
        url: `nats://HOST:PORT`, or several hosts of one cluster, separated by commas. By default `nats://localhost`, or
            the `servers` of `connect_options`.
        options: Names of streams, lease, timeouts, logins, TLS.
        connect_options: Options of `nats.connect` for a program that has them already: servers, login, TLS, callbacks.

    Raises:
        UrlError: The URL has a path.
        OptionError: The options do not fit each other, or brrr-nats must set one of `connect_options` itself.
    """

    def __init__(
        self,
        url: BackendUrl | None = None,
        options: NatsOptions | None = None,
        *,
        connect_options: ConnectOptions | None = None,
    ) -> None:
        self._options = NatsOptions() if options is None else options
        self.retry_for = self._options.retry_for
        self._location = location_of(url or BackendUrl("nats"), self._options, connect_options)

    async def start(self) -> Roles:
        """Connect, and create missing streams."""
        client = self._client = RequestClient(self._location, self._options)
        self.opened.push_async_callback(client.close)
        await client.connect()
        store, queue = NatsStore(client, self._options), NatsQueue(client, self._options)
        self.opened.push_async_callback(store.close)
        self.opened.push_async_callback(queue.close)
        cache = NatsCache(client, self._options)
        for role in (queue, store, cache):
            await role.prepare()
        return Roles(queue=queue, store=store, cache=cache)

    async def setup(self) -> list[str]:
        """Create missing streams, and correct existing ones. Return the changes.

        Raises:
            BackendError: A stream has another purpose, or the user may not create or change it.
        """
        client = RequestClient(self._location, self._options)
        try:
            await client.connect()
            report: list[str] = []
            for role in (
                NatsQueue(client, self._options),
                NatsStore(client, self._options),
                NatsCache(client, self._options),
            ):
                report += await role.prepare(change=True)
            return report or [f"nats at {client.servers}: all streams exist already"]
        finally:
            await client.close()
